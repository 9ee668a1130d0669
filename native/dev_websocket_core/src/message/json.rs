//! Encoding of a message as JSON, the `data` of a frame.
//!
//! Keys and text stay as they are. Values without a JSON form become an object with one `$` key, so that readers can
//! tell them from text:
//!
//! - `{"$base64url":".."}` for bytes that are not UTF-8,
//! - `{"$link":".."}` for a lazy link,
//! - `{"$omitted":".."}` for all other values without a JSON form.
//!
//! Integers beyond 2^53 become strings, because JavaScript would round them. Keys that start with `priv` are private
//! to the node and never leave it. The writer omits `commitments` unless the settings include them, because they are
//! often twenty times as large as the message.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Value;

/// The largest magnitude that a double, and so JavaScript, holds without rounding.
const EXACT: u64 = 1 << 53;

/// The error of a JSON that is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Appends messages as JSON to a buffer, up to a limit.
///
/// The writer handles structure, and text without escapes, which is nearly all text: serde_json inspects such text
/// byte by byte, which was half the cost of publishing. All other values go through serde_json.
#[derive(Debug)]
pub struct JsonWriter<'b> {
    buffer: &'b mut Vec<u8>,
    /// The maximum length of the buffer, in bytes.
    limit: usize,
    /// True if `commitments` are written too.
    commitments: bool,
}

