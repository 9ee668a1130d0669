//! The node's own knowledge about a message, apart from the author's content.
//!
//! Only the embedder sets these values; tags never do, because a stranger must not be able to pose as a process.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::Value;
use super::json::{JsonWriter, TooLong};

/// The provenance of a message. Unknown fields are omitted from frames; by default all are unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance<'a> {
    /// The id of the process whose result the message is.
    pub process: Option<Cow<'a, str>>,
    /// The slot of that process.
    pub slot: Option<u64>,
    /// The hashpath of the state.
    pub hashpath: Option<Cow<'a, str>>,
    /// The path to GET the message from the node.
    pub path: Option<Cow<'a, str>>,
    /// The id of the computed assignment.
    pub assignment: Option<Cow<'a, str>>,
    /// The name of the component that published the message.
    pub source: Option<Cow<'a, str>>,
    /// The senders: the process that sent the message, or the addresses that signed it.
    pub from: Vec<Cow<'a, str>>,
    /// Additional explicit topics from the caller. They obey the rules of a `topic` tag: reserved topics are dropped.
    pub topics: Option<Value<'a>>,
    /// True if the message is the edge of its slot: a summary for clients of `format=edges`, with a topic of its own.
    pub is_edge: bool,
}

/// The provenance of a message that is published without one.
pub(crate) static UNKNOWN: Provenance<'static> = Provenance {
    process: None,
    slot: None,
    hashpath: None,
    path: None,
    assignment: None,
    source: None,
    from: Vec::new(),
    topics: None,
    is_edge: false,
};

impl<'a> Provenance<'a> {
    /// Returns the replacement for data that is too large: a marker, and the path to GET the data.
    pub(crate) fn in_place_of_data(&self) -> Value<'a> {
        let omitted = ("$omitted".into(), Value::Text("too_large".into()));
        let path = self
            .path
            .clone()
            .map(|path| ("$get".into(), Value::Text(path)));
        let omitted = Value::Map(std::iter::once(omitted).chain(path).collect());
        if !self.is_edge {
            return omitted;
        }
        let cursor = self.slot.unwrap_or_default().to_string();
        let cursor = ("cursor".into(), Value::Text(cursor.into()));
        Value::Map(vec![cursor, ("node".into(), omitted)])
    }

    /// Writes each known field, preceded by a comma.
    pub(crate) fn write(&self, writer: &mut JsonWriter<'_>) -> Result<(), TooLong> {
        let texts = [
            (r#","process":"#, &self.process),
            (r#","hashpath":"#, &self.hashpath),
            (r#","path":"#, &self.path),
            (r#","assignment":"#, &self.assignment),
            (r#","source":"#, &self.source),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                writer.raw(key)?;
                writer.text(text)?;
            }
        }
        if let Some(slot) = self.slot {
            writer.raw(r#","slot":"#)?;
            writer.raw(itoa::Buffer::new().format(slot))?;
        }
        if !self.from.is_empty() {
            writer.raw(r#","from":"#)?;
            writer.texts(self.from.iter().map(|from| &**from))?;
        }
        Ok(())
    }
}

/// Adds the provenance that [`Provenance::write`] wrote to a message, for matching by templates.
///
/// The node's path replaces a path of the author; any other field is added only if the message lacks the key. A single
/// sender becomes a text, so that a template can match it like a tag.
pub(crate) fn with_origin(message: Json, written: &str) -> Json {
    let Some(fields) = written.strip_prefix(',') else {
        return message;
    };
    let fields: Map<String, Json> =
        serde_json::from_str(&format!("{{{fields}}}")).unwrap_or_default();
    let mut message = match message {
        Json::Object(message) => message,
        // A message that is not an object has no keys to match.
        _ => Map::new(),
    };
    for (key, value) in fields {
        let is_same = |there: &String| there.eq_ignore_ascii_case(&key);
        if key == "path" {
            message.retain(|there, _| !is_same(there));
        } else if message.keys().any(is_same) {
            continue;
        }
        let value = match value {
            Json::Array(mut senders) if senders.len() == 1 => senders.pop().unwrap_or(Json::Null),
            value => value,
        };
        message.insert(key, value);
    }
    Json::Object(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(origin: &Provenance<'_>) -> String {
        let mut buffer = Vec::new();
        let mut writer = JsonWriter::new(&mut buffer, usize::MAX, false);
        origin.write(&mut writer).unwrap();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn unknown_fields_are_not_written() {
        assert_eq!(written(&Provenance::default()), "");
        assert_eq!(UNKNOWN, Provenance::default());
        let topics = Provenance {
            topics: Some(Value::Text("a".into())),
            ..Provenance::default()
        };
        assert_eq!(written(&topics), "");
    }

    #[test]
    fn every_field_is_written_under_its_name() {
        let origin = Provenance {
            process: Some("p\"".into()),
            slot: Some(u64::MAX),
            hashpath: Some("h/k".into()),
            path: Some("/a".into()),
            assignment: Some("as".into()),
            source: Some("push".into()),
            from: vec!["a".into(), "b".into()],
            topics: None,
            is_edge: false,
        };
        let fields: Json =
            serde_json::from_str(&format!("{{{}}}", &written(&origin)[1..])).unwrap();
        let expected = json!({
            "process": "p\"", "slot": u64::MAX, "hashpath": "h/k", "path": "/a", "assignment": "as", "source": "push",
            "from": ["a", "b"]
        });
        assert_eq!(fields, expected);
    }

    #[test]
    fn the_nodes_path_wins_and_other_fields_only_fill_in() {
        let origin = Provenance {
            process: Some("p".into()),
            slot: Some(7),
            path: Some("/real".into()),
            from: vec!["a".into()],
            ..Provenance::default()
        };
        let written = written(&origin);
        assert_eq!(
            with_origin(
                json!({"Path": "/posed", "PROCESS": "own", "x": [1]}),
                &written
            ),
            json!({"path": "/real", "PROCESS": "own", "x": [1], "slot": 7, "from": "a"})
        );
        assert_eq!(
            with_origin(json!("text"), &written),
            json!({"path": "/real", "process": "p", "slot": 7, "from": "a"})
        );
        assert_eq!(with_origin(json!("text"), ""), json!("text"));
    }

    #[test]
    fn missing_data_says_where_to_get_it() {
        let mut origin = Provenance::default();
        let text = |text: &'static str| Value::Text(text.into());
        let omitted = || ("$omitted".into(), text("too_large"));
        assert_eq!(origin.in_place_of_data(), Value::Map(vec![omitted()]));
        origin.path = Some("/a".into());
        assert_eq!(
            origin.in_place_of_data(),
            Value::Map(vec![omitted(), ("$get".into(), text("/a"))])
        );
        origin = Provenance {
            slot: Some(7),
            is_edge: true,
            ..Provenance::default()
        };
        assert_eq!(
            origin.in_place_of_data(),
            Value::Map(vec![
                ("cursor".into(), text("7")),
                ("node".into(), Value::Map(vec![omitted()]))
            ])
        );
    }
}
