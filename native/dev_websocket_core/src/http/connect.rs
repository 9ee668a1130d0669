//! A request that becomes a connection: what it asked for, its place among the others, and how it is answered.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use hyper::Response;
use hyper::header::HeaderMap;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::write_response;

use super::query::Query;
use super::refusal::Refusal;
use crate::connection;
use crate::error_code::ErrorCode;
use crate::limits::admission::{Full, Permit};
use crate::settings::Settings;
use crate::shard::command::Opening;
use crate::shard::peer::Peer;
use crate::shared::Shared;
use crate::wire::cursor::From;

/// See the module's text.
#[derive(Debug)]
pub(super) struct AcceptedRequest {
    permit: Permit,
    peer: Peer,
    query: Query,
    /// The last publication when it was asked for.
    published: u64,
    head: Bytes,
    settings: Arc<Settings>,
}

impl AcceptedRequest {
    /// Checks what depends on the other connections and on what was published, and takes the place.
    pub(super) fn new(
        shared: &Arc<Shared>,
        settings: Arc<Settings>,
        address: SocketAddr,
        headers: &HeaderMap,
        query: Query,
        response: &Response<()>,
    ) -> Result<Self, Refusal> {
        let permit = shared
            .admission
            .admit(address.ip(), query.format, &settings)
            .map_err(|full| match full {
                Full::Server => Refusal::full(),
                Full::Address => Refusal::too_many_connections(),
            })?;
        let mut head = Vec::new();
        write_response(&mut head, response)
            .map_err(|error| Refusal::bad_request("bad_handshake", error.to_string()))?;
        Ok(Self {
            permit,
            peer: Peer::new(address, query.format, headers),
            query,
            published: shared.context.log.last_seq(),
            head: head.into(),
            settings,
        })
    }

    /// Serves it until its end. `early` is what the client sent behind its request.
    pub(super) fn serve(
        self,
        shared: Arc<Shared>,
        stream: TcpStream,
        early: Vec<u8>,
    ) -> impl Future<Output = ()> {
        let handle = shared.handle(stream, self.peer);
        let opening = Opening {
            state: handle.state().clone(),
            head: self.head,
            format: self.query.format,
            slow: self.query.slow,
            from: self.query.from,
            published: self.published,
            subscriptions: self.query.subscriptions,
            ignored: self.query.ignored,
            settings: self.settings,
        };
        let permit = self.permit;
        connection::serve(shared, handle, opening, early).map(move |()| drop(permit))
    }
}

/// What a query asks for, checked against what was published and what others hold.
pub(super) fn read_query(
    shared: &Shared,
    settings: &Settings,
    mut query: Query,
) -> Result<Query, Refusal> {
    if let Some(From::Since(since)) = &query.from {
        since
            .check(&shared.context.epoch, shared.context.log.last_seq())
            .map_err(|error| Refusal::of(ErrorCode::BadSince, error.to_string()))?;
    }
    shared
        .filters
        .hold(&mut query.subscriptions, settings)
        .map_err(|error| Refusal::unavailable(error.code, error.message))?;
    Ok(query)
}
