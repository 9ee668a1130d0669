//! Terms to messages for one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dev_websocket_core::{Direct, SendError, Server};
use rustler::{Atom, Binary, Term, TermType};

use crate::atoms;
use crate::decode::{self, BeyondBudget, Budget};
use crate::engine::{ENGINE, Reason};

/// What became of a message to one connection, or of a question about it.
#[derive(Debug, Clone)]
pub(crate) enum SendCounts {
    /// `ok`: on its way.
    Done,
    /// `large`: not decided, too big for a scheduler thread.
    Large,
    /// `{error, Reason}`.
    NoConnection,
    Busy,
    TooLarge,
    BadArgument(&'static str),
    Down(Reason),
    RequestError,
}

impl From<SendError> for SendCounts {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NoConnection => Self::NoConnection,
            SendError::Busy => Self::Busy,
            SendError::TooLarge => Self::TooLarge,
        }
    }
}

/// Reads a payload and sends it, and says how much of a scheduler's time slice that took, in percent. One beyond the
/// budget comes to `beyond`.
pub(crate) fn send(
    connection: Term<'_>,
    payload: Term<'_>,
    budget: fn(u64) -> Budget,
    beyond: SendCounts,
) -> (SendCounts, i32) {
    let attempt = || -> Result<i32, SendCounts> {
        let (server, connection) = find(connection)?;
        if !server.has_connection(connection) {
            return Err(SendCounts::NoConnection);
        }
        let settings = server.settings();
        let budget = budget(settings.max_message_bytes);
        let (direct, percent) =
            read(payload, budget, settings.commitments)?.map_err(|BeyondBudget| beyond)?;
        server.send(connection, &direct)?;
        Ok(percent)
    };
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(Ok(percent)) => (SendCounts::Done, percent),
        Ok(Err(reason)) => (reason, 1),
        Err(panic) => {
            ENGINE.contained(&*panic);
            (SendCounts::RequestError, 1)
        }
    }
}

/// The server, and the number of a connection that it may have.
pub(crate) fn find(connection: Term<'_>) -> Result<(Arc<Server>, u64), SendCounts> {
    let connection = match connection.decode() {
        Ok(number) => number,
        // There are no such connections.
        Err(_) if connection.get_type() == TermType::Integer => u64::MAX,
        Err(_) => return Err(SendCounts::BadArgument("connection must be an integer")),
    };
    Ok((ENGINE.server().map_err(SendCounts::Down)?, connection))
}

type Read<'a> = Result<(Direct<'a>, i32), BeyondBudget>;

/// `{text, Binary}`, `{binary, Binary}`, or any other term.
fn read<'a>(payload: Term<'a>, budget: Budget, commitments: bool) -> Result<Read<'a>, SendCounts> {
    let (kind, term) = match payload.decode::<(Atom, Term<'a>)>() {
        Ok((kind, term)) if kind == atoms::text() || kind == atoms::binary() => (kind, term),
        _ => {
            return Ok(decode::message(payload, budget, commitments)
                .map(|(value, percent)| (Direct::Value(value), percent)));
        }
    };
    let bytes = Binary::from_term(term)
        .map_err(|_| {
            SendCounts::BadArgument("the payload of {text, _} and {binary, _} must be a binary")
        })?
        .as_slice();
    if bytes.len() > budget.text() {
        return Ok(Err(BeyondBudget));
    }
    let direct = if kind == atoms::binary() {
        Direct::Binary(bytes)
    } else {
        Direct::Text(
            std::str::from_utf8(bytes)
                .map_err(|_| SendCounts::BadArgument("the payload of {text, _} must be UTF-8"))?,
        )
    };
    let percent = i32::try_from(bytes.len() / 10_240).unwrap_or(100).min(100);
    Ok(Ok((direct, percent)))
}
