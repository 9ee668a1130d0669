//! Administration of connections for operators.

use dev_websocket_core::ConnectionInfo;
use rustler::Term;

use crate::send::{SendOutcome, find};

/// The maximum number of connections per page.
const MAX_PAGE: usize = 1000;

/// Requests the details of a connection. Another thread delivers the answer, only if this returns `Done`.
pub(crate) fn connection(
    connection: Term<'_>,
    answer: impl FnOnce(Option<ConnectionInfo>) + Send + 'static,
) -> SendOutcome {
    let asked = find(connection)
        .and_then(|(server, connection)| Ok(server.connection(connection, answer)?));
    asked.map_or_else(|reason| reason, |()| SendOutcome::Done)
}

/// Requests a page of connections. Another thread delivers the answer, only if this returns `Done`.
pub(crate) fn connections(
    after: Term<'_>,
    limit: Term<'_>,
    answer: impl FnOnce(Vec<ConnectionInfo>) + Send + 'static,
) -> SendOutcome {
    let limit = match limit.decode() {
        Ok(limit) if (1..=MAX_PAGE).contains(&limit) => limit,
        _ => return SendOutcome::BadArgument("limit must be a number from 1 to 1000"),
    };
    let asked = find(after).and_then(|(server, after)| {
        server.connections(after, limit, answer)?;
        Ok(())
    });
    asked.map_or_else(|reason| reason, |()| SendOutcome::Done)
}

/// Closes a connection.
pub(crate) fn disconnect(connection: Term<'_>) -> SendOutcome {
    let ended =
        find(connection).and_then(|(server, connection)| Ok(server.disconnect(connection)?));
    ended.map_or_else(|reason| reason, |()| SendOutcome::Done)
}
