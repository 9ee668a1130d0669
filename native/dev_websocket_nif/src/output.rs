//! Events in the outputs of processes: the NIF that finds their lines, and the reading of one line.

use dev_websocket_core::message::Value;
use dev_websocket_core::message::output_events;
use rustler::{Atom, Binary, Encoder, Env, Term};

use crate::atoms;
use crate::decode::{BeyondBudget, Budget};
use crate::encode;
use crate::results::Refusal;

/// Bytes of a line that cost as much as reading one value of a term.
const BYTES_PER_NODE: usize = 16;

const NO_EVENT: &str = "a line must be a JSON object with \"_e\":1 of at most 64 KiB";

/// Finds the lines of a text that are events. Returns `{ok, Lines, Omitted}`; the lines share the memory of the text.
#[rustler::nif(schedule = "DirtyCpu")]
fn output_events<'a>(env: Env<'a>, text: Term<'a>, max: Term<'a>) -> Term<'a> {
    let (Ok(text), Ok(max)) = (Binary::from_term(text), max.decode()) else {
        let expected = "text must be a binary and max an unsigned integer";
        return encode::bad_argument(env, expected);
    };
    let found = output_events::events_in(text.as_slice(), max);
    let lines: Result<Vec<_>, _> = found
        .lines
        .into_iter()
        .map(|line| text.make_subbinary(line.start, line.len()))
        .collect();
    match lines {
        Ok(lines) => (atoms::ok(), lines, found.omitted).encode(env),
        // The lines are parts of the text, so this case does not occur.
        Err(_) => encode::bad_argument(env, "text must be a binary"),
    }
}

/// Returns the line of an event that is `{json, Line}`.
pub(crate) fn line_of(message: Term<'_>) -> Option<Binary<'_>> {
    let (tag, line): (Atom, Binary<'_>) = message.decode().ok()?;
    (tag == atoms::json()).then_some(line)
}

/// Reads the event in a line within a budget. Only the caller knows the process.
pub(crate) fn read_line<'a>(
    line: Binary<'a>,
    process: Option<&str>,
    left: &mut Budget,
) -> Result<Result<Value<'a>, BeyondBudget>, Refusal<'a>> {
    let bytes = line.len();
    if let Err(beyond) = left
        .spend_text(bytes)
        .and_then(|()| left.spend_nodes(bytes / BYTES_PER_NODE))
    {
        return Ok(Err(beyond));
    }
    process
        .and_then(|process| output_events::event_of(line.as_slice(), process))
        .map(Ok)
        .ok_or(Refusal::BadArgument(NO_EVENT))
}
