//! Subscriptions of clients, from a URL or from a control message.

pub(crate) mod automaton;
pub(crate) mod filters;
pub(crate) mod pattern;
pub(crate) mod pattern_cache;
pub(crate) mod pattern_index;
pub(crate) mod template;
pub(crate) mod template_index;

use thiserror::Error;

use crate::error_code::ErrorCode;
use crate::message::process_id::is_process_id;
use crate::message::topic::{Topic, TopicError};
use crate::settings::{Settings, size};
use crate::subscription::pattern::{Pattern, PatternError};
use crate::subscription::template::Template;

/// A single subscription of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subscription {
    /// Subscribes to every publication, including those without topics: `*`.
    Everything,
    /// Subscribes to the publications of one topic.
    Topic(Topic),
    /// Subscribes to the publications of all matching topics.
    Pattern(Pattern),
    /// Subscribes to publications whose message matches. A connection that also has topics or patterns requires both
    /// to match.
    Template(Template),
}

/// The kinds of subscriptions that a client names, and that have separate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Topics, globs and `*`.
    Topic,
    /// Regular expressions.
    Match,
    /// Templates.
    Template,
}

/// The error of a text that does not name a topic subscription.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {shown:?}")]
pub(crate) struct BadTopic {
    /// The beginning of the requested text.
    shown: String,
    /// The rule that the text breaks.
    reason: TopicError,
}

/// The error of a connection with too many subscriptions of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// The maximum number of subscriptions of each kind per connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    topics: usize,
    matches: usize,
    templates: usize,
}

/// The number of characters of an invalid name that an error shows.
const SHOWN_CHARS: usize = 40;

impl Subscription {
    /// Reads a topic name, a glob, or `*`. Surrounding white space is trimmed, as in a message's `topic` tag.
    pub(crate) fn parse(text: &str) -> Result<Self, BadTopic> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Everything);
        }
        let bad = |reason| BadTopic {
            shown: text.chars().take(SHOWN_CHARS).collect(),
            reason,
        };
        if !text.contains('*') {
            let topic = Topic::new(text).map_err(bad)?;
            return match topic.edges_of() {
                None => Ok(Self::Topic(topic)),
                Some(_) => Err(bad(TopicError::Edges)),
            };
        }
        Pattern::glob(text)
            .map(Self::Pattern)
            .map_err(|error| match error {
                PatternError::Glob(reason) => bad(reason),
                // A glob has no other errors.
                _ => bad(TopicError::TooLong),
            })
    }

    /// Returns the subscription to the edges of a process, if the text is the id of one.
    pub(crate) fn edges_of(process: &str) -> Option<Self> {
        let is_id = is_process_id(process);
        is_id.then(|| Topic::of_edges(process).map(Self::Topic).ok())?
    }

    /// Returns whether this subscribes to edges.
    pub(crate) fn is_of_edges(&self) -> bool {
        matches!(self, Self::Topic(topic) if topic.edges_of().is_some())
    }

    /// Returns the kind, which selects the limit.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Everything | Self::Topic(_) => Kind::Topic,
            Self::Pattern(pattern) if !pattern.is_regex() => Kind::Topic,
            Self::Pattern(_) => Kind::Match,
            Self::Template(_) => Kind::Template,
        }
    }

    /// Returns the form that the client wrote.
    pub(crate) fn shown(&self) -> serde_json::Value {
        match self {
            Self::Everything => "*".into(),
            Self::Topic(topic) => topic.name().into(),
            Self::Pattern(pattern) => pattern.text().into(),
            Self::Template(template) => template.shown(),
        }
    }
}

impl Quota {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            topics: size(settings.max_topics_per_connection),
            matches: size(settings.max_regexes_per_connection),
            templates: size(settings.max_templates_per_connection),
        }
    }

    /// Checks the kinds of all subscriptions of a connection.
    ///
    /// # Errors
    /// The call returns [`TooMany`] for the first kind that exceeds its limit.
    pub(crate) fn check(&self, mut held: impl Iterator<Item = Kind>) -> Result<(), TooMany> {
        let mut tally = Tally::new(*self);
        held.try_for_each(|kind| tally.add(kind))
    }

    /// Checks the number of subscriptions of one kind.
    ///
    /// # Errors
    /// The call returns [`TooMany`] for this kind when it exceeds its limit.
    pub(crate) fn check_count(&self, kind: Kind, count: usize) -> Result<(), TooMany> {
        let (limit, code, name) = match kind {
            Kind::Topic => (self.topics, ErrorCode::TooManyTopics, "topics"),
            Kind::Match => (self.matches, ErrorCode::TooManyMatches, "match"),
            Kind::Template => (self.templates, ErrorCode::TooManyTemplates, "template"),
        };
        if count <= limit {
            return Ok(());
        }
        Err(TooMany {
            code,
            message: format!("{name}: limit of {limit} per connection reached"),
        })
    }
}

/// Running counts of subscriptions by kind.
#[derive(Debug)]
pub(crate) struct Tally {
    quota: Quota,
    topics: usize,
    matches: usize,
    templates: usize,
}

impl Tally {
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            quota,
            topics: 0,
            matches: 0,
            templates: 0,
        }
    }

    /// Counts one more subscription.
    ///
    /// # Errors
    /// The call fails like [`Quota::check_count`].
    pub(crate) fn add(&mut self, kind: Kind) -> Result<(), TooMany> {
        let count = match kind {
            Kind::Topic => &mut self.topics,
            Kind::Match => &mut self.matches,
            Kind::Template => &mut self.templates,
        };
        *count += 1;
        self.quota.check_count(kind, *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_alone_is_everything_and_inside_a_name_a_glob() {
        assert_eq!(Subscription::parse("*"), Ok(Subscription::Everything));
        assert!(matches!(
            Subscription::parse(" action:* "),
            Ok(Subscription::Pattern(glob)) if glob.text() == "action:*" && !glob.is_regex()
        ));
        for text in ["", " "] {
            let error = Subscription::parse(text).unwrap_err();
            assert_eq!(error.reason, TopicError::Empty);
        }
        assert!(Subscription::parse("a,*").is_err());
        let edges = Subscription::parse(" edges:x ").unwrap_err();
        assert_eq!(edges.reason, TopicError::Edges);
        assert_eq!(Subscription::parse(" a b ").unwrap().shown(), "a b");
    }

    #[test]
    fn each_kind_has_its_limit() {
        let quota = Quota {
            topics: 2,
            matches: 1,
            templates: 0,
        };
        let check = |kinds: &[Kind]| quota.check(kinds.iter().copied()).map_err(|e| e.code);
        assert_eq!(check(&[Kind::Topic, Kind::Match, Kind::Topic]), Ok(()));
        assert_eq!(check(&[Kind::Topic; 3]), Err(ErrorCode::TooManyTopics));
        assert_eq!(check(&[Kind::Match; 2]), Err(ErrorCode::TooManyMatches));
        assert_eq!(check(&[Kind::Template]), Err(ErrorCode::TooManyTemplates));
    }
}
