//! Events in the output of a process: lines that are JSON objects with the key `_e` and the value 1.
//!
//! A program prints such lines so that others can follow what it does. The text is the program's, and anybody may have
//! sent it what it prints. So the work is bounded, and a line never names its own process, sender or slot.

use std::ops::Range;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};
use serde_json::{Map, Value as Json};

use super::Value;
use crate::message::fields::lower_case;
use crate::message::topic::trimmed;

/// The key that makes a line an event, as the line spells it.
const MARK: &[u8] = b"\"_e\"";

/// The maximum length of a line that is parsed, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The maximum number of lines of a text that are parsed.
const MAX_LINES: usize = 10_000;

/// Keys that only the node sets, in lower case.
const KEYS_OF_NODE: [&str; 3] = ["from", "process", "slot"];

/// The events in a text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OutputEvents {
    /// The places of their lines, in order.
    pub lines: Vec<Range<usize>>,
    /// The number of lines that were not parsed because of a limit, although they look like events.
    pub omitted: u64,
}

/// Finds the events in a text, at most `max`. The same text always gives the same events.
///
/// Only lines that contain the mark are parsed, so other lines cost no more than a search.
#[must_use]
pub fn events_in(text: &[u8], max: usize) -> OutputEvents {
    let finder = Finder::new(MARK);
    let mut found = OutputEvents::default();
    let mut parsed = 0;
    let mut at = 0;
    while let Some(mark) = finder.find(&text[at..]).map(|place| at + place) {
        let start = memrchr(b'\n', &text[at..mark]).map_or(at, |place| at + place + 1);
        let end = memchr(b'\n', &text[mark..]).map_or(text.len(), |place| mark + place);
        at = end;
        let line = &text[start..end];
        if line.trim_ascii_start().first() != Some(&b'{') {
            continue;
        }
        if found.lines.len() >= max || parsed >= MAX_LINES || line.len() > MAX_LINE_BYTES {
            found.omitted += 1;
            continue;
        }
        parsed += 1;
        if parse(line).is_some() {
            found.lines.push(start..end);
        }
    }
    found
}

/// Reads the event in a line as a message of a process; `None` if the line is no event.
#[must_use]
pub fn event_of(line: &[u8], process: &str) -> Option<Value<'static>> {
    let entries = parse(line).filter(|_| line.len() <= MAX_LINE_BYTES)?;
    let own = entries
        .into_iter()
        .filter(|(key, _)| !KEYS_OF_NODE.contains(&&*lower_case(trimmed(key))))
        .map(|(key, value)| (key.into(), value.into()));
    let of_node =
        ["from", "process"].map(|key| (key.into(), Value::Text(process.to_owned().into())));
    Some(Value::Map(own.chain(of_node).collect()))
}

fn parse(line: &[u8]) -> Option<Map<String, Json>> {
    let entries: Map<String, Json> = serde_json::from_slice(line).ok()?;
    (entries.get("_e")?.as_u64() == Some(1)).then_some(entries)
}

#[cfg(test)]
#[path = "output_events_tests.rs"]
mod tests;
