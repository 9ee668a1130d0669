//! Fuzzing of a message's topics and its frame. [`super::values`] describes the input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::internals::{Frame, walked};
use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::message::topic::Topic;
use dev_websocket_core::message::topics::TopicSet;
use serde_json::{Map, Value as Json, json};

use super::frame;
use super::message::stays_within_the_node;
use super::patterns::{is_a_topic, is_topic};
use super::values::{self, Case, shown};

const RESERVED: [&str; 6] = [
    "process:",
    "from:",
    "slot:",
    "owner:",
    "hashpath:",
    "edges:",
];

/// Checks the topics and the frame of a message with any bytes.
pub fn check(input: &[u8]) {
    let case = values::read(input);
    let set = case.rules.topics_with(&case.message, &case.origin);
    rules_hold(&case, &set);
    let names: Vec<&str> = set.topics.iter().map(Topic::name).collect();
    let expected = expected(&case);
    assert_eq!(names, expected.names);
    assert_eq!(
        (set.reserved, set.excess, set.invalid),
        (expected.reserved, expected.excess, expected.invalid)
    );
    is_encoded(&case, &set);
    is_walked(&case);
}

/// Checks that a message which is written value by value is the same as its tree. Nothing is told of keys that stay
/// within the node, so the tree is one without them.
fn is_walked(case: &Case<'_>) {
    let Case {
        origin,
        rules,
        commitments,
        ..
    } = case;
    let message = values::without_kept(&case.message, *commitments);
    let set = rules.topics_with(&message, origin);
    let frame = Frame::encode(
        set.topics.clone(),
        &message,
        origin,
        usize::MAX,
        *commitments,
        7,
    );
    let data = frame.expect("no limit").raw_bytes();
    let data = frame::payload(&data);
    let walk = |limit| walked(&case.message, rules, origin, limit, *commitments);
    let (json, found) = walk(data.len()).expect("long enough");
    assert_eq!((json.as_slice(), &found), (data.as_bytes(), &set));
    assert!(walk(data.len() - 1).is_err());
}

/// Checks the rules that hold for every message.
fn rules_hold(case: &Case<'_>, set: &TopicSet) {
    let own = own_names(&case.origin);
    assert!(set.topics.len() <= case.rules.max_topics.max(own.len()));
    for (place, topic) in set.topics.iter().enumerate() {
        let name = topic.name();
        is_a_topic(name);
        assert!(
            !set.topics[..place].contains(topic),
            "{name}: header must not be repeated"
        );
        if is_reserved(name) {
            assert!(
                own.iter().any(|own| own == name),
                "a stranger poses: {name}"
            );
        } else {
            // A reader of the name can subscribe to it.
            assert_eq!(Topic::new(name).as_ref(), Ok(topic));
        }
    }
    for name in own {
        assert!(
            set.topics.iter().any(|topic| topic.name() == name),
            "{name} is pushed out"
        );
    }
}

fn is_encoded(case: &Case<'_>, set: &TopicSet) {
    let Case {
        message,
        origin,
        commitments,
        ..
    } = case;
    let encoded = Frame::encode(
        set.topics.clone(),
        message,
        origin,
        usize::MAX,
        *commitments,
        u64::MAX,
    );
    let whole = encoded.expect("no limit");
    let fields = frame::json(whole.bytes());
    let data = shown(message, *commitments);
    stays_within_the_node(&fields["data"], *commitments);
    assert_eq!(fields["data"], data);
    let raw = whole.raw_bytes();
    let raw = frame::json(&raw);
    assert_eq!(raw, fields["data"]);
    let names: Vec<&str> = set.topics.iter().map(Topic::name).collect();
    assert_eq!(
        (&fields["topics"], &fields["topic"]),
        (&json!(names), &json!(names.first()))
    );
    assert_eq!(fields["seq"], u64::MAX);
    let known = known(origin);
    for (key, value) in &known {
        assert_eq!(&fields[key], value, "{key}");
    }
    assert_eq!(fields.as_object().map(Map::len), Some(6 + known.len()));
    assert_eq!(whole.message(), Some(as_templates_see_it(raw, known)));
}

