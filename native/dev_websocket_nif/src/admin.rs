//! Who is connected, for operators.

use dev_websocket_core::ConnectionInfo;
use rustler::Term;

use crate::send::{SendCounts, find};

/// The most connections of one page.
const MAX_PAGE: usize = 1000;

/// Asks what is known of a connection. The answer comes on another thread, after `Done` and only then.
pub(crate) fn connection(
    connection: Term<'_>,
    answer: impl FnOnce(Option<ConnectionInfo>) + Send + 'static,
) -> SendCounts {
    let asked = find(connection)
        .and_then(|(server, connection)| Ok(server.connection(connection, answer)?));
    asked.map_or_else(|reason| reason, |()| SendCounts::Done)
}

/// Asks for a page of the connections. The answer comes on another thread, after `Done` and only then.
pub(crate) fn connections(
    after: Term<'_>,
    limit: Term<'_>,
    answer: impl FnOnce(Vec<ConnectionInfo>) + Send + 'static,
) -> SendCounts {
    let limit = match limit.decode() {
        Ok(limit) if (1..=MAX_PAGE).contains(&limit) => limit,
        _ => return SendCounts::BadArgument("limit must be a number from 1 to 1000"),
    };
    let asked = find(after).and_then(|(server, after)| {
        server.connections(after, limit, answer)?;
        Ok(())
    });
    asked.map_or_else(|reason| reason, |()| SendCounts::Done)
}

/// Ends a connection.
pub(crate) fn disconnect(connection: Term<'_>) -> SendCounts {
    let ended =
        find(connection).and_then(|(server, connection)| Ok(server.disconnect(connection)?));
    ended.map_or_else(|reason| reason, |()| SendCounts::Done)
}
