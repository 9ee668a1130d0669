//! Which topics a message has. The only place that knows.
//!
//! Every value of a `topic` or `topics` tag is a topic as it is (text is split on commas), and each other scalar tag
//! makes `key:value` with the key in lower case. Tags stand at the top level, in a `tags` map or in a `Tags` list of
//! name and value pairs, in any letter case. Keys that are big, secret or different in each message make no topic
//! (`topicless_keys` in the settings), nor do [reserved keys](crate::topic::RESERVED_KEYS): those come from what the
//! node itself knows. A scalar that is not UTF-8, like a raw 32-byte address, counts as its base64url text, which is
//! how the network writes it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Value;
use super::json::is_private;
use super::origin::{self, Origin};
use crate::topic::{MAX_TOPIC_BYTES, Topic, Topics, is_reserved_key};

/// The rules that settings can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// Keys that make no topic, in lower case; a leading `*` matches any start.
    pub topicless_keys: Vec<String>,
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
        self.topics_with(message, &origin::UNKNOWN)
    }

    /// The topics of a message of which the node knows something. Those that only the node may publish under are
    /// `process:` and each `from:` of the origin, and no limit takes them away.
    #[must_use]
    pub fn topics_with(&self, message: &Value<'_>, origin: &Origin<'_>) -> TopicSet {
        let mut set = TopicSet::default();
        let own = own_topics(origin, &mut set.invalid);
        let room = self.max_topics.saturating_sub(own.len());
        each_tag(message, &mut |key, value| {
            if is_topic_key(key) {
                add_explicit(value, room, &mut set);
            }
        });
        if let Some(named) = &origin.topics {
            add_explicit(named, room, &mut set);
        }
        // Most messages have no origin, and what is not there should cost nothing.
        if !own.is_empty() {
            set.topics.extend(own);
        }
        each_tag(message, &mut |key, value| {
            if !is_topic_key(key) && self.makes_topic(key) {
                self.add_tag(key, value, &mut set);
            }
        });
        set
    }

    fn add_tag(&self, key: &str, value: &Value<'_>, set: &mut TopicSet) {
        let Some(text) = scalar_text(value).filter(|text| !text.is_empty()) else {
            return;
        };
        // A value with a comma or a line break is text for people, nothing to subscribe to. A key may have a colon, and so
        // make a name that begins as one of the node's own.
        if let Ok(topic) = Topic::of_tag(key, &text)
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
            && !self.topicless_keys.iter().any(denied)
    }
}

/// The topics that only the node may publish under, no two the same.
#[inline]
fn own_topics(origin: &Origin<'_>, invalid: &mut u64) -> Topics {
    let process = origin.process.iter().map(|process| ("process", process));
    let from = origin.from.iter().map(|from| ("from", from));
    let mut own = Topics::new();
    for (key, value) in process.chain(from) {
        match Topic::of_tag(key, value) {
            Ok(topic) if own.contains(&topic) => {}
            Ok(topic) if !value.is_empty() => own.push(topic),
            _ => *invalid += 1,
        }
    }
    own
}

