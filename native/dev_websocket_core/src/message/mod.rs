//! The engine's form of a message, independent of its source.
//!
//! The embedder turns its own terms into a [`Value`] that borrows from them. [`topics`] and [`json`] hold every rule
//! about the result of such a value; no other module knows a message key by name.

pub(crate) mod candidates;
pub(crate) mod fields;
mod from_json;
pub mod json;
pub(crate) mod numbers;
pub mod output_events;
pub(crate) mod process_id;
pub mod provenance;
pub(crate) mod tags;
pub mod topic;
pub mod topic_keys;
pub mod topics;
pub mod writer;

use std::borrow::Cow;

/// A value of a message; its text is borrowed from the message's owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The JSON value `null`.
    Null,
    /// The JSON value `true` or `false`.
    Bool(bool),
    /// An integer of up to 64 bits. The encoder writes it as a string beyond 2^53.
    Integer(i64),
    /// A larger integer as decimal digits with its sign. The encoder always writes it as a string.
    BigInteger(String),
    /// A finite float.
    Float(f64),
    /// UTF-8 text.
    Text(Cow<'a, str>),
    /// Bytes that are not UTF-8.
    Binary(&'a [u8]),
    /// A list of values.
    List(Vec<Value<'a>>),
    /// Entries of unique keys and their values, in the order of the source.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A lazy reference to a value that the node stores elsewhere, by its id or path.
    Link(Cow<'a, str>),
    /// A value without a JSON form (a process id, a fun, a value nested too deeply); the text names its kind.
    Omitted(&'static str),
}

impl<'a> Value<'a> {
    /// Estimates the length of its JSON without looking into nested values. The estimate sizes a buffer, so errors are
    /// harmless.
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

    /// Returns the entries of a map; empty for any other value.
    pub(crate) fn entries(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        match self {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
}
