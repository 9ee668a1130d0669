//! Conversion of JSON integers beyond 64 bits to the text of their digits.
//!
//! A message has such integers as text, so templates must compare them as text. The parser would read them as floats.

use std::borrow::Cow;

/// Integers of up to this many digits fit 64 bits.
const FITTING_DIGITS: usize = 18;

/// Returns the same JSON with integers beyond 64 bits as strings.
pub(crate) fn large_as_text(json: &str) -> Cow<'_, str> {
    let mut written = String::new();
    // Input up to this position is written.
    let mut done = 0;
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => end_of_text(bytes, at),
            b'-' | b'0'..=b'9' => end_of_number(bytes, at),
            _ => at + 1,
        };
        if bytes[at] != b'"' && end - at > FITTING_DIGITS && is_large(&json[at..end]) {
            written.push_str(&json[done..at]);
            written.push('"');
            written.push_str(&json[at..end]);
            written.push('"');
            done = end;
        }
        at = end;
    }
    if done == 0 {
        return Cow::Borrowed(json);
    }
    written.push_str(&json[done..]);
    Cow::Owned(written)
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = bytes[start..].iter().position(|byte| !is_number(byte));
    length.map_or(bytes.len(), |length| start + length)
}

/// Returns whether a number is an integer in JSON notation that fits no type of 64 bits.
fn is_large(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
        && number.parse::<i64>().is_err()
        && number.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    #[test]
    fn integers_beyond_64_bits_are_text() {
        for (json, expected) in [
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "\"18446744073709551616\""),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "\"-9223372036854775809\""),
            ("[1,99999999999999999999]", "[1,\"99999999999999999999\"]"),
            ("99999999999999999999.5", "99999999999999999999.5"),
            ("1e99999999999999999999", "1e99999999999999999999"),
            (
                r#"{"99999999999999999999":"\"99999999999999999999"}"#,
                r#"{"99999999999999999999":"\"99999999999999999999"}"#,
            ),
            (
                r#"{"a\\":99999999999999999999}"#,
                r#"{"a\\":"99999999999999999999"}"#,
            ),
            ("099999999999999999999", "099999999999999999999"),
            ("\"99999999999999999999", "\"99999999999999999999"),
            ("\"\\", "\"\\"),
            ("-", "-"),
        ] {
            assert_eq!(large_as_text(json), expected);
        }
    }

    proptest! {
        #[test]
        fn json_stays_json_and_other_values_the_same(json in "[\\[{\"a:,0-9.e\\\\}\\] -]{0,40}") {
            let written = large_as_text(&json);
            let (before, after) = (serde_json::from_str::<Json>(&json), serde_json::from_str::<Json>(&written));
            if let Ok(before) = before {
                let after = after.unwrap();
                if written == json {
                    prop_assert_eq!(before, after);
                }
            } else if after.is_ok() {
                // The parser rejects numbers of hundreds of digits.
                prop_assert!(written != json);
            }
        }
    }
}
