//! The WebSocket handshake (RFC 6455 section 4.2): checks a request, answers 101 and hands the socket on.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::Answer;
use super::query::Query;
use super::refusal::Refusal;
use crate::admission::Full;
use crate::connection;
use crate::connection::peer::Peer;
use crate::cursor::From;
use crate::fault_code::FaultCode;
use crate::pattern::glob_matches;
use crate::settings::{Settings, size};
use crate::shard::command::Opening;
use crate::shared::Shared;

/// Answers a request for the WebSocket endpoint.
pub(super) fn upgrade(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Answer, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::method());
    }
    if !has_token(request.headers(), &UPGRADE, "websocket")
        || !has_token(request.headers(), &CONNECTION, "upgrade")
    {
        return Err(Refusal::not_an_upgrade());
    }
    if request
        .headers()
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::version());
    }
    check_unambiguous(request.headers())?;
    let settings = shared.settings();
    check_origin(request.headers(), &settings)?;
    let mut query = Query::parse(request.uri().query().unwrap_or_default(), &settings)?;
    if let Some(From::Since(since)) = &query.from {
        since
            .check(&shared.epoch, shared.log.last_seq())
            .map_err(|error| Refusal::of(FaultCode::BadSince, error.to_string()))?;
    }
    shared
        .expressions
        .share(&mut query.subscriptions, size(settings.max_expressions))
        .map_err(|error| Refusal::unavailable(error.code, error.message))?;
    // tungstenite reads one value of each; the lists were read above.
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let mut response = create_response_with_body(&request, http_body_util::Full::default)
        .map_err(|error| Refusal::bad_request("bad_handshake", error.to_string()))?;
    // A browser that offers subprotocols fails when none is chosen; all of them mean the same here.
    if let Some(offered) = first_token(request.headers(), &SEC_WEBSOCKET_PROTOCOL)
        && let Ok(chosen) = offered.parse()
    {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let permit = shared
        .admission
        .admit(peer.ip(), &settings)
        .map_err(|full| match full {
            Full::Server => Refusal::full(),
            Full::Address => Refusal::too_many_connections(),
        })?;
    let published = shared.log.last_seq();
    let known = Peer::new(peer, query.format, request.headers());
    shared.spawn("a connection", async move |shared| {
        if let Some((stream, early)) = taken_over(request).await {
            let opening = Opening {
                link: shared.link(stream, known),
                format: query.format,
                slow: query.slow,
                from: query.from,
                published,
                subscriptions: query.subscriptions,
                ignored: query.ignored,
                settings,
            };
            connection::serve(shared, opening, early).await;
        }
        drop(permit);
    });
    Ok(response)
}

/// A browser tells which page wants to connect; who is no browser can write what it likes, or nothing.
fn check_origin(headers: &HeaderMap, settings: &Settings) -> Result<(), Refusal> {
    let is_allowed = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        settings
            .origins
            .iter()
            .any(|allowed| glob_matches(allowed, &origin))
    };
    if settings.origins.is_empty() || headers.get_all(ORIGIN).iter().all(is_allowed) {
        Ok(())
    } else {
        Err(Refusal::origin())
    }
}

/// The socket after the 101, with the bytes that the client sent along with its request.
async fn taken_over(request: Request<Incoming>) -> Option<(TcpStream, Vec<u8>)> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf.to_vec()))
}

/// Refuses what a proxy before us may read in another way. Frames begin behind the head, also where it sees a body.
fn check_unambiguous(headers: &HeaderMap) -> Result<(), Refusal> {
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if has_body {
        let message = "a WebSocket starts with a request without a body";
        return Err(Refusal::bad_request("bad_handshake", message));
    }
    for name in [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION] {
        if headers.get_all(&name).iter().count() > 1 {
            let message = format!("{name} stands there twice");
            return Err(Refusal::bad_request("bad_handshake", message));
        }
    }
    Ok(())
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn first_token<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    tokens(headers, name).find(|token| !token.is_empty())
}