impl<'b> JsonWriter<'b> {
    /// Makes a writer that appends at most `limit` bytes.
    pub fn new(buffer: &'b mut Vec<u8>, limit: usize, commitments: bool) -> Self {
        let limit = buffer.len().saturating_add(limit);
        Self {
            buffer,
            limit,
            commitments,
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// The call returns [`TooLong`] as soon as the limit is exceeded; the buffer then holds a part of the value.
    pub fn write(&mut self, value: &Value<'_>) -> Result<(), TooLong> {
        match value {
            Value::Null => self.push(b"null"),
            Value::Bool(true) => self.push(b"true"),
            Value::Bool(false) => self.push(b"false"),
            Value::Integer(number) if number.unsigned_abs() <= EXACT => self.scalar(number),
            Value::Integer(number) => self.text(&number.to_string()),
            Value::BigInteger(digits) => self.text(digits),
            Value::Float(number) => self.scalar(number),
            Value::Text(text) => self.text(text),
            Value::Binary(bytes) => self.marker("$base64url", &URL_SAFE_NO_PAD.encode(bytes)),
            Value::List(items) => self.list(items),
            Value::Map(entries) => self.map(entries),
            Value::Link(target) => self.marker("$link", target),
            Value::Omitted(kind) => self.marker("$omitted", kind),
        }
    }

    /// Writes a text with its quotes.
    ///
    /// # Errors
    /// The call fails like [`Self::write`].
    pub fn text(&mut self, text: &str) -> Result<(), TooLong> {
        if needs_escape(text.as_bytes()) {
            return self.scalar(text);
        }
        self.parts([b"\"", text.as_bytes(), b"\""])
    }

    /// Writes a key of a map with the comma before it and the colon behind it.
    pub(crate) fn key(&mut self, key: &str, needs_comma: bool) -> Result<(), TooLong> {
        let comma: &[u8] = if needs_comma { b"," } else { b"" };
        if needs_escape(key.as_bytes()) {
            self.push(comma)?;
            self.scalar(key)?;
            return self.push(b":");
        }
        self.parts([comma, b"\"", key.as_bytes(), b"\":"])
    }

    /// Writes a text that is already JSON.
    pub(crate) fn raw(&mut self, json: &str) -> Result<(), TooLong> {
        self.push(json.as_bytes())
    }

    /// Writes a list of texts.
    pub(crate) fn texts<'t>(
        &mut self,
        texts: impl Iterator<Item = &'t str>,
    ) -> Result<(), TooLong> {
        self.push(b"[")?;
        for (place, text) in texts.enumerate() {
            self.separate(place)?;
            self.text(text)?;
        }
        self.push(b"]")
    }

    fn list(&mut self, items: &[Value<'_>]) -> Result<(), TooLong> {
        self.push(b"[")?;
        for (place, item) in items.iter().enumerate() {
            self.separate(place)?;
            self.write(item)?;
        }
        self.push(b"]")
    }

    fn map(&mut self, entries: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), TooLong> {
        let commitments = self.commitments;
        let shown = entries
            .iter()
            .filter(|(key, _)| leaves_node(key, commitments));
        self.push(b"{")?;
        for (place, (key, value)) in shown.enumerate() {
            self.key(key, place > 0)?;
            self.write(value)?;
        }
        self.push(b"}")
    }

    fn marker(&mut self, key: &str, value: &str) -> Result<(), TooLong> {
        self.push(b"{")?;
        self.text(key)?;
        self.push(b":")?;
        self.text(value)?;
        self.push(b"}")
    }

    fn separate(&mut self, place: usize) -> Result<(), TooLong> {
        if place > 0 { self.push(b",") } else { Ok(()) }
    }

    fn scalar(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), TooLong> {
        // Writing to memory cannot fail. Escapes may exceed the limit by one text before this check.
        let _ = serde_json::to_writer(&mut *self.buffer, value);
        if self.buffer.len() > self.limit {
            Err(TooLong)
        } else {
            Ok(())
        }
    }

    /// Appends several parts after one check of the limit.
    #[inline]
    fn parts<const N: usize>(&mut self, parts: [&[u8]; N]) -> Result<(), TooLong> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > self.limit.saturating_sub(self.buffer.len()) {
            return Err(TooLong);
        }
        self.buffer.reserve(length);
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if bytes.len() > self.limit.saturating_sub(self.buffer.len()) {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

/// Returns whether a text needs escapes in JSON (RFC 8259 section 7). The loop has no early exit so that the compiler
/// can vectorize it.
fn needs_escape(text: &[u8]) -> bool {
    let escaped = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    text.chunks(256).any(|chunk| {
        chunk
            .iter()
            .fold(false, |found, byte| found | escaped(byte))
    })
}

/// Returns the JSON key for a key that is not UTF-8.
#[must_use]
pub fn binary_key(key: &[u8]) -> String {
    format!("$base64url:{}", URL_SAFE_NO_PAD.encode(key))
}

/// Returns whether the value of `key` may leave the node (`hb_private` of HyperBEAM keeps `priv*` back).
#[must_use]
pub fn leaves_node(key: &str, commitments: bool) -> bool {
    !is_private(key) && (commitments || !key.eq_ignore_ascii_case("commitments"))
}

/// Returns whether a key is private to the node.
pub(crate) fn is_private(key: &str) -> bool {
    key.as_bytes()
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"priv"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json_with(value: &Value<'_>, commitments: bool) -> String {
        let mut buffer = Vec::new();
        JsonWriter::new(&mut buffer, usize::MAX, commitments)
            .write(value)
            .unwrap();
        String::from_utf8(buffer).unwrap()
    }

    fn json(value: &Value<'_>) -> String {
        json_with(value, false)
    }

    fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    #[test]
    fn scalars_keep_their_kind() {
        for (value, expected) in [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Integer(-7), "-7"),
            (Value::Float(2.0), "2.0"),
            (Value::Float(1.0e-12), "1e-12"),
            (Value::Float(f64::MAX), "1.7976931348623157e308"),
            (
                Value::Text("Grüße 🚀 \"x\" \u{0}".into()),
                r#""Grüße 🚀 \"x\" \u0000""#,
            ),
        ] {
            assert_eq!(json(&value).replace("e+", "e"), expected);
        }
    }

    #[test]
    fn integers_beyond_two_to_53_become_strings() {
        assert_eq!(
            json(&Value::Integer(9_007_199_254_740_991)),
            "9007199254740991"
        );
        assert_eq!(
            json(&Value::Integer(9_007_199_254_740_992)),
            "9007199254740992"
        );
        assert_eq!(
            json(&Value::Integer(9_007_199_254_740_993)),
            "\"9007199254740993\""
        );
        assert_eq!(
            json(&Value::Integer(-9_007_199_254_740_993)),
            "\"-9007199254740993\""
        );
        assert_eq!(json(&Value::Integer(i64::MIN)), "\"-9223372036854775808\"");
        assert_eq!(
            json(&Value::BigInteger("1606938044258990275541962092341".into())),
            "\"1606938044258990275541962092341\""
        );
    }

    #[test]
    fn values_without_a_json_form_are_marked() {
        assert_eq!(
            json(&Value::Binary(&[0, 255, 254])),
            r#"{"$base64url":"AP_-"}"#
        );
        assert_eq!(
            json(&Value::Link("abc/key".into())),
            r#"{"$link":"abc/key"}"#
        );
        assert_eq!(json(&Value::Omitted("pid")), r#"{"$omitted":"pid"}"#);
    }

    #[test]
    fn private_keys_and_commitments_stay_behind_at_every_depth() {
        let inner = || {
            vec![
                ("priv", Value::Integer(1)),
                ("Private-Note", Value::Null),
                ("commitments", Value::Null),
                ("a", Value::Bool(false)),
            ]
        };
        let value = map([inner(), vec![("list", Value::List(vec![map(inner())]))]].concat());
        assert_eq!(json(&value), r#"{"a":false,"list":[{"a":false}]}"#);
        let with = json_with(&value, true);
        assert_eq!(
            with,
            r#"{"commitments":null,"a":false,"list":[{"commitments":null,"a":false}]}"#
        );
    }

    #[test]
    fn the_limit_holds_wherever_it_falls() {
        let value = map(vec![
            ("a", Value::Text("x\ny".into())),
            ("b", Value::List(vec![Value::Integer(10), Value::Null])),
        ]);
        let whole = json(&value);
        for limit in 0..=whole.len() + 1 {
            let mut buffer = b"kept".to_vec();
            let result = JsonWriter::new(&mut buffer, limit, false).write(&value);
            assert_eq!(result.is_ok(), limit >= whole.len(), "{limit}");
            assert!(buffer.starts_with(b"kept"));
        }
    }

    proptest! {
        #[test]
        fn texts_and_keys_are_what_serde_json_reads(text in any::<String>(), key in any::<String>()) {
            prop_assume!(leaves_node(&key, false));
            let written = json(&map(vec![(&key, Value::Text(text.as_str().into()))]));
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, serde_json::json!({ key: text }));
        }
    }
}
