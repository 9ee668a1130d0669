//! Publishing of terms: messages, messages with provenance, and JSON text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::message::writer::MessageWriter;
use dev_websocket_core::{BadJson, Rejected, Unpublished, Unwritten};
use rustler::{Binary, Term};

use crate::decode::{BeyondBudget, Budget};
use crate::engine::{ENGINE, Outcome, Running};
use crate::provenance::{self, BadProvenance};
use crate::walk;

/// The answer to a caller.
pub(crate) enum Answer<'a> {
    /// Answers `ok`, `large` or `{dropped, Reason}`.
    Outcome(Outcome),
    /// Answers `{error, {bad_origin, Key}}`.
    BadProvenance(Term<'a>),
    /// Answers `{error, {bad_json, Text}}`.
    BadJson(String),
    /// Answers `{error, {bad_argument, Text}}`.
    BadArgument(&'static str),
}

impl<O: Into<Outcome>> From<O> for Answer<'_> {
    fn from(outcome: O) -> Self {
        Self::Outcome(outcome.into())
    }
}

/// The reason why a call ends early.
enum Stop<'a> {
    BeyondBudget,
    Answer(Answer<'a>),
}

impl From<BeyondBudget> for Stop<'_> {
    fn from(_: BeyondBudget) -> Self {
        Self::BeyondBudget
    }
}

impl<'a> From<BadProvenance<'a>> for Stop<'a> {
    fn from(error: BadProvenance<'a>) -> Self {
        match error {
            BadProvenance::BeyondBudget => Self::BeyondBudget,
            BadProvenance::Bad(key) => Self::Answer(Answer::BadProvenance(key)),
        }
    }
}

impl From<Unpublished<walk::Stop>> for Stop<'_> {
    fn from(error: Unpublished<walk::Stop>) -> Self {
        match error {
            Unpublished::Rejected(rejected) => rejected.into(),
            Unpublished::Stopped(walk::Stop::BeyondBudget | walk::Stop::MixedKeys) => {
                Self::BeyondBudget
            }
        }
    }
}

impl From<Rejected> for Stop<'_> {
    fn from(rejected: Rejected) -> Self {
        Self::Answer(rejected.into())
    }
}

/// Decodes and publishes a message; returns the share of a scheduler's time slice that this took, in percent.
///
/// A message that exceeds the budget is not read to its end, and its outcome is `beyond`.
pub(crate) fn cast<'a>(
    message: Term<'a>,
    budget: fn(u64) -> Budget,
    beyond: Outcome,
) -> (Answer<'a>, i32) {
    guarded(beyond, |running| {
        // Without an audience the message need not be read.
        running.server.has_audience()?;
        let whole = budget(running.max_message_bytes);
        written(running, message, &Provenance::default(), whole, whole)
    })
}

/// Publishes like [`cast`], with the message's provenance.
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
        let origin = provenance::read(origin, &mut left)?;
        written(running, message, &origin, whole, left)
    })
}

/// Publishes a message within the rest of a budget; returns the share of a time slice, in percent.
fn written<'a>(
    running: &Running,
    message: Term<'a>,
    origin: &Provenance<'_>,
    whole: Budget,
    left: Budget,
) -> Result<i32, Stop<'a>> {
    let publish = |walk: WriteMessage<'a>| {
        let mut left = left;
        let write = |writer: &mut MessageWriter<'_, 'a>| {
            walk(message, &mut left, running.commitments, writer)
        };
        running.server.publish_written(origin, write)?;
        Ok(whole.percent_spent(left))
    };
    match publish(walk::write) {
        Err(Unpublished::Stopped(walk::Stop::MixedKeys)) => publish(walk::write_whole),
        published => published,
    }
    .map_err(Stop::from)
}

type WriteMessage<'a> = fn(
    Term<'a>,
    &mut Budget,
    bool,
    &mut MessageWriter<'_, 'a>,
) -> Result<(), Unwritten<walk::Stop>>;

/// Publishes a JSON text as a message.
pub(crate) fn publish_json<'a>(body: Term<'a>, origin: Term<'a>) -> Answer<'a> {
    let Ok(body) = Binary::from_term(body) else {
        return Answer::BadArgument("body must be a binary");
    };
    let (answer, _) = guarded(Outcome::TooLarge, |running| {
        let mut left = Budget::of_message(running.max_message_bytes);
        let origin = provenance::read(origin, &mut left)?;
        match running.server.publish_json(body.as_slice(), &origin) {
            Ok(_) => Ok(0),
            Err(BadJson::Malformed(text)) => Err(Stop::Answer(Answer::BadJson(text))),
            Err(BadJson::Rejected(rejected)) => Err(rejected.into()),
        }
    });
    answer
}

/// Runs a function with the server, if there is one, and contains its panic. The outcome is `beyond` if the budget is
/// exceeded.
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
            (Outcome::Panic.into(), 1)
        }
        Err(down) => (down.into(), 0),
    }
}
