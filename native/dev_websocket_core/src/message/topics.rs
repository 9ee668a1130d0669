//! Derivation of a message's topics. No other module knows these rules.
//!
//! - Every value of a `topic` or `topics` tag is an explicit topic; text is split on commas.
//! - Each other scalar tag makes `key:value` with the key in lower case.
//! - Tags are entries of the top level, of a `tags` map, or of a `Tags` list of name and value pairs, in any letter
//!   case.
//! - Keys that are large, secret or different in each message make no topic (setting `excluded_topic_keys`).
//! - [Reserved keys](crate::message::topic::RESERVED_KEYS) make no topic either; those topics come from the
//!   provenance.
//! - Blanks around keys, values and names are trimmed, because no subscription could name them.
//! - A scalar that is not UTF-8, such as a raw 32-byte address, counts as its base64url text, as the network writes
//!   it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Value;
use super::candidates::Candidates;
use super::topic_keys::TopicKeys;
use crate::message::provenance;
use crate::message::provenance::Provenance;
use crate::message::topic::{MAX_TOPIC_BYTES, Topic, Topics, trimmed};

/// The topic rules that settings can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// The keys that make no topic, or name topics.
    pub keys: TopicKeys,
    /// The maximum number of topics per message.
    pub max_topics: usize,
}

/// The topics of a message, with counts of the dropped ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TopicSet {
    /// Distinct topics: explicit ones first, then those of the provenance, then those of tags.
    pub topics: Topics,
    /// The number of dropped explicit topics that are reserved for the node.
    pub reserved: u64,
    /// The number of dropped topics beyond the limit.
    pub excess: u64,
    /// The number of dropped explicit and provenance topics whose name is invalid.
    pub invalid: u64,
}

impl TopicRules {
    /// Derives the topics of a message. A message that is not a map has none.
    #[must_use]
    pub fn topics_of(&self, message: &Value<'_>) -> TopicSet {
        self.topics_with(message, &provenance::UNKNOWN)
    }

    /// Derives the topics of a message with provenance. The reserved topics are `process:` and each `from:` of the
    /// provenance; no limit drops them.
    #[must_use]
    pub fn topics_with(&self, message: &Value<'_>, origin: &Provenance<'_>) -> TopicSet {
        let mut candidates = Candidates::default();
        // The parts of an edge are messages of their own, with topics of their own.
        if !origin.is_edge {
            candidates.add_all(self, message);
        }
        self.select(&candidates, origin)
    }

    /// Makes topics of candidates, and adds those of the provenance.
    pub(crate) fn select(&self, candidates: &Candidates<'_>, origin: &Provenance<'_>) -> TopicSet {
        let mut set = TopicSet::default();
        if origin.is_edge {
            let process = origin.process.as_deref().unwrap_or_default();
            set.topics.extend(Topic::of_edges(process));
            return set;
        }
        let own = own_topics(origin, &mut set.invalid);
        let room = self.max_topics.saturating_sub(own.len());
        for value in candidates.explicit() {
            add_explicit(value, room, &mut set);
        }
        if let Some(named) = &origin.topics {
            add_explicit(named, room, &mut set);
        }
        // Most messages have no provenance, so the empty case is kept cheap.
        if !own.is_empty() {
            set.topics.extend(own);
        }
        set.topics.reserve(candidates.len().min(room));
        for (key, value) in candidates.tags() {
            self.add_tag(key, value, &mut set);
        }
        set
    }

    fn add_tag(&self, key: &str, value: &Value<'_>, set: &mut TopicSet) {
        let Some(text) = scalar_text(value) else {
            return;
        };
        let text = trimmed(&text);
        if text.is_empty() {
            return;
        }
        // A value with a comma or a line break is prose, not a topic. A key with a colon can make a name that begins
        // like a reserved one.
        if let Ok(topic) = Topic::of_tag(key, text)
            && !(could_be_reserved(key) && topic.is_reserved())
        {
            add(topic, self.max_topics, set);
        }
    }
}

/// Returns whether a name that begins with this key could be reserved, though the key is not.
fn could_be_reserved(key: &str) -> bool {
    key.bytes()
        .any(|byte| matches!(byte, b':' | b'/') || !byte.is_ascii())
}

/// Returns the distinct topics that only the node may publish under.
#[inline]
fn own_topics(origin: &Provenance<'_>, invalid: &mut u64) -> Topics {
    let process = origin.process.iter().map(|process| ("process", process));
    let from = origin.from.iter().map(|from| ("from", from));
    let mut own = Topics::new();
    for (key, value) in process.chain(from) {
        match Topic::of_tag(key, trimmed(value)) {
            Ok(topic) if own.contains(&topic) => {}
            Ok(topic) if !trimmed(value).is_empty() => own.push(topic),
            _ => *invalid += 1,
        }
    }
    own
}

/// Adds every topic that a value names, up to the limit.
fn add_explicit(value: &Value<'_>, room: usize, set: &mut TopicSet) {
    match value {
        Value::List(items) if charlist(items).is_none() => {
            items.iter().for_each(|item| add_named(item, room, set));
        }
        value => add_named(value, room, set),
    }
}

fn add_named(value: &Value<'_>, room: usize, set: &mut TopicSet) {
    let text = match value {
        Value::List(items) => charlist(items).map(Cow::Owned),
        value => scalar_text(value),
    };
    if let Some(text) = text {
        add_names(&text, room, set);
    }
}

fn add_names(text: &str, room: usize, set: &mut TopicSet) {
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match Topic::new(name) {
            Ok(topic) if topic.is_reserved() => set.reserved += 1,
            Ok(topic) => add(topic, room, set),
            Err(_) => set.invalid += 1,
        }
    }
}

fn add(topic: Topic, room: usize, set: &mut TopicSet) {
    if set.topics.contains(&topic) {
        return;
    }
    if set.topics.len() < room {
        set.topics.push(topic);
    } else {
        set.excess += 1;
    }
}

/// Reads a list of characters as text, because an Erlang string has that form and no topic is a number.
fn charlist(items: &[Value<'_>]) -> Option<String> {
    let character = |item: &Value<'_>| match item {
        Value::Integer(number) => {
            char::from_u32(u32::try_from(*number).ok()?).filter(|character| !character.is_control())
        }
        _ => None,
    };
    items
        .iter()
        .map(character)
        .collect::<Option<String>>()
        .filter(|text| !text.is_empty())
}

/// Returns the text of a scalar tag; none for other values and for texts that are too long for a topic.
fn scalar_text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Integer(number) => Some(Cow::Owned(number.to_string())),
        Value::BigInteger(digits) => Some(Cow::Borrowed(digits)),
        Value::Float(number) => serde_json::to_string(number).ok().map(Cow::Owned),
        Value::Binary(bytes) if bytes.len() <= MAX_TOPIC_BYTES => {
            Some(Cow::Owned(URL_SAFE_NO_PAD.encode(bytes)))
        }
        Value::Binary(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Link(_)
        | Value::Omitted(_) => None,
    }
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
