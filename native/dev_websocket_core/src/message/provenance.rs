//! What the node itself knows about a message, beside what its author wrote.
//!
//! Nothing here is read from tags: a stranger must not be able to pose as a process. Only the embedder fills it in.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::Value;
use super::json::{JsonWriter, TooLong};

/// Where a message comes from. What is not known is left out; the default is nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance<'a> {
    /// The process whose result the message is, by its id.
    pub process: Option<Cow<'a, str>>,
    /// The slot of that process.
    pub slot: Option<u64>,
    /// The hashpath of the state.
    pub hashpath: Option<Cow<'a, str>>,
    /// Where to GET the message from the node.
    pub path: Option<Cow<'a, str>>,
    /// The id of the assignment that was computed.
    pub assignment: Option<Cow<'a, str>>,
    /// What handed the message over.
    pub source: Option<Cow<'a, str>>,
    /// Who it is from: the process that sent it, or the addresses that signed it.
    pub from: Vec<Cow<'a, str>>,
    /// Further explicit topics, named by the caller and read like a `topic` tag: reserved ones are dropped.
    pub topics: Option<Value<'a>>,
}

/// Of a message that is published without an origin.
pub(crate) static UNKNOWN: Provenance<'static> = Provenance {
    process: None,
    slot: None,
    hashpath: None,
    path: None,
    assignment: None,
    source: None,
    from: Vec::new(),
    topics: None,
};

impl<'a> Provenance<'a> {
    /// What stands in place of data that is too large: that it is missing, and where to GET it.
    pub(crate) fn in_place_of_data(&self) -> Value<'a> {
        let omitted = ("$omitted".into(), Value::Text("too_large".into()));
        let path = self
            .path
            .clone()
            .map(|path| ("$get".into(), Value::Text(path)));
        Value::Map(std::iter::once(omitted).chain(path).collect())
    }

    /// Writes each known field with a comma before it.
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

/// A message as templates see it: with what the node knows of it, written by [`Provenance::write`].
///
/// The node's path wins over one that the author wrote, any other field stands only where the message has no such key.
/// One sender counts as a text, so that a template can ask for it as it would for a tag.
pub(crate) fn with_origin(message: Json, written: &str) -> Json {
    let Some(fields) = written.strip_prefix(',') else {
        return message;
    };
    let fields: Map<String, Json> =
        serde_json::from_str(&format!("{{{fields}}}")).unwrap_or_default();
    let mut message = match message {
        Json::Object(message) => message,
        // It has no keys of its own to ask for.
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
    fn what_is_not_known_is_not_written() {
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
    }
}
