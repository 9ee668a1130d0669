//! Terms to publications: casts, messages with an origin, and JSON text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dev_websocket_core::{BadJson, Rejected};
use rustler::{Binary, Term};

use crate::decode::{self, BeyondBudget, Budget};
use crate::engine::{ENGINE, Outcome, Running};
use crate::provenance::{self, BadProvenance};

/// What a caller is told.
pub(crate) enum Answer<'a> {
    /// `ok`, `large` or `{dropped, Reason}`.
    Outcome(Outcome),
    /// `{error, {bad_origin, Key}}`.
    BadProvenance(Term<'a>),
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

impl<'a> From<BadProvenance<'a>> for Stop<'a> {
    fn from(error: BadProvenance<'a>) -> Self {
        match error {
            BadProvenance::BeyondBudget => Self::BeyondBudget,
            BadProvenance::Bad(key) => Self::Answer(Answer::BadProvenance(key)),
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
        let origin = provenance::read(origin, &mut left)?;
        let value = decode::value(message, &mut left, running.commitments)?;
        running.server.publish_with(&value, &origin)?;
        Ok(whole.percent_spent(left))
    })
}

/// Publishes the message that a JSON text is.
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
            (Outcome::RequestError.into(), 1)
        }
        Err(down) => (down.into(), 0),
    }
}
