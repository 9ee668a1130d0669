//! The query of a WebSocket URL: the subscriptions that a client makes by connecting.
//!
//! Values are first percent-decoded, then split at commas and trimmed, and empty ones are dropped. Unknown parameters
//! are reported to the client instead of being refused, so that a URL can carry data for others.

use std::collections::HashSet;

use percent_encoding::percent_decode;

use super::refusal::Refusal;
use crate::error_code::ErrorCode;
use crate::message::topic::TopicError;
use crate::settings::Settings;
use crate::subscription::template::Template;
use crate::subscription::{Quota, Subscription, Tally};
use crate::wire::control::regex;
use crate::wire::cursor::{From, Since};
use crate::wire::format::{Format, SlowPolicy};
use crate::wire::slots::{SlotStart, SlotStartError};

/// The parsed query of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) format: Format,
    pub(crate) slow: SlowPolicy,
    /// Cursor of a replay; without one, the stream begins with the next publication.
    pub(crate) from: Option<From>,
    /// Start of a slot replay.
    pub(crate) slots: Option<SlotStart>,
    /// Value of the parameter that stands for `Last-Event-ID` in a URL.
    pub(crate) last_event_id: Option<String>,
    /// Names of unknown parameters, at most [`MAX_IGNORED`].
    pub(crate) ignored: Vec<String>,
}

/// Parameter in which libraries for server-sent events send their cursor.
pub(super) const LAST_EVENT_PARAMETER: &str = "lastEventId";

/// Limit on the unknown parameters that are reported; the others are ignored.
const MAX_IGNORED: usize = 16;

impl Query {
    /// Parses the part of a URL after the question mark.
    ///
    /// # Errors
    /// A [`Refusal`] with status 400 that names the parameter.
    pub(crate) fn parse(query: &str, settings: &Settings) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let (mut since, mut last, mut slow) = (None, None, None);
        let (mut processes, mut from_slot) = (Vec::new(), None);
        let mut asked = Asked::new(settings);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = decode(name, "a parameter's name")?;
            let value = decode(value, &name)?;
            match name.as_str() {
                "topic" => {
                    for name in value
                        .split(',')
                        .map(str::trim)
                        .filter(|name| !name.is_empty())
                    {
                        let subscription = Subscription::parse(name)
                            .map_err(|error| bad(ErrorCode::BadTopic, "topic", &error))?;
                        asked.add(subscription)?;
                    }
                }
                "process" => {
                    let id = value.trim();
                    if id.is_empty() {
                        return Err(bad(ErrorCode::BadTopic, "process", &TopicError::Empty));
                    }
                    // The parameter is short for a topic, and so for a glob as well.
                    let subscription = Subscription::parse(&format!("process:{id}"))
                        .map_err(|error| bad(ErrorCode::BadTopic, "process", &error))?;
                    asked.add(subscription)?;
                    processes.push(id.to_owned());
                }
                "from-slot" => {
                    from_slot = Some(SlotStart::parse_slot(&value).map_err(no_slots)?);
                }
                "match" => {
                    let subscription =
                        regex(&value).map_err(|(code, message)| Refusal::of(code, message))?;
                    asked.add(subscription)?;
                }
                "template" => {
                    let template = Template::parse(&value)
                        .map_err(|error| bad(ErrorCode::BadTemplate, "template", &error))?;
                    asked.add(Subscription::Template(template))?;
                }
                "since" => {
                    since =
                        Some(Since::parse(&value).map_err(|error| {
                            Refusal::of(ErrorCode::BadSince, error.to_string())
                        })?);
                }
                "last" => last = Some(read_last(&value, settings.max_last)?),
                "slow" => slow = Some(read_slow(&value)?),
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
                LAST_EVENT_PARAMETER => parsed.last_event_id = Some(value),
                _ if parsed.ignored.len() < MAX_IGNORED => parsed.ignored.push(name),
                _ => {}
            }
        }
        parsed.subscriptions = asked.subscriptions;
        if let Some(slot) = from_slot {
            let has_cursor = since.is_some() || last.is_some();
            let slots = slot_start(&processes, slot, parsed.format, has_cursor);
            parsed.slots = Some(slots.map_err(no_slots)?);
        }
        parsed.from = match (since, last) {
            (Some(_), Some(_)) => {
                let message = "last: cannot be combined with since";
                return Err(Refusal::of(ErrorCode::BadLast, message));
            }
            (Some(_), None) if parsed.format == Format::Raw => {
                let message = "since: not available with format=raw, which has no gap frames";
                return Err(Refusal::of(ErrorCode::BadSince, message));
            }
            (since, last) => since.map(From::Since).or(last.map(From::Last)),
        };
        parsed.slow = match (slow, parsed.format) {
            (Some(SlowPolicy::Gap), Format::Raw) => {
                let message = "slow: gap is not available with format=raw, which has no gap frames";
                return Err(Refusal::of(ErrorCode::BadSlow, message));
            }
            (None, Format::Raw) => SlowPolicy::Close,
            (slow, _) => slow.unwrap_or_default(),
        };
        Ok(parsed)
    }

    /// Returns the query for a response with WebSocket frames, where `lastEventId` has no meaning.
    pub(super) fn into_frames(mut self) -> Self {
        if self.last_event_id.take().is_some() && self.ignored.len() < MAX_IGNORED {
            self.ignored.push(LAST_EVENT_PARAMETER.to_owned());
        }
        self
    }

    /// Returns the query for a response with server-sent events.
    pub(super) fn into_events(mut self) -> Result<Self, Refusal> {
        if self.format == Format::Raw {
            let message = "format: server-sent events are always json; raw needs a WebSocket";
            return Err(Refusal::bad_request("bad_format", message));
        }
        self.format = Format::Events;
        Ok(self)
    }
}

