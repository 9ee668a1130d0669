//! The HTTP side of the listener: one connection is accepted, its request is answered or upgraded.

pub(crate) mod query;
mod refusal;
mod upgrade;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use self::refusal::Refusal;
use crate::shared::{Shared, WEBSOCKET_PATH};

/// A request's head is read into a buffer of at most this size; a larger one is refused with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

type Answer = Response<Full<Bytes>>;

/// Serves one connection until it is answered, upgraded or out of time.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let timeout = Duration::from_millis(shared.settings().handshake_timeout);
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request, peer)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // A fault of the client's own making: it has been answered where that was possible.
        _ = connection => {}
        () = shared.stopping.cancelled() => {}
    }
}

fn answer(shared: &Arc<Shared>, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let result = match request.uri().path() {
        WEBSOCKET_PATH => upgrade::upgrade(shared, request, peer),
        _ => Err(Refusal::not_found()),
    };
    result.unwrap_or_else(|refusal| {
        shared.counters.requests_refused.add(1);
        refusal.into_response()
    })
}