/// Adds every topic that a value names, while there is room.
fn add_explicit(value: &Value<'_>, room: usize, set: &mut TopicSet) {
    match value {
        Value::List(items) => match charlist(items) {
            Some(text) => add_names(&text, room, set),
            None => items
                .iter()
                .filter_map(scalar_text)
                .for_each(|text| add_names(&text, room, set)),
        },
        value => {
            if let Some(text) = scalar_text(value) {
                add_names(&text, room, set);
            }
        }
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

fn is_tags_key(key: &str) -> bool {
    key.eq_ignore_ascii_case("tags")
}

/// Calls `visit` with each tag: top-level keys, then those of a `tags` map or list.
fn each_tag<'v, 'a>(message: &'v Value<'a>, visit: &mut dyn FnMut(&'v str, &'v Value<'a>)) {
    for (key, value) in message.entries() {
        visit(key, value);
    }
    for (_, tags) in message.entries().iter().filter(|(key, _)| is_tags_key(key)) {
        for (key, value) in tags.entries() {
            visit(key, value);
        }
        if let Value::List(items) = tags {
            for (key, value) in items.iter().filter_map(name_and_value) {
                visit(key, value);
            }
        }
    }
}

/// A tag as `#{name, value}`, in any letter case, or as a pair.
fn name_and_value<'v, 'a>(item: &'v Value<'a>) -> Option<(&'v str, &'v Value<'a>)> {
    let (name, value) = match item {
        Value::List(pair) => match pair.as_slice() {
            [name, value] => (name, value),
            _ => return None,
        },
        map => {
            let entry = |wanted: &str| {
                map.entries()
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(wanted))
                    .map(|(_, value)| value)
            };
            (entry("name")?, entry("value")?)
        }
    };
    match name {
        Value::Text(name) => Some((name, value)),
        _ => None,
    }
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
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    fn set_of(message: &Value<'_>) -> TopicSet {
        Settings::default().topic_rules().topics_of(message)
    }

    fn names(message: &Value<'_>) -> Vec<String> {
        set_of(message)
            .topics
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    #[test]
    fn explicit_topics_come_first_and_tags_follow() {
        let message = map(vec![
            ("action", text("Transfer")),
            ("data", text("x")),
            ("topic", text("prices")),
        ]);
        assert_eq!(names(&message), ["prices", "action:Transfer"]);
    }

    #[test]
    fn topic_texts_are_split_trimmed_and_deduplicated() {
        let list = Value::List(vec![text("c,d"), Value::Integer(5), text("a"), Value::Null]);
        let message = map(vec![("Topic", text(" a , b,,a")), ("TOPICS", list)]);
        assert_eq!(names(&message), ["a", "b", "c", "d", "5"]);
    }

    #[test]
    fn an_erlang_string_is_a_text() {
        let string = Value::List("a,bü".chars().map(|c| Value::Integer(c as i64)).collect());
        assert_eq!(names(&map(vec![("topic", string)])), ["a", "bü"]);
        let numbers = Value::List([1, 2].map(Value::Integer).into());
        assert_eq!(names(&map(vec![("topic", numbers)])), ["1", "2"]);
    }

    #[test]
    fn tags_stand_in_a_map_or_in_a_list_of_pairs() {
        let in_map = map(vec![(
            "Tags",
            map(vec![("Action", text("Mint")), ("Topic", text("t"))]),
        )]);
        assert_eq!(names(&in_map), ["t", "action:Mint"]);
        let pair = |name: &'static str, value: &'static str| {
            map(vec![("Name", text(name)), ("value", text(value))])
        };
        let in_list = map(vec![(
            "tags",
            Value::List(vec![
                pair("Action", "Mint"),
                pair("topic", "t"),
                Value::List(vec![text("X"), Value::Bool(true)]),
                text("odd"),
            ]),
        )]);
        assert_eq!(names(&in_list), ["t", "action:Mint", "x:true"]);
    }

    #[test]
    fn every_scalar_kind_makes_a_topic() {
        let raw = [0xff_u8; 32];
        let message = map(vec![
            ("n", Value::Integer(7)),
            ("f", Value::Float(1.5)),
            ("big", Value::BigInteger("99999999999999999999".into())),
            ("target", Value::Binary(&raw)),
            ("nothing", Value::Null),
            ("empty", text("")),
            ("list", Value::List(vec![text("x")])),
            ("sentence", text("a, b")),
        ]);
        assert_eq!(
            names(&message),
            [
                "n:7",
                "f:1.5",
                "big:99999999999999999999",
                "target:__________________________________________8"
            ]
        );
    }

    #[test]
    fn big_secret_and_one_off_keys_make_no_topics() {
        let keys = [
            "data",
            "Body",
            "commitments",
            "signature",
            "priv",
            "privKey",
            "hashpath",
            "anchor",
            "nonce",
            "reference",
            "timestamp",
            "block-timestamp",
        ];
        assert_eq!(
            names(&map(keys.map(|key| (key, text("x"))).to_vec())),
            Vec::<String>::new()
        );
    }

    #[test]
    fn reserved_keys_and_topics_are_not_for_strangers() {
        let message = map(vec![
            ("process", text("id")),
            ("From", text("me")),
            ("slot", Value::Integer(1)),
            ("topic", text("process:id,/id~process@1.0,ok,OWNER:x")),
        ]);
        let set = set_of(&message);
        assert_eq!(set.topics.as_slice(), [Topic::new("ok").unwrap()]);
        assert_eq!((set.reserved, set.invalid), (3, 0));
    }

    #[test]
    fn no_key_with_a_colon_poses_as_a_reserved_one() {
        let message = map(vec![
            ("process:id", text("x")),
            ("From:", text("me")),
            ("/id", text("x~process@1.0")),
            ("a:process", text("ok")),
        ]);
        assert_eq!(names(&message), ["a:process:ok"]);
    }

    #[test]
    fn invalid_explicit_topics_are_counted() {
        let long = "t".repeat(256);
        let set = set_of(&map(vec![(
            "topic",
            Value::List(vec![text(&long), text("a\nb"), text("ok")]),
        )]));
        assert_eq!((set.topics.len(), set.invalid), (1, 2));
    }

    #[test]
    fn a_message_has_at_most_64_topics() {
        for (count, kept, excess) in [(63, 63, 0), (64, 64, 0), (65, 64, 1)] {
            let list = (0..count)
                .map(|n| Value::Text(format!("t{n}").into()))
                .collect();
            let set = set_of(&map(vec![("topics", Value::List(list))]));
            assert_eq!((set.topics.len(), set.excess), (kept, excess));
        }
    }

    fn names_with(max_topics: usize, message: &Value<'_>, origin: &Origin<'_>) -> Vec<String> {
        let mut rules = Settings::default().topic_rules();
        rules.max_topics = max_topics;
        let set = rules.topics_with(message, origin);
        set.topics
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    #[test]
    fn what_the_node_knows_stands_between_explicit_topics_and_tags() {
        let message = map(vec![("action", text("Mint")), ("topic", text("t"))]);
        let origin = Origin {
            process: Some("p".into()),
            from: vec!["a".into(), "b".into(), "a".into()],
            topics: Some(Value::List(vec![text("named,t"), text("also")])),
            ..Origin::default()
        };
        let expected = [
            "t",
            "named",
            "also",
            "process:p",
            "from:a",
            "from:b",
            "action:Mint",
        ];
        assert_eq!(names_with(64, &message, &origin), expected);
        assert_eq!(
            names_with(64, &text("no map"), &origin),
            ["named", "t", "also", "process:p", "from:a", "from:b"]
        );
    }

    #[test]
    fn no_limit_pushes_out_what_the_node_knows() {
        let message = map(vec![("topic", text("t,u,v")), ("action", text("Mint"))]);
        let origin = Origin {
            process: Some("p".into()),
            from: vec!["a".into()],
            ..Origin::default()
        };
        let own = ["process:p", "from:a"];
        assert_eq!(names_with(1, &message, &origin), own);
        assert_eq!(names_with(2, &message, &origin), own);
        assert_eq!(names_with(3, &message, &origin), ["t", own[0], own[1]]);
        let few = map(vec![("action", text("Mint"))]);
        assert_eq!(
            names_with(3, &few, &origin),
            [own[0], own[1], "action:Mint"]
        );
        let mut rules = Settings::default().topic_rules();
        rules.max_topics = 3;
        assert_eq!(rules.topics_with(&message, &origin).excess, 3);
    }

    #[test]
    fn what_the_caller_names_is_no_more_trusted_than_a_tag() {
        let origin = Origin {
            process: Some("a,b".into()),
            from: vec!["".into()],
            topics: Some(text("process:x,/x~process@1.0,ok,FROM:y")),
            ..Origin::default()
        };
        let set = Settings::default()
            .topic_rules()
            .topics_with(&map(vec![]), &origin);
        assert_eq!(set.topics.as_slice(), [Topic::new("ok").unwrap()]);
        assert_eq!((set.reserved, set.invalid), (3, 2));
    }

    #[test]
    fn what_is_no_map_has_no_topics() {
        for value in [
            text("topic"),
            Value::Null,
            Value::List(vec![text("topic")]),
            Value::Omitted("pid"),
        ] {
            assert_eq!(set_of(&value), TopicSet::default());
        }
    }
}