/// Returns the provenance as the frame shows it.
fn known(origin: &Provenance<'_>) -> Map<String, Json> {
    let mut known = Map::new();
    let Provenance {
        process,
        slot,
        hashpath,
        path,
        assignment,
        source,
        from,
        topics: _,
        is_edge: _,
    } = origin;
    for (key, text) in [
        ("process", process),
        ("hashpath", hashpath),
        ("path", path),
        ("assignment", assignment),
        ("source", source),
    ] {
        if let Some(text) = text {
            known.insert(key.to_owned(), json!(text));
        }
    }
    if let Some(slot) = slot {
        known.insert("slot".to_owned(), json!(slot));
    }
    if !from.is_empty() {
        known.insert("from".to_owned(), json!(from));
    }
    known
}

fn as_templates_see_it(data: Json, known: Map<String, Json>) -> Json {
    if known.is_empty() {
        return data;
    }
    let mut message = match data {
        Json::Object(fields) => fields,
        _ => Map::new(),
    };
    for (key, value) in known {
        let there: Vec<String> = message
            .keys()
            .filter(|there| there.to_ascii_lowercase() == key)
            .cloned()
            .collect();
        if key == "path" {
            there.iter().for_each(|there| drop(message.remove(there)));
        } else if !there.is_empty() {
            continue;
        }
        let single = value
            .as_array()
            .filter(|senders| senders.len() == 1)
            .map(|senders| senders[0].clone());
        message.insert(key, single.unwrap_or(value));
    }
    Json::Object(message)
}

#[derive(Default)]
struct Expected {
    names: Vec<String>,
    reserved: u64,
    excess: u64,
    invalid: u64,
}

impl Expected {
    fn add(&mut self, name: String, room: usize) {
        if self.names.contains(&name) {
        } else if self.names.len() < room {
            self.names.push(name);
        } else {
            self.excess += 1;
        }
    }
}

/// Derives the topics by the rules in the section "Topics" of docs/PROTOCOL.md.
fn expected(case: &Case<'_>) -> Expected {
    let Case {
        message,
        origin,
        rules,
        excluded,
        ..
    } = case;
    let own = own_names(origin);
    let room = rules.max_topics.saturating_sub(own.len());
    let mut expected = Expected::default();
    let tags = tags(message);
    let explicit = tags
        .iter()
        .filter(|(key, _)| is_one_of(key, &["topic", "topics"]))
        .map(|(_, value)| *value);
    for value in explicit.chain(&origin.topics) {
        for name in texts(value)
            .iter()
            .flat_map(|text| text.split(','))
            .map(str::trim)
        {
            if name.is_empty() {
            } else if !is_topic(name) {
                expected.invalid += 1;
            } else if is_reserved(name) || is_process_path(name) {
                expected.reserved += 1;
            } else {
                expected.add(name.to_owned(), room);
            }
        }
    }
    let named = origin.process.iter().chain(&origin.from);
    expected.invalid += named
        .map(|value| value.trim())
        .filter(|value| value.is_empty() || !is_topic(&format!("process:{value}")))
        .count() as u64;
    // The topic of a sender may be three bytes longer than that of a process.
    let longer =
        |from: &&str| !is_topic(&format!("process:{from}")) && is_topic(&format!("from:{from}"));
    expected.invalid -= origin
        .from
        .iter()
        .map(|from| from.trim())
        .filter(longer)
        .count() as u64;
    expected.names.extend(own);
    for (key, value) in tags {
        let lower = key.to_lowercase();
        let is_silent = key.is_empty()
            || is_one_of(
                key,
                &[
                    "topic", "topics", "tags", "process", "from", "slot", "owner", "hashpath",
                    "edges",
                ],
            )
            || key.to_ascii_lowercase().starts_with("priv")
            || excluded
                .iter()
                .any(|pattern| match pattern.strip_prefix('*') {
                    Some(end) => key
                        .to_ascii_lowercase()
                        .ends_with(&end.to_ascii_lowercase()),
                    None => is_one_of(key, &[pattern]),
                });
        let text = text(value).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() || is_silent {
            continue;
        }
        let name = format!("{lower}:{text}");
        // Lower case may shorten a key, but not so much that it would matter.
        if key.len() + 1 + text.len() <= 255
            && is_topic(&name)
            && !is_reserved(&name)
            && !is_process_path(&name)
        {
            expected.add(name, rules.max_topics);
        }
    }
    expected
}

