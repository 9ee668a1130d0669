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
                        "edges" => Format::Edges,
                        _ => return Err(bad_format("format must be json, raw or edges")),
                    }
                }
                LAST_EVENT_PARAMETER => parsed.last_event_id = Some(value),
                _ if parsed.ignored.len() < MAX_IGNORED => parsed.ignored.push(name),
                _ => {}
            }
        }
        parsed.subscriptions = asked.subscriptions;
        if parsed.format == Format::Edges {
            if since.is_some() || last.is_some() {
                let message = "format=edges takes from-slot, and neither since nor last";
                return Err(bad_format(message));
            }
            parsed.subscriptions = edges_of(&processes, &parsed.subscriptions)?;
        }
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
            // A client of edges comes back with the slot behind the last one that it has.
            (None, Format::Raw | Format::Edges) => SlowPolicy::Close,
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
            let message = "format: server-sent events are json or edges; raw needs a WebSocket";
            return Err(bad_format(message));
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

fn bad_format(message: &'static str) -> Refusal {
    Refusal::bad_request("bad_format", message)
}

/// Returns the subscriptions to the edges of these processes. There must be no other subscriptions.
fn edges_of(
    processes: &[String],
    subscriptions: &[Subscription],
) -> Result<Vec<Subscription>, Refusal> {
    let mut edges: Vec<Subscription> = Vec::new();
    for process in processes {
        let message = "process must be an id of 43 characters with format=edges";
        let subscription = Subscription::edges_of(process)
            .ok_or_else(|| Refusal::of(ErrorCode::BadProcess, message))?;
        if !edges.contains(&subscription) {
            edges.push(subscription);
        }
    }
    if edges.is_empty() || edges.len() < subscriptions.len() {
        let message = "format=edges takes process, and neither topic, match nor template";
        return Err(bad_format(message));
    }
    Ok(edges)
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
#[path = "query_tests.rs"]
mod tests;
