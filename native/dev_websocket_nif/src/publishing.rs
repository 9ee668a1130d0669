//! Terms to publications: casts, messages with an origin, JSON text, and the results of a process.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dev_websocket_core::{BadJson, Event, Rejected};
use rustler::{Binary, Term};

use crate::decode::{self, BeyondBudget, Budget};
use crate::engine::{ENGINE, Outcome, Running};
use crate::origin::{self, NoOrigin};

/// The longest id of a process that is remembered with its last slot, in bytes.
const MAX_PROCESS_BYTES: usize = 255;

/// What a caller is told.
pub(crate) enum Answer<'a> {
    /// `ok`, `large` or `{dropped, Reason}`.
    Outcome(Outcome),
    /// `{ok, MaxDataBytes}`: the slot is wanted, with values of at most so many bytes.
    Wanted(u64),
    /// `{error, {bad_origin, Key}}`.
    BadOrigin(Term<'a>),
    /// `{error, {bad_json, Text}}`.
    BadJson(String),
    /// `{error, {bad_argument, Text}}`.
    BadArgument(&'static str),
}

impl<O: Into<Outcome>> From<O> for Answer<'_> {
    fn from(outcome: O) -> Self {
        Self::Outcome(outcome.into())
    }
}

/// What ends a call early.
enum Stop<'a> {
    BeyondBudget,
    Answer(Answer<'a>),
}

impl From<BeyondBudget> for Stop<'_> {
    fn from(_: BeyondBudget) -> Self {
        Self::BeyondBudget
    }
}

impl<'a> From<NoOrigin<'a>> for Stop<'a> {
    fn from(error: NoOrigin<'a>) -> Self {
        match error {
            NoOrigin::BeyondBudget => Self::BeyondBudget,
            NoOrigin::Bad(key) => Self::Answer(Answer::BadOrigin(key)),
        }
    }
}

impl From<Rejected> for Stop<'_> {
    fn from(rejected: Rejected) -> Self {
        Self::Answer(rejected.into())
    }
}

/// Decodes and publishes a message, and says how much of a scheduler's time slice that took, in percent.
///
/// A message beyond the budget is left half read and comes to `beyond`.
pub(crate) fn cast<'a>(
    message: Term<'a>,
    budget: fn(u64) -> Budget,
    beyond: Outcome,
) -> (Answer<'a>, i32) {
    guarded(beyond, |running| {
        // When nobody listens, the message is not worth reading.
        running.server.has_audience()?;
        let whole = budget(running.max_message_bytes);
        let mut left = whole;
        let value = decode::value(message, &mut left, running.commitments)?;
        running.server.publish(&value)?;
        Ok(whole.percent_spent(left))
    })
}

/// As [`cast`], with what the caller knows about the message.
pub(crate) fn publish<'a>(
    message: Term<'a>,
    origin: Term<'a>,
    budget: fn(u64) -> Budget,
    beyond: Outcome,
) -> (Answer<'a>, i32) {
    guarded(beyond, |running| {
        running.server.has_audience()?;
        let whole = budget(running.max_message_bytes);
        let mut left = whole;
        let origin = origin::read(origin, &mut left)?;
        let value = decode::value(message, &mut left, running.commitments)?;
        running.server.publish_with(&value, &origin)?;
        Ok(whole.percent_spent(left))
    })
}

/// Publishes the message that a JSON text is.
pub(crate) fn publish_json<'a>(body: Term<'a>, origin: Term<'a>) -> Answer<'a> {
    let Ok(body) = Binary::from_term(body) else {
        return Answer::BadArgument("a body is a binary");
    };
    let (answer, _) = guarded(Outcome::TooLarge, |running| {
        let mut left = Budget::of_message(running.max_message_bytes);
        let origin = origin::read(origin, &mut left)?;
        match running.server.publish_json(body.as_slice(), &origin) {
            Ok(_) => Ok(0),
            Err(BadJson::Malformed(text)) => Err(Stop::Answer(Answer::BadJson(text))),
            Err(BadJson::Rejected(rejected)) => Err(rejected.into()),
        }
    });
    answer
}

/// Says whether the events of a slot would be published.
pub(crate) fn wants_slot<'a>(process: Term<'a>, slot: Term<'a>) -> Answer<'a> {
    let (process, slot) = match process_and_slot(process, slot) {
        Ok(both) => both,
        Err(expected) => return Answer::BadArgument(expected),
    };
    ENGINE
        .with_running(|running| match running.server.wants_slot(&process, slot) {
            Ok(()) => Answer::Wanted(running.max_data_bytes),
            Err(rejected) => rejected.into(),
        })
        .unwrap_or_else(Answer::from)
}

