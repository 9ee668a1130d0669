//! What a client asks to receive, from a URL or from a control message.

pub(crate) mod automaton;
pub(crate) mod filters;
pub(crate) mod pattern;
pub(crate) mod pattern_cache;
pub(crate) mod pattern_index;
pub(crate) mod template;
pub(crate) mod template_index;

use thiserror::Error;

use crate::error_code::ErrorCode;
use crate::message::topic::{Topic, TopicError};
use crate::settings::{Settings, size};
use crate::subscription::pattern::{Pattern, PatternError};
use crate::subscription::template::Template;

/// One thing that a connection is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subscription {
    /// Every publication, also one without topics: `*`.
    Everything,
    /// The publications of one topic.
    Topic(Topic),
    /// The publications of all topics that match.
    Pattern(Pattern),
    /// The publications whose message matches. With topics or patterns beside it, both must hold.
    Template(Template),
}

/// Kinds of subscriptions that a client names and counts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Topics, globs and `*`.
    Topic,
    /// Regular expressions.
    Match,
    /// Templates.
    Template,
}

/// Why a text names no subscription to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {shown:?}")]
pub(crate) struct BadTopic {
    /// The beginning of what was asked for.
    shown: String,
    /// What is wrong with it.
    reason: TopicError,
}

/// More subscriptions of a kind than a connection may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// How many subscriptions of each kind a connection may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    topics: usize,
    matches: usize,
    templates: usize,
}

/// Enough of a bad name to recognise it.
const SHOWN_CHARS: usize = 40;

impl Subscription {
    /// Reads one topic name, a glob, or `*`; white space around it does not count, as in a message's `topic` tag.
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
            return Topic::new(text).map(Self::Topic).map_err(bad);
        }
        Pattern::glob(text)
            .map(Self::Pattern)
            .map_err(|error| match error {
                PatternError::Glob(reason) => bad(reason),
                // A glob has no other faults.
                _ => bad(TopicError::TooLong),
            })
    }

    /// What counts it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Everything | Self::Topic(_) => Kind::Topic,
            Self::Pattern(pattern) if !pattern.is_regex() => Kind::Topic,
            Self::Pattern(_) => Kind::Match,
            Self::Template(_) => Kind::Template,
        }
    }

    /// As the client writes it.
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

    /// Checks a connection's subscriptions, given by their kinds.
    ///
    /// # Errors
    /// [`TooMany`] names the first kind that there are too many of.
    pub(crate) fn check(&self, mut held: impl Iterator<Item = Kind>) -> Result<(), TooMany> {
        let mut tally = Tally::new(*self);
        held.try_for_each(|kind| tally.add(kind))
    }

    /// Checks a number of subscriptions of one kind.
    ///
    /// # Errors
    /// [`TooMany`] names the kind.
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

/// How many of each kind there are so far.
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

    /// Counts one more.
    ///
    /// # Errors
    /// As [`Quota::check_count`].
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