fn is_one_of(key: &str, names: &[&str]) -> bool {
    names.iter().any(|name| key.eq_ignore_ascii_case(name))
}

fn is_reserved(name: &str) -> bool {
    RESERVED
        .iter()
        .any(|start| name.to_ascii_lowercase().starts_with(start))
}

fn is_process_path(name: &str) -> bool {
    let id = name
        .strip_prefix('/')
        .and_then(|name| name.strip_suffix("~process@1.0"));
    id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

fn own_names(origin: &Provenance<'_>) -> Vec<String> {
    let process = origin.process.iter().map(|id| ("process", id));
    let from = origin.from.iter().map(|from| ("from", from));
    let mut names = Vec::new();
    let trimmed = process.chain(from).map(|(key, value)| (key, value.trim()));
    for (key, value) in trimmed.filter(|(_, value)| !value.is_empty()) {
        let name = format!("{key}:{value}");
        if is_topic(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns the tags at the top level, then those of a `tags` map or list.
fn tags<'v>(message: &'v Value<'_>) -> Vec<(&'v str, &'v Value<'v>)> {
    let entries = |value: &'v Value<'_>| match value {
        Value::Map(entries) => entries.iter().map(|(key, value)| (&**key, value)).collect(),
        _ => Vec::new(),
    };
    let mut tags = entries(message);
    for (_, value) in entries(message)
        .iter()
        .filter(|(key, _)| is_one_of(key, &["tags"]))
    {
        tags.extend(entries(value));
        let Value::List(items) = value else {
            continue;
        };
        for item in items {
            let field = |name| {
                entries(item)
                    .into_iter()
                    .find(|(key, _)| is_one_of(key, &[name]))
                    .map(|(_, value)| value)
            };
            let (name, value) = match item {
                Value::List(pair) if pair.len() == 2 => (Some(&pair[0]), Some(&pair[1])),
                _ => (field("name"), field("value")),
            };
            if let (Some(Value::Text(name)), Some(value)) = (name, value) {
                tags.push((name, value));
            }
        }
    }
    // Blanks around a key are trimmed.
    tags.into_iter()
        .map(|(key, value)| (key.trim(), value))
        .collect()
}

/// Returns the texts of a `topic` tag: its own, or those of its items.
fn texts(value: &Value<'_>) -> Vec<String> {
    match (value, single_text(value)) {
        (_, Some(text)) => vec![text],
        (Value::List(items), None) => items.iter().filter_map(single_text).collect(),
        _ => Vec::new(),
    }
}

/// Returns the text of a scalar or of an Erlang string.
fn single_text(value: &Value<'_>) -> Option<String> {
    let Value::List(items) = value else {
        return text(value);
    };
    let character = |item: &Value<'_>| match item {
        Value::Integer(number) => char::from_u32(u32::try_from(*number).ok()?),
        _ => None,
    };
    let string: String = items.iter().map(character).collect::<Option<_>>()?;
    (!string.is_empty() && !string.contains(char::is_control)).then_some(string)
}

/// Returns the text of a scalar.
fn text(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Integer(number) => Some(number.to_string()),
        Value::BigInteger(digits) => Some(digits.clone()),
        Value::Float(number) => Some(json!(number).to_string()),
        // The text would be longer than a topic in any case.
        Value::Binary(bytes) if bytes.len() > 255 => None,
        Value::Binary(bytes) => Some(URL_SAFE_NO_PAD.encode(bytes)),
        _ => None,
    }
}
