//! The regular expressions that clients hold, each compiled once however many hold it, and only so many different ones.
//!
//! Compiled, an expression takes up to a hundred kilobytes, and each new topic is looked at by all of them. So what a
//! crowd of connections may hold together is bounded, besides what each may.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::fault_code::FaultCode;
use crate::pattern::WeakPattern;
use crate::subscription::{Subscription, TooMany};

/// See the module's text. One per server.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    held: Mutex<HashMap<Box<str>, WeakPattern>>,
}

impl Expressions {
    /// How many different ones are held.
    pub(crate) fn len(&self) -> usize {
        let mut held = self.held.lock();
        forget_dropped(&mut held);
        held.len()
    }

    /// Replaces the expressions of a request by those that are held already, and holds those that are new as long as
    /// somebody uses them.
    ///
    /// # Errors
    /// [`TooMany`] when there would be more than `limit`; nothing is held then.
    pub(crate) fn share(
        &self,
        subscriptions: &mut [Subscription],
        limit: usize,
    ) -> Result<(), TooMany> {
        if !subscriptions
            .iter_mut()
            .any(|wanted| wanted.expression_mut().is_some())
        {
            return Ok(());
        }
        let mut held = self.held.lock();
        for pattern in subscriptions
            .iter_mut()
            .filter_map(Subscription::expression_mut)
        {
            if let Some(same) = held.get(pattern.text()).and_then(WeakPattern::upgrade) {
                *pattern = same;
                continue;
            }
            if held.len() >= limit {
                forget_dropped(&mut held);
            }
            if held.len() >= limit {
                return Err(TooMany {
                    code: FaultCode::TooManyExpressions,
                    message: format!(
                        "match, template: the server has {limit} different expressions at most"
                    ),
                });
            }
            held.insert(pattern.text().into(), pattern.downgrade());
        }
        Ok(())
    }
}

fn forget_dropped(held: &mut HashMap<Box<str>, WeakPattern>) {
    held.retain(|_, pattern| pattern.upgrade().is_some());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::template::Template;
    use crate::pattern::Pattern;

    fn expression(text: &str) -> Subscription {
        Subscription::Pattern(Pattern::regex(text).unwrap())
    }

    fn path(text: &str) -> Subscription {
        Subscription::Template(Template::parse(text).unwrap())
    }

    #[test]
    fn each_expression_is_held_once_and_as_long_as_somebody_has_it() {
        let expressions = Expressions::default();
        let mut first = [expression("a+"), Subscription::parse("a*").unwrap()];
        let mut second = [expression("a+"), path("/b")];
        expressions.share(&mut first, 2).unwrap();
        assert_eq!(expressions.len(), 1);
        expressions.share(&mut second, 2).unwrap();
        assert_eq!(expressions.len(), 2);
        let shared = |held: &mut Subscription| held.expression_mut().unwrap().downgrade();
        assert!(shared(&mut first[0]).is(&shared(&mut second[0])));
        drop(first);
        assert_eq!(expressions.len(), 2);
        drop(second);
        assert_eq!(expressions.len(), 0);
    }

    #[test]
    fn one_more_than_the_limit_is_refused_until_another_is_dropped() {
        let expressions = Expressions::default();
        let mut held = [expression("a"), expression("b")];
        expressions.share(&mut held, 2).unwrap();
        let refused = expressions.share(&mut [path("/c")], 2).unwrap_err();
        assert_eq!(refused.code, FaultCode::TooManyExpressions);
        expressions
            .share(&mut [expression("b"), expression("a")], 2)
            .unwrap();
        let [first, second] = held;
        drop(first);
        expressions.share(&mut [path("/c")], 2).unwrap();
        drop(second);
        // Without any allowed, what has none is served.
        expressions
            .share(&mut [Subscription::Everything], 0)
            .unwrap();
        assert!(expressions.share(&mut [expression("z")], 0).is_err());
    }
}
