//! The tags of a message that may become topics.

use smallvec::SmallVec;

use super::Value;
use super::tags::{Tagged, tags_of};
use super::topic::trimmed;
use super::topic_keys::Meaning;
use super::topics::TopicRules;

/// The place of a tag in its message. Topics of the top level come before those of a `tags` map or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Top,
    Tags,
}

/// Tags in the order of the message, without those whose key makes no topic.
#[derive(Debug, Default)]
pub(crate) struct Candidates<'v>(SmallVec<[Candidate<'v>; 12]>);

#[derive(Debug)]
struct Candidate<'v> {
    level: Level,
    is_explicit: bool,
    key: &'v str,
    value: Held<'v>,
}

/// A value that the message owns, or one that was read for its tag.
#[derive(Debug)]
enum Held<'v> {
    Borrowed(&'v Value<'v>),
    Owned(Value<'v>),
}

impl<'v> Candidates<'v> {
    /// Adds all tags of a message.
    pub(crate) fn add_all(&mut self, rules: &TopicRules, message: &'v Value<'v>) {
        for (key, value) in message.entries() {
            self.add(rules, Level::Top, key, value);
        }
        for (key, value) in tags_of(Tagged::entries(message)) {
            self.add(rules, Level::Tags, key, value);
        }
    }

    /// Adds a tag of the message.
    pub(crate) fn add(
        &mut self,
        rules: &TopicRules,
        level: Level,
        key: &'v str,
        value: &'v Value<'v>,
    ) {
        let key = trimmed(key);
        let meaning = rules.keys.meaning_of(key);
        self.hold(level, meaning, key, Held::Borrowed(value));
    }

    /// Adds a tag whose value nobody else owns. The key is trimmed.
    pub(crate) fn add_owned(
        &mut self,
        level: Level,
        meaning: Meaning,
        key: &'v str,
        value: Value<'v>,
    ) {
        self.hold(level, meaning, key, Held::Owned(value));
    }

    fn hold(&mut self, level: Level, meaning: Meaning, key: &'v str, value: Held<'v>) {
        if meaning != Meaning::Nothing {
            self.0.push(Candidate {
                level,
                is_explicit: meaning == Meaning::Explicit,
                key,
                value,
            });
        }
    }

    /// Returns the number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the values that name topics, those of the top level first.
    pub(crate) fn explicit(&self) -> impl Iterator<Item = &Value<'v>> {
        self.in_order(true).map(|(_, value)| value)
    }

    /// Returns the keys and values of all other tags, those of the top level first.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&'v str, &Value<'v>)> {
        self.in_order(false)
    }

    fn in_order(&self, is_explicit: bool) -> impl Iterator<Item = (&'v str, &Value<'v>)> {
        [Level::Top, Level::Tags]
            .into_iter()
            .flat_map(move |level| {
                self.0
                    .iter()
                    .filter(move |one| one.level == level && one.is_explicit == is_explicit)
                    .map(|one| (one.key, one.value.get()))
            })
    }
}

impl<'v> Held<'v> {
    fn get(&self) -> &Value<'v> {
        match self {
            Held::Borrowed(value) => value,
            Held::Owned(value) => value,
        }
    }
}
