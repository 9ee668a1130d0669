//! The query of a WebSocket URL: what a client subscribes to by connecting.
//!
//! Values are percent-decoded first, then split on commas, trimmed, and empties dropped. Parameters that mean nothing
//! here are told back to the client rather than refused, so that a URL can carry what its owner needs.

use percent_encoding::percent_decode;

use super::refusal::Refusal;
use crate::shard::command::Format;
use crate::subscription::Subscription;

/// What a URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) format: Format,
    /// Names of parameters without a meaning, at most [`MAX_IGNORED`].
    pub(crate) ignored: Vec<String>,
}

/// Unknown parameters that are told back; beyond that nobody reads them.
const MAX_IGNORED: usize = 16;

impl Query {
    /// Reads the part of a URL behind the question mark.
    ///
    /// # Errors
    /// A [`Refusal`] with status 400 that names the parameter.
    pub(crate) fn parse(query: &str, max_topics: usize) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = decode(name, "a parameter's name")?;
            let value = decode(value, &name)?;
            match name.as_str() {
                "topic" => parsed.add_topics(&value, max_topics)?,
                "format" => {
                    parsed.format = match value.as_str() {
                        "json" => Format::Json,
                        "raw" => Format::Raw,
                        _ => {
                            return Err(Refusal::bad_request(
                                "bad_format",
                                "format must be json or raw",
                            ));
                        }
                    }
                }
                _ if parsed.ignored.len() < MAX_IGNORED => parsed.ignored.push(name),
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn add_topics(&mut self, value: &str, max_topics: usize) -> Result<(), Refusal> {
        for name in value
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let subscription = Subscription::parse(name)
                .map_err(|error| Refusal::bad_request("bad_topic", format!("topic: {error}")))?;
            if self.subscriptions.contains(&subscription) {
                continue;
            }
            if self.subscriptions.len() == max_topics {
                return Err(Refusal::bad_request(
                    "too_many_topics",
                    format!("topic: a connection has at most {max_topics} topics"),
                ));
            }
            self.subscriptions.push(subscription);
        }
        Ok(())
    }
}

/// Decodes as browsers encode: `+` is a space (application/x-www-form-urlencoded).
fn decode(text: &str, what: &str) -> Result<String, Refusal> {
    let bad = |problem: &str| Refusal::bad_request("bad_encoding", format!("{what}: {problem}"));
    let bytes = text.as_bytes();
    for (place, _) in text.match_indices('%') {
        let digits = bytes
            .get(place + 1..place + 3)
            .ok_or_else(|| bad("a % needs two hexadecimal digits"))?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad("a % needs two hexadecimal digits"));
        }
    }
    let spaced = text.replace('+', " ");
    match percent_decode(spaced.as_bytes()).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(bad("not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(query: &str) -> Vec<String> {
        Query::parse(query, 128)
            .unwrap()
            .subscriptions
            .iter()
            .map(|subscription| subscription.name().to_owned())
            .collect()
    }

    fn refusal(query: &str) -> String {
        format!("{:?}", Query::parse(query, 3).unwrap_err())
    }

    #[test]
    fn topics_are_decoded_split_trimmed_and_collected() {
        assert_eq!(names("topic=a,b"), ["a", "b"]);
        assert_eq!(
            names("topic=a&topic=%20b%20,,c%2Cd&topic=a"),
            ["a", "b", "c", "d"]
        );
        assert_eq!(names("topic=action%3ATransfer"), ["action:Transfer"]);
        assert_eq!(names("topic=a+b&topic=a%2Bb"), ["a b", "a+b"]);
        assert_eq!(names("topic=gr%C3%BC%C3%9Fe"), ["grüße"]);
        assert_eq!(names("topic=*"), ["*"]);
        assert_eq!(names("topic=&topic=,&&"), Vec::<String>::new());
        assert_eq!(names(""), Vec::<String>::new());
    }

    #[test]
    fn unknown_parameters_are_told_back() {
        let query = Query::parse("token=x&topic=a&format=raw&utm", 128).unwrap();
        assert_eq!(
            (query.ignored, query.format),
            (vec!["token".to_owned(), "utm".to_owned()], Format::Raw)
        );
    }

    #[test]
    fn bad_queries_name_the_parameter() {
        for (query, code, name) in [
            ("topic=%zz", "bad_encoding", "topic"),
            ("topic=%2", "bad_encoding", "topic"),
            ("topic=%ff", "bad_encoding", "topic"),
            ("%f=1", "bad_encoding", "name"),
            ("topic=a%00b", "bad_topic", "topic"),
            ("format=xml", "bad_format", "format"),
            ("topic=a,b,c,d", "too_many_topics", "topic"),
        ] {
            let refusal = refusal(query);
            assert!(
                refusal.contains(code) && refusal.contains(name),
                "{query}: {refusal}"
            );
        }
        assert!(refusal(&format!("topic={}", "t".repeat(256))).contains("bad_topic"));
        assert_eq!(names("topic=a,b,c").len(), 3);
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in any::<String>()) {
            let _ = Query::parse(&query, 8);
        }
    }
}