/// Publishes all events of a slot on a scheduler thread, which has one budget for all of them.
pub(crate) fn publish_slot<'a>(
    process: Term<'a>,
    slot: Term<'a>,
    events: Term<'a>,
) -> (Answer<'a>, i32) {
    let whole = Budget::inline();
    let mut left = whole;
    let answer = publish_events(process, slot, events, Outcome::Large, |running, event| {
        left.spend_nodes(1)?;
        let (message, origin) = event;
        let origin = origin::read(origin, &mut left)?;
        let message = Some(decode::value(message, &mut left, running.commitments)?);
        Ok(Event { message, origin })
    });
    (answer, whole.percent_spent(left))
}

/// Publishes all events of a slot. One that is too large to be read is published without its data.
pub(crate) fn publish_slot_large<'a>(
    process: Term<'a>,
    slot: Term<'a>,
    events: Term<'a>,
) -> Answer<'a> {
    publish_events(
        process,
        slot,
        events,
        Outcome::TooLarge,
        |running, event| {
            let (message, origin) = event;
            let whole = Budget::of_message(running.max_message_bytes);
            let origin = origin::read(origin, &mut { whole })?;
            let message = decode::value(message, &mut { whole }, running.commitments).ok();
            Ok(Event { message, origin })
        },
    )
}

fn publish_events<'a>(
    process: Term<'a>,
    slot: Term<'a>,
    events: Term<'a>,
    beyond: Outcome,
    mut read: impl FnMut(&Running, (Term<'a>, Term<'a>)) -> Result<Event<'a>, Stop<'a>>,
) -> Answer<'a> {
    let (process, slot) = match process_and_slot(process, slot) {
        Ok(both) => both,
        Err(expected) => return Answer::BadArgument(expected),
    };
    let (answer, _) = guarded(beyond, |running| {
        running
            .server
            .wants_slot(&process, slot)
            .inspect_err(|rejected| {
                if *rejected == Rejected::Repeated {
                    ENGINE.counters.dropped_repeated.add(1);
                }
            })?;
        let mut gathered = Vec::new();
        let mut rest = events;
        while let Ok((event, tail)) = rest.list_get_cell() {
            let event = event.decode().map_err(|_| not_events())?;
            gathered.push(read(running, event)?);
            rest = tail;
        }
        if !rest.is_empty_list() {
            return Err(not_events());
        }
        running.server.publish_slot(&process, slot, gathered)?;
        Ok(0)
    });
    answer
}

fn not_events<'a>() -> Stop<'a> {
    Stop::Answer(Answer::BadArgument(
        "events are a list of {Message, Origin}",
    ))
}

fn process_and_slot<'a>(
    process: Term<'a>,
    slot: Term<'a>,
) -> Result<(Cow<'a, str>, u64), &'static str> {
    let process = Binary::from_term(process)
        .ok()
        .filter(|process| (1..=MAX_PROCESS_BYTES).contains(&process.len()))
        .ok_or("a process is a binary of 1 to 255 bytes")?;
    let slot = slot
        .decode()
        .map_err(|_| "a slot is an integer from 0, of 64 bits")?;
    Ok((origin::text_of(process.as_slice()), slot))
}

/// Runs with the server, if there is one, and contains what goes wrong. What is beyond the budget comes to `beyond`.
fn guarded<'a>(
    beyond: Outcome,
    run: impl FnOnce(&Running) -> Result<i32, Stop<'a>>,
) -> (Answer<'a>, i32) {
    let ran = ENGINE.with_running(|running| catch_unwind(AssertUnwindSafe(|| run(running))));
    match ran {
        Ok(Ok(Ok(percent))) => (Outcome::Published.into(), percent),
        Ok(Ok(Err(Stop::Answer(answer)))) => (answer, 0),
        Ok(Ok(Err(Stop::BeyondBudget))) => {
            if beyond == Outcome::TooLarge {
                ENGINE.counters.dropped_too_large.add(1);
            }
            (beyond.into(), 1)
        }
        Ok(Err(panic)) => {
            ENGINE.contained(&*panic);
            (Outcome::Fault.into(), 1)
        }
        Err(down) => (down.into(), 0),
    }
}
