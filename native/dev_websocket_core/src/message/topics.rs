//! Which topics a message has. The only place that knows.
//!
//! Every value of a `topic` or `topics` tag is a topic as it is (text is split on commas), and each other scalar tag
//! makes `key:value` with the key in lower case. Tags stand at the top level, in a `tags` map or in a `Tags` list of
//! name and value pairs, in any letter case. Keys that are big, secret or different in each message make no topic
//! (`excluded_topic_keys` in the settings), nor do [reserved keys](crate::message::topic::RESERVED_KEYS): those come from what the
//! node itself knows. Blanks around keys, values and names do not count, as no subscription could name them. A scalar that is not UTF-8, like a raw 32-byte address, counts as its base64url text, which is
//! how the network writes it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Value;
use super::json::is_private;
use super::tags::{Tagged, is_tags_key, tags_of};
use crate::message::provenance;
use crate::message::provenance::Provenance;
use crate::message::topic::{MAX_TOPIC_BYTES, Topic, Topics, is_reserved_key, trimmed};

/// The rules that settings can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// Keys that make no topic, in lower case; a leading `*` matches any start.
    pub excluded_topic_keys: Vec<String>,
    /// How many topics one message may have.
    pub max_topics: usize,
}

/// What a message's tags came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TopicSet {
    /// Explicit topics first, then the node's own, then those of tags; no duplicates.
    pub topics: Topics,
    /// Explicit topics that only the node may use, dropped.
    pub reserved: u64,
    /// Topics beyond the limit, dropped.
    pub excess: u64,
    /// Explicit topics and the node's own that are no valid name, dropped.
    pub invalid: u64,
}

impl TopicRules {
    /// The topics of a message. A message that is no map has none.
    #[must_use]
    pub fn topics_of(&self, message: &Value<'_>) -> TopicSet {
        self.topics_with(message, &provenance::UNKNOWN)
    }

    /// The topics of a message of which the node knows something. Those that only the node may publish under are
    /// `process:` and each `from:` of the origin, and no limit takes them away.
    #[must_use]
    pub fn topics_with(&self, message: &Value<'_>, origin: &Provenance<'_>) -> TopicSet {
        let mut set = TopicSet::default();
        let own = own_topics(origin, &mut set.invalid);
        let room = self.max_topics.saturating_sub(own.len());
        for (key, value) in each_tag(message) {
            if is_topic_key(key) {
                add_explicit(value, room, &mut set);
            }
        }
        if let Some(named) = &origin.topics {
            add_explicit(named, room, &mut set);
        }
        // Most messages have no origin, and what is not there should cost nothing.
        if !own.is_empty() {
            set.topics.extend(own);
        }
        for (key, value) in each_tag(message) {
            if !is_topic_key(key) && self.makes_topic(key) {
                self.add_tag(key, value, &mut set);
            }
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
        // A value with a comma or a line break is text for people, nothing to subscribe to. A key may have a colon, and so
        // make a name that begins as one of the node's own.
        if let Ok(topic) = Topic::of_tag(key, text)
            && !topic.is_reserved()
        {
            add(topic, self.max_topics, set);
        }
    }

    fn makes_topic(&self, key: &str) -> bool {
        let denied = |pattern: &String| match pattern.strip_prefix('*') {
            Some(end) => {
                key.len() >= end.len()
                    && key.is_char_boundary(key.len() - end.len())
                    && key[key.len() - end.len()..].eq_ignore_ascii_case(end)
            }
            None => key.eq_ignore_ascii_case(pattern),
        };
        !key.is_empty()
            && !is_tags_key(key)
            && !is_reserved_key(key)
            && !is_private(key)
            && !self.excluded_topic_keys.iter().any(denied)
    }
}

/// The topics that only the node may publish under, no two the same.
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

/// Adds every topic that a value names, while there is room.
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

fn is_topic_key(key: &str) -> bool {
    key.eq_ignore_ascii_case("topic") || key.eq_ignore_ascii_case("topics")
}

/// Each tag: top-level keys, then those of a `tags` map or list.
fn each_tag<'v, 'a>(message: &'v Value<'a>) -> impl Iterator<Item = (&'v str, &'v Value<'a>)> {
    Tagged::entries(message)
        .chain(tags_of(Tagged::entries(message)))
        .map(|(key, value)| (trimmed(key), value))
}

/// An Erlang string is a list of characters. Nobody has such numbers for topics, so here it counts as text.
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

/// The text of a scalar tag; none for what has no single text, or is too long for a topic anyway.
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
