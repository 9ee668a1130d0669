//! A request that becomes a connection: its query, its admission and its response.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use hyper::Response;
use hyper::header::{COOKIE, HeaderMap};
use tokio_tungstenite::tungstenite::handshake::server::write_response;

use super::Caller;
use super::query::Query;
use super::refusal::Refusal;
use crate::access::Session;
use crate::connection;
use crate::error_code::ErrorCode;
use crate::limits::admission::{Full, Permit};
use crate::settings::Settings;
use crate::shard::command::Opening;
use crate::shard::context::Start;
use crate::shard::peer::Peer;
use crate::shard::slot_replay::{NoReplay, SlotPermit};
use crate::shard::stream_reads::ReadPermit;
use crate::shard::stream_replaying::BUSY;
use crate::shared::Shared;
use crate::tls::socket::Socket;
use crate::wire::cursor::From;
use crate::wire::format::{Form, Format};
use crate::wire::gzip;
use crate::wire::slots::SlotStart;

/// A request that was accepted and counted as a connection.
#[derive(Debug)]
pub(super) struct AcceptedRequest {
    permit: Permit,
    peer: Peer,
    query: Query,
    slots: Option<(SlotStart, SlotPermit)>,
    read: Option<ReadPermit>,
    /// Sequence number of the last publication at the time of the request.
    published: u64,
    head: Bytes,
    settings: Arc<Settings>,
}

impl AcceptedRequest {
    /// Admits the request among the other connections, and records the last publication.
    pub(super) fn new(
        shared: &Arc<Shared>,
        settings: Arc<Settings>,
        (caller, session): (Caller, Arc<Session>),
        headers: &HeaderMap,
        (query, is_compressed): (Query, bool),
        response: &Response<()>,
    ) -> Result<Self, Refusal> {
        let permit = shared
            .admission
            .admit(caller.peer.ip(), query.format, &settings)
            .map_err(|full| match full {
                Full::Server => Refusal::full(),
                Full::Address => Refusal::too_many_connections(),
            })?;
        let slots = match query.slots {
            None => None,
            Some(start) => {
                let replays = &shared.context.replays;
                let permit = replays.admit(settings.max_slot_replays);
                Some((start, permit.map_err(|error| refused(&error))?))
            }
        };
        let read = admit_read(shared, query.from.as_ref())?;
        let mut head = Vec::new();
        write_response(&mut head, response)
            .map_err(|error| Refusal::bad_request("bad_handshake", error.to_string()))?;
        if is_compressed && query.format == Format::Events {
            head.extend_from_slice(&gzip::HEAD);
        }
        Ok(Self {
            permit,
            peer: Peer::new(
                caller.peer,
                Form {
                    format: query.format,
                    is_compressed,
                },
                &without_cookies(headers, &settings),
                session,
            ),
            query,
            slots,
            read,
            published: shared.context.log.last_seq(),
            head: head.into(),
            settings,
        })
    }

    /// Serves the connection until its end. `early` holds the bytes that the client sent after its request.
    pub(super) fn serve(
        self,
        shared: Arc<Shared>,
        socket: Socket,
        early: Vec<u8>,
    ) -> impl Future<Output = ()> {
        let handle = shared.handle(socket, self.peer);
        let opening = Opening {
            state: handle.state().clone(),
            head: self.head,
            format: self.query.format,
            slow: self.query.slow,
            from: self.query.from,
            slots: self.slots,
            read: self.read,
            published: self.published,
            subscriptions: self.query.subscriptions,
            ignored: self.query.ignored,
            settings: self.settings,
        };
        let permit = self.permit;
        connection::serve(shared, handle, opening, early).map(move |()| drop(permit))
    }
}

/// Reserves the place of a read of the stream, if the cursor is older than the history.
fn admit_read(shared: &Shared, from: Option<&From>) -> Result<Option<ReadPermit>, Refusal> {
    let context = &shared.context;
    match from {
        Some(From::Since(since)) if matches!(context.locate(since), Start::Stream { .. }) => {
            let permit = context.reads.admit();
            let busy = || Refusal::unavailable(ErrorCode::Busy, BUSY.to_owned());
            permit.map(Some).ok_or_else(busy)
        }
        _ => Ok(None),
    }
}

fn refused(error: &NoReplay) -> Refusal {
    match error {
        NoReplay::Full => Refusal::unavailable(error.code(), error.to_string()),
        NoReplay::NoReader => Refusal::of(error.code(), error.to_string()),
    }
}

/// Returns the headers for the listener, without cookies if one of them may hold a token.
fn without_cookies<'h>(headers: &'h HeaderMap, settings: &Settings) -> Cow<'h, HeaderMap> {
    if settings.token_cookie.is_empty() {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.clone();
    headers.remove(COOKIE);
    Cow::Owned(headers)
}

/// Checks a query against past publications and the subscriptions of other connections.
pub(super) fn read_query(
    shared: &Shared,
    settings: &Settings,
    mut query: Query,
) -> Result<Query, Refusal> {
    if let Some(stream) = &shared.context.stream
        && !stream.has_joined()
    {
        let message = "the server has not reached its stream yet; try again, or another node";
        return Err(Refusal::unavailable(
            ErrorCode::EngineAway,
            message.to_owned(),
        ));
    }
    if let Some(From::Since(since)) = &query.from {
        shared
            .context
            .check_cursor(since)
            .map_err(|error| Refusal::of(ErrorCode::BadSince, error.to_string()))?;
    }
    shared
        .filters
        .hold(&mut query.subscriptions, settings)
        .map_err(|error| Refusal::unavailable(error.code, error.message))?;
    Ok(query)
}
