//! Messages with every kind of value, in a text format that a fuzzer can mutate by line and people can read.
//!
//! A line is `key=value` in a map and `value` in a list. The first byte of a value gives its kind:
//!
//! - `{` a map and `[` a list of the lines up to `}` or `]`,
//! - `#` an integer and `.` a float,
//! - `+` true, `-` false and `?` null,
//! - `@` a link and `!` a value without a JSON form,
//! - `'` a text in any case.
//!
//! Any other value is text, or bytes if it is not UTF-8. Lines that start with `$` are not part of the message: they
//! set its provenance and the settings.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::Settings;
use dev_websocket_core::message::Value;
use dev_websocket_core::message::json::leaves_node;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::message::topics::TopicRules;
use serde_json::{Map, Value as Json, json};

/// The maximum nesting, because the engine gets no deeper values.
const MAX_DEPTH: usize = 64;

/// A message with its provenance and the settings in force.
pub struct Case<'a> {
    pub message: Value<'a>,
    pub origin: Provenance<'a>,
    pub rules: TopicRules,
    /// Keys that make no topic, as in the rules.
    pub excluded: Vec<String>,
    pub commitments: bool,
}

type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;
type Lines<'i, 'a> = &'i mut dyn Iterator<Item = &'a [u8]>;

/// Reads a case; any bytes are valid.
pub fn read(input: &[u8]) -> Case<'_> {
    let lines = || input.split(|byte| *byte == b'\n');
    let mut case = Case {
        message: Value::Null,
        origin: Provenance::default(),
        rules: Settings::default().topic_rules(),
        excluded: Settings::default().excluded_topic_keys,
        commitments: false,
    };
    let mut message = None;
    for line in lines().filter_map(|line| line.strip_prefix(b"$")) {
        let (key, value) = pair(line);
        let text = || String::from_utf8_lossy(value);
        match key {
            b"max" => case.rules.max_topics = text().parse().unwrap_or(64),
            b"excluded" => {
                let pattern = text().to_lowercase();
                case.rules.keys.exclude(&pattern);
                case.excluded.push(pattern);
            }
            b"commitments" => case.commitments = true,
            b"process" => case.origin.process = Some(text()),
            b"slot" => case.origin.slot = text().parse().ok(),
            b"hashpath" => case.origin.hashpath = Some(text()),
            b"path" => case.origin.path = Some(text()),
            b"assignment" => case.origin.assignment = Some(text()),
            b"source" => case.origin.source = Some(text()),
            b"from" => case.origin.from.push(text()),
            b"topics" => case.origin.topics = Some(value_of(value, &mut lines(), 0)),
            b"value" => message = Some(value_of(value, &mut lines(), 0)),
            _ => {}
        }
    }
    let mut lines = lines().filter(|line| !line.starts_with(b"$"));
    case.message = message.unwrap_or_else(|| Value::Map(entries(&mut lines, 0)));
    case
}

fn pair(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b'=') {
        Some(place) => (&line[..place], &line[place + 1..]),
        None => (line, &[]),
    }
}

/// Reads the entries up to the line that ends the map. Keys are unique, as the engine requires.
fn entries<'a>(lines: Lines<'_, 'a>, depth: usize) -> Entries<'a> {
    let mut entries = Entries::new();
    while let Some(line) = lines.next().filter(|line| *line != b"}") {
        let (key, value) = pair(line);
        let value = value_of(value, lines, depth + 1);
        if let Ok(key) = std::str::from_utf8(key)
            && !entries.iter().any(|(there, _)| there == key)
        {
            entries.push((key.into(), value));
        }
    }
    entries
}

fn value_of<'a>(line: &'a [u8], lines: Lines<'_, 'a>, depth: usize) -> Value<'a> {
    let rest = line.get(1..).unwrap_or_default();
    let text = || String::from_utf8_lossy(rest);
    match line.first() {
        Some(b'{' | b'[') if depth > MAX_DEPTH => Value::Omitted("depth"),
        Some(b'{') => Value::Map(entries(lines, depth)),
        Some(b'[') => {
            let mut items = Vec::new();
            while let Some(line) = lines.next().filter(|line| *line != b"]") {
                items.push(value_of(line, lines, depth + 1));
            }
            Value::List(items)
        }
        Some(b'#') => match text().parse() {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                let digits: String = text().chars().filter(char::is_ascii_digit).collect();
                Value::BigInteger(format!("-1{digits:0>20}"))
            }
        },
        Some(b'.') => match text().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => Value::Float(0.5),
        },
        Some(b'+') => Value::Bool(true),
        Some(b'-') => Value::Bool(false),
        Some(b'?') => Value::Null,
        Some(b'@') => Value::Link(text()),
        Some(b'!') => Value::Omitted("pid"),
        Some(b'\'') => text_or_bytes(rest),
        _ => text_or_bytes(line),
    }
}

fn text_or_bytes(bytes: &[u8]) -> Value<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.into()),
        Err(_) => Value::Binary(bytes),
    }
}

/// Returns a value without the entries that never leave the node.
pub fn without_kept<'a>(value: &Value<'a>, commitments: bool) -> Value<'a> {
    let inner = |value| without_kept(value, commitments);
    match value {
        Value::List(items) => Value::List(items.iter().map(inner).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .filter(|(key, _)| leaves_node(key, commitments))
                .map(|(key, value)| (key.clone(), inner(value)))
                .collect(),
        ),
        value => value.clone(),
    }
}

/// Returns the form of a value that docs/PROTOCOL.md promises to clients.
pub fn shown(value: &Value<'_>, commitments: bool) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Integer(number) if number.unsigned_abs() <= 1 << 53 => json!(number),
        Value::Integer(number) => json!(number.to_string()),
        Value::BigInteger(digits) => json!(digits),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Binary(bytes) => json!({"$base64url": URL_SAFE_NO_PAD.encode(bytes)}),
        Value::List(items) => items.iter().map(|item| shown(item, commitments)).collect(),
        Value::Map(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries {
                let lower = key.to_ascii_lowercase();
                if !lower.starts_with("priv") && (commitments || lower != "commitments") {
                    fields.insert(key.to_string(), shown(value, commitments));
                }
            }
            Json::Object(fields)
        }
        Value::Link(target) => json!({"$link": target}),
        Value::Omitted(kind) => json!({"$omitted": kind}),
    }
}
