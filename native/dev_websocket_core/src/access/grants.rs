//! The subscriptions that a token, or the setting `public_topics`, allows.

use std::collections::HashSet;

use crate::subscription::Subscription;
use crate::subscription::pattern::glob_matches;

/// Limit on the globs of one token. Each requested topic is compared with all of them.
const MAX_GLOBS: usize = 64;

/// Number of characters of a refused subscription that an error shows.
const SHOWN_CHARS: usize = 255;

/// The subscriptions and actions that are allowed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    /// True for the grant `*`: every subscription of every kind.
    pub(crate) everything: bool,
    /// True if the connection may send messages to the node's listener.
    pub(crate) send: bool,
    topics: HashSet<Box<str>>,
    globs: Vec<Glob>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob {
    text: Box<str>,
    /// The literal `p` of a glob `p*`, which also allows the globs below it.
    below: Option<usize>,
}

/// The first subscription of a request that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forbidden {
    shown: String,
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "not allowed to subscribe to {}", self.shown)
    }
}

impl Grants {
    /// Returns the grants of a connection without restrictions.
    pub(crate) fn all() -> Self {
        Self {
            everything: true,
            send: true,
            ..Self::default()
        }
    }

    /// Adds a granted topic or glob.
    ///
    /// # Errors
    /// The call returns a text that names the topic if it is malformed, or if there are too many globs.
    pub(crate) fn add_topic(&mut self, text: &str) -> Result<(), String> {
        match Subscription::parse(text).map_err(|error| error.to_string())? {
            Subscription::Everything => self.everything = true,
            Subscription::Topic(topic) => {
                self.topics.insert(topic.name().into());
            }
            subscription => {
                let text = text_of(&subscription);
                if self.globs.iter().any(|glob| *glob.text == *text) {
                    return Ok(());
                }
                if self.globs.len() == MAX_GLOBS {
                    return Err(format!("more than {MAX_GLOBS} globs"));
                }
                let literal = text.strip_suffix('*');
                self.globs.push(Glob {
                    below: literal
                        .filter(|literal| !literal.is_empty() && !literal.contains('*'))
                        .map(str::len),
                    text: text.into(),
                });
            }
        }
        Ok(())
    }

    /// Checks all subscriptions that a connection would hold after a request. `public` allows some to everybody.
    ///
    /// A topic must be granted, or match a granted glob. A glob must be granted as it is, or begin with the literal of a
    /// granted `p*`. A regular expression, `*`, and templates without a topic need the grant `*`.
    ///
    /// # Errors
    /// [`Forbidden`] for the first subscription that is not allowed.
    pub(crate) fn check<'s>(
        &self,
        public: &Self,
        held: impl Iterator<Item = &'s Subscription>,
    ) -> Result<(), Forbidden> {
        if self.everything || public.everything {
            return Ok(());
        }
        let (mut template, mut has_topics) = (None, false);
        for subscription in held {
            match subscription {
                Subscription::Template(_) => template = template.or(Some(subscription)),
                _ if self.allows(subscription) || public.allows(subscription) => has_topics = true,
                _ => return Err(Forbidden::of(subscription)),
            }
        }
        match template {
            // A template narrows the topics of its connection. Alone it would match every publication.
            Some(template) if !has_topics => Err(Forbidden::of(template)),
            _ => Ok(()),
        }
    }

    fn allows(&self, subscription: &Subscription) -> bool {
        match subscription {
            Subscription::Topic(topic) => {
                // The edges of a process have its results and nothing else.
                let edges = topic.edges_of();
                let process = edges.map(|process| format!("process:{process}"));
                let name = process.as_deref().unwrap_or(topic.name());
                self.topics.contains(name)
                    || self.globs.iter().any(|glob| glob_matches(&glob.text, name))
            }
            Subscription::Pattern(pattern) if !pattern.is_regex() => {
                let text = pattern.text();
                let literal = text.split('*').next().unwrap_or_default();
                self.globs.iter().any(|glob| {
                    *glob.text == *text
                        || glob
                            .below
                            .is_some_and(|end| literal.starts_with(&glob.text[..end]))
                })
            }
            _ => false,
        }
    }
}

impl Forbidden {
    fn of(subscription: &Subscription) -> Self {
        let kind = match subscription {
            Subscription::Template(_) => "a template without topics: ",
            Subscription::Pattern(pattern) if pattern.is_regex() => "a regular expression: ",
            _ => "",
        };
        let text = text_of(subscription);
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        Self {
            shown: format!("{kind}{shown}"),
        }
    }
}

fn text_of(subscription: &Subscription) -> String {
    match subscription.shown() {
        serde_json::Value::String(text) => text,
        json => json.to_string(),
    }
}