/// The subscriptions of a URL, without duplicates and within the limits of a connection.
struct Asked {
    subscriptions: Vec<Subscription>,
    distinct: HashSet<Subscription>,
    tally: Tally,
}

impl Asked {
    fn new(settings: &Settings) -> Self {
        Self {
            subscriptions: Vec::new(),
            distinct: HashSet::new(),
            tally: Tally::new(Quota::of(settings)),
        }
    }

    fn add(&mut self, subscription: Subscription) -> Result<(), Refusal> {
        if self.distinct.insert(subscription.clone()) {
            self.tally
                .add(subscription.kind())
                .map_err(|error| Refusal::of(error.code, error.message))?;
            self.subscriptions.push(subscription);
        }
        Ok(())
    }
}

fn bad(code: ErrorCode, parameter: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::of(code, format!("{parameter}: {error}"))
}

fn no_slots(error: SlotStartError) -> Refusal {
    Refusal::of(error.code(), error.to_string())
}

/// Returns the start of a slot replay, which needs exactly one process.
fn slot_start(
    processes: &[String],
    slot: u64,
    format: Format,
    has_cursor: bool,
) -> Result<SlotStart, SlotStartError> {
    let (process, others) = processes.split_first().ok_or(SlotStartError::NoProcess)?;
    if others.iter().any(|other| other != process) {
        return Err(SlotStartError::SeveralProcesses);
    }
    if has_cursor {
        return Err(SlotStartError::WithCursor);
    }
    if format == Format::Raw {
        return Err(SlotStartError::Raw);
    }
    SlotStart::new(process, slot)
}

fn read_last(value: &str, limit: u64) -> Result<usize, Refusal> {
    match value.parse::<usize>() {
        Ok(count) if count as u64 <= limit => Ok(count),
        _ => {
            let message = format!("last: must be a number from 0 to {limit}");
            Err(Refusal::of(ErrorCode::BadLast, message))
        }
    }
}

fn read_slow(value: &str) -> Result<SlowPolicy, Refusal> {
    match value {
        "gap" => Ok(SlowPolicy::Gap),
        "latest" => Ok(SlowPolicy::Latest),
        "close" => Ok(SlowPolicy::Close),
        _ => {
            let message = "slow: must be gap, latest or close";
            Err(Refusal::of(ErrorCode::BadSlow, message))
        }
    }
}

