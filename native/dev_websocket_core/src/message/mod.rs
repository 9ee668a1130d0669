//! A message as the engine sees it, whoever hands it over.
//!
//! The embedder turns its own terms into a [`Value`] that borrows from them; [`topics`] and [`json`] hold every rule
//! about what such a value becomes. No other place knows a message key by name.

pub(crate) mod fields;
mod from_json;
pub mod json;
pub(crate) mod numbers;
pub(crate) mod process_id;
pub mod provenance;
pub(crate) mod tags;
pub mod topic;
pub mod topics;

use std::borrow::Cow;

/// One value of a message, borrowing text from where the message lives.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// JSON `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of up to 64 bits. Beyond 2^53 it is written as a string.
    Integer(i64),
    /// A larger integer in decimal digits, with its sign. Always written as a string.
    BigInteger(String),
    /// A finite float.
    Float(f64),
    /// UTF-8 text.
    Text(Cow<'a, str>),
    /// Bytes that are not UTF-8.
    Binary(&'a [u8]),
    /// A sequence.
    List(Vec<Value<'a>>),
    /// Keys and values in the order they were read. Keys are unique.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A lazy reference to a value that the node stores elsewhere, by its id or path.
    Link(Cow<'a, str>),
    /// A value with no JSON form (a process id, a fun, what lies too deep); the text names its kind.
    Omitted(&'static str),
}

impl<'a> Value<'a> {
    /// About how long its JSON is, without looking into anything nested: a hint for memory, never wrong in a way that
    /// matters.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Value::Text(text) => text.len() + 3,
            Value::Binary(bytes) => bytes.len() * 4 / 3 + 24,
            Value::Map(entries) => {
                entries
                    .iter()
                    .map(|(key, value)| key.len() + 4 + value.shallow_size_hint())
                    .sum::<usize>()
                    + 2
            }
            _ => self.shallow_size_hint(),
        }
    }

    fn shallow_size_hint(&self) -> usize {
        match self {
            Value::Map(entries) => entries.len() * 32,
            Value::List(items) => items.len() * 16,
            Value::Text(_) | Value::Binary(_) => self.size_hint(),
            _ => 20,
        }
    }

    /// The entries of a map, nothing for any other kind.
    pub(crate) fn entries(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        match self {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
}
