//! What the server says, as far as the soak looks at it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::choice::Class;

/// Any frame of the JSON format.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    #[serde(default)]
    pub(crate) seq: u64,
    #[serde(borrow, default)]
    pub(crate) topics: Vec<&'a str>,
    #[serde(borrow, default)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) id: Option<u64>,
    #[serde(default)]
    pub(crate) reason: &'a str,
    #[serde(default)]
    pub(crate) dropped: u64,
    #[serde(default)]
    pub(crate) after: u64,
    #[serde(default)]
    pub(crate) next: u64,
    #[serde(default)]
    pub(crate) epoch: &'a str,
}

/// The data of a message that the sources of the soak cast.
#[derive(Debug, Deserialize)]
pub(crate) struct Data<'a> {
    topic: &'a str,
    kind: &'a str,
    /// Counts the messages of the topic.
    reference: u64,
    /// Counts the messages of the source.
    anchor: u64,
    /// The length of the text.
    nonce: usize,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// A message that was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) class: Class,
    pub(crate) of_topic: u64,
    pub(crate) of_source: u64,
}

impl Message {
    /// Reads the data of a message, which must be whole. One that is bare text has no topics.
    pub(crate) fn read(json: &str) -> Result<Self, String> {
        if json.starts_with('"') {
            return Ok(Self {
                class: Class::NONE,
                of_topic: 0,
                of_source: 0,
            });
        }
        let data: Data<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let class = Class::parse(data.topic, data.kind)
            .ok_or_else(|| format!("no message of the soak: {} {}", data.topic, data.kind))?;
        if data.data.len() != data.nonce || !is_padding(data.data.as_bytes()) {
            return Err(format!(
                "the text of {} {} is damaged: {} bytes of {}",
                data.topic,
                data.reference,
                data.data.len(),
                data.nonce
            ));
        }
        Ok(Self {
            class,
            of_topic: data.reference,
            of_source: data.anchor,
        })
    }

    /// Reads a message with its frame: the topics must be those of the data.
    pub(crate) fn of_frame(frame: &Frame<'_>) -> Result<Self, String> {
        let message = Self::read(frame.data.map_or("", RawValue::get))?;
        let claimed = match frame.topics.as_slice() {
            [] => Some(Class::NONE),
            [topic, kind, ..] => kind
                .strip_prefix("kind:")
                .and_then(|kind| Class::parse(topic, kind)),
            _ => None,
        };
        if claimed == Some(message.class) {
            Ok(message)
        } else {
            Err(format!("topics {:?} of {:?}", frame.topics, message.class))
        }
    }
}

/// The text of all messages is the beginning of this, over and over.
pub(crate) const PADDING: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

fn is_padding(text: &[u8]) -> bool {
    let (first, rest) = text.split_at(text.len().min(PADDING.len()));
    // What repeats itself equals itself one period later.
    PADDING.starts_with(first) && (rest.is_empty() || text[..rest.len()] == *rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_text_is_seen() {
        let text: Vec<u8> = PADDING.iter().copied().cycle().take(1000).collect();
        for length in [0, 1, 35, 36, 37, 999, 1000] {
            assert!(is_padding(&text[..length]));
        }
        for place in [0, 35, 36, 500, 999] {
            let mut damaged = text.clone();
            damaged[place] = b'!';
            assert!(!is_padding(&damaged), "{place}");
        }
    }

    #[test]
    fn the_topics_must_be_those_of_the_data() {
        let read = |topics: &str| {
            let json = format!(
                r#"{{"type":"message","seq":1,"topics":{topics},"data":{{"topic":"soak:3","kind":"k2","reference":4,"anchor":5,"nonce":1,"data":"a"}}}}"#
            );
            Message::of_frame(&serde_json::from_str(&json).unwrap())
        };
        assert_eq!(
            read(r#"["soak:3","kind:k2"]"#).unwrap().class,
            Class::new(3, 2)
        );
        assert!(read(r#"["soak:3","kind:k1"]"#).is_err());
        assert!(read("[]").is_err());
    }
}