/// Decodes as browsers encode: `+` is a space (application/x-www-form-urlencoded).
fn decode(text: &str, what: &str) -> Result<String, Refusal> {
    let bad = |problem: &str| Refusal::bad_request("bad_encoding", format!("{what}: {problem}"));
    let bytes = text.as_bytes();
    for (place, _) in text.match_indices('%') {
        let digits = bytes
            .get(place + 1..place + 3)
            .ok_or_else(|| bad("% must be followed by two hexadecimal digits"))?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad("% must be followed by two hexadecimal digits"));
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

    const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

    fn names(query: &str) -> Vec<String> {
        Query::parse(query, &Settings::default())
            .unwrap()
            .subscriptions
            .iter()
            .map(|subscription| subscription.shown().as_str().unwrap().to_owned())
            .collect()
    }

    fn refusal(query: &str) -> String {
        let settings = Settings {
            max_topics_per_connection: 3,
            max_regexes_per_connection: 1,
            max_templates_per_connection: 1,
            max_last: 10,
            ..Settings::default()
        };
        format!("{:?}", Query::parse(query, &settings).unwrap_err())
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
        assert_eq!(names("process=+a&topic=process:a"), ["process:a"]);
        assert_eq!(names("process=a*&topic=process:a*"), ["process:a*"]);
        assert_eq!(names("topic=&topic=,&&"), Vec::<String>::new());
        assert_eq!(names(""), Vec::<String>::new());
    }

    #[test]
    fn unknown_parameters_are_told_back() {
        let query = Query::parse("token=x&topic=a&format=raw&utm", &Settings::default()).unwrap();
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
            ("topic=a%00b", "BadTopic", "topic"),
            ("format=xml", "bad_format", "format"),
            ("topic=a,b,c,d", "TooManyTopics", "topic"),
            ("process=", "BadTopic", "process"),
            ("match=(", "BadRegex", "match"),
            ("match=%5Cw%7B1000%7D", "RegexTooBig", "match"),
            ("match=a&match=b", "TooManyMatches", "match"),
            ("template=x", "BadTemplate", "template"),
            ("template=%7B%7D", "BadTemplate", "template"),
            (
                "template=%7B%22a%22:1%7D&template=%7B%22a%22:2%7D",
                "TooManyTemplates",
                "template",
            ),
            ("since=x", "BadSince", "since"),
            ("since=1&format=raw", "BadSince", "since"),
            ("last=11", "BadLast", "last"),
            ("last=-1", "BadLast", "last"),
            ("since=1&last=1", "BadLast", "last"),
            ("slow=never", "BadSlow", "slow"),
            ("from-slot=1", "BadFromSlot", "process"),
            ("process=x&from-slot=1", "BadProcess", "process"),
            (
                &format!("process={ID}&from-slot=x"),
                "BadFromSlot",
                "from-slot",
            ),
            (
                &format!("process={ID}&from-slot=-1"),
                "BadFromSlot",
                "from-slot",
            ),
            (
                &format!("process={ID}&from-slot="),
                "BadFromSlot",
                "from-slot",
            ),
            (
                &format!("process={ID}&from-slot=18446744073709551615"),
                "BadFromSlot",
                "from-slot",
            ),
            (
                &format!("process={ID}&process={}&from-slot=1", ID.to_lowercase()),
                "BadProcess",
                "single",
            ),
            (
                &format!("process={ID}&from-slot=1&since=1"),
                "BadFromSlot",
                "since",
            ),
            (
                &format!("process={ID}&from-slot=1&last=1"),
                "BadFromSlot",
                "last",
            ),
            (
                &format!("process={ID}&from-slot=1&format=raw"),
                "BadFromSlot",
                "raw",
            ),
            ("slow=gap&format=raw", "BadSlow", "slow"),
        ] {
            let refusal = refusal(query);
            assert!(
                refusal.contains(code) && refusal.contains(name),
                "{query}: {refusal}"
            );
        }
        assert!(refusal(&format!("topic={}", "t".repeat(256))).contains("BadTopic"));
        assert_eq!(names("topic=a,b,c").len(), 3);
    }

    #[test]
    fn a_slot_replay_is_of_one_process() {
        let query = |text: &str| Query::parse(text, &Settings::default()).unwrap();
        let start = SlotStart::new(ID, 7).unwrap();
        for text in [
            format!("process={ID}&from-slot=7"),
            format!("from-slot=7&process={ID}&process=+{ID}&template=%7B%22a%22:1%7D&topic=b"),
        ] {
            assert_eq!(query(&text).slots, Some(start), "{text}");
        }
        assert_eq!(
            names(&format!("process={ID}&from-slot=7")),
            [format!("process:{ID}")]
        );
        assert_eq!(query(&format!("process={ID}")).slots, None);
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in any::<String>()) {
            let _ = Query::parse(&query, &Settings::default());
        }
    }
}
