//! How a message is written as JSON: the `data` of a frame.
//!
//! Keys and text stay as they are. What JSON cannot hold becomes an object with one `$` key, so that a reader can
//! tell it from text: `{"$base64url":".."}` for bytes that are not UTF-8, `{"$link":".."}` for a lazy link,
//! `{"$omitted":".."}` for what has no form at all. Integers beyond 2^53 become strings, because JavaScript would
//! round them. Keys that start with `priv` are the node's own and never leave it; `commitments` are left out unless
//! the settings ask for them, since they are often twenty times the message.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Value;

/// The largest magnitude that a double, and so JavaScript, holds without rounding.
const EXACT: u64 = 1 << 53;

/// A value on its way to JSON, with what is to be left out.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'v, 'a> {
    /// What is written.
    pub value: &'v Value<'a>,
    /// Whether `commitments` are written too.
    pub commitments: bool,
}

impl Serialize for Payload<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nested = |value| Payload {
            value,
            commitments: self.commitments,
        };
        match self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Integer(number) if number.unsigned_abs() <= EXACT => {
                serializer.serialize_i64(*number)
            }
            Value::Integer(number) => serializer.collect_str(number),
            Value::BigInteger(digits) => serializer.serialize_str(digits),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Binary(bytes) => {
                marker(serializer, "$base64url", &URL_SAFE_NO_PAD.encode(bytes))
            }
            Value::List(items) => serializer.collect_seq(items.iter().map(nested)),
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in entries
                    .iter()
                    .filter(|(key, _)| leaves_node(key, self.commitments))
                {
                    map.serialize_entry(key, &nested(value))?;
                }
                map.end()
            }
            Value::Link(target) => marker(serializer, "$link", target),
            Value::Omitted(kind) => marker(serializer, "$omitted", kind),
        }
    }
}

fn marker<S: Serializer>(serializer: S, key: &str, value: &str) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

/// Whether the value under `key` may be shown outside the node (`hb_private` of HyperBEAM keeps `priv*` back).
#[must_use]
pub fn leaves_node(key: &str, commitments: bool) -> bool {
    !is_private(key) && (commitments || !key.eq_ignore_ascii_case("commitments"))
}

/// Whether a key holds what only the node may see.
pub(crate) fn is_private(key: &str) -> bool {
    key.as_bytes()
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"priv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value<'_>) -> String {
        serde_json::to_string(&Payload {
            value,
            commitments: false,
        })
        .unwrap()
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
    fn what_json_cannot_hold_is_marked() {
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
        let with = serde_json::to_string(&Payload {
            value: &value,
            commitments: true,
        })
        .unwrap();
        assert_eq!(
            with,
            r#"{"commitments":null,"a":false,"list":[{"commitments":null,"a":false}]}"#
        );
    }
}
