//! What a client asks to receive, from a URL or from a control message.

use thiserror::Error;

use crate::topic::{Topic, TopicError};

/// One thing that a connection is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subscription {
    /// Every publication, also one without topics: `*`.
    Everything,
    /// The publications of one topic.
    Topic(Topic),
}

/// Why a text names no subscription.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SubscriptionError {
    /// Not a topic name.
    #[error("{reason}: {shown:?}")]
    Topic {
        /// The beginning of what was asked for.
        shown: String,
        /// What is wrong with it.
        reason: TopicError,
    },
    /// A `*` inside a name.
    #[error("patterns are not supported: {0:?}")]
    Pattern(String),
}

/// Enough of a bad name to recognise it.
const SHOWN_CHARS: usize = 40;

impl Subscription {
    /// Reads one topic name, or `*`; white space around it does not count, as in a message's `topic` tag.
    pub(crate) fn parse(text: &str) -> Result<Self, SubscriptionError> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Everything);
        }
        let shown = || text.chars().take(SHOWN_CHARS).collect::<String>();
        let topic = Topic::new(text).map_err(|reason| SubscriptionError::Topic {
            shown: shown(),
            reason,
        })?;
        if text.contains('*') {
            return Err(SubscriptionError::Pattern(shown()));
        }
        Ok(Self::Topic(topic))
    }

    /// As the client writes it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Everything => "*",
            Self::Topic(topic) => topic.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_alone_is_everything_and_inside_a_name_refused() {
        assert_eq!(Subscription::parse("*"), Ok(Subscription::Everything));
        assert!(matches!(
            Subscription::parse("action:*"),
            Err(SubscriptionError::Pattern(_))
        ));
        assert!(matches!(
            Subscription::parse(""),
            Err(SubscriptionError::Topic { .. })
        ));
        assert!(matches!(
            Subscription::parse(" "),
            Err(SubscriptionError::Topic {
                reason: TopicError::Empty,
                ..
            })
        ));
        assert_eq!(Subscription::parse(" a b ").unwrap().name(), "a b");
    }
}
