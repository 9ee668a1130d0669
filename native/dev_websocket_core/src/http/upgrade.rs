//! The WebSocket handshake (RFC 6455 section 4.2): checks an upgrade request and creates the 101 response.

use std::sync::Arc;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::connect::{AcceptedRequest, read_query};
use super::credentials::{BEARER, permitted_query};
use super::query::Query;
use super::refusal::Refusal;
use super::{Caller, compression, cors};
use crate::settings::Compression;
use crate::shared::Shared;

/// Answers a request for the WebSocket endpoint.
pub(super) fn accept<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    caller: Caller,
) -> Result<AcceptedRequest, Refusal> {
    let settings = shared.settings();
    if request.method() != Method::GET {
        // [`super::events`] serves the other allowed methods of this path.
        let has_events = settings.endpoints.iter().any(|name| name == "events");
        let allowed = if has_events { "GET, OPTIONS" } else { "GET" };
        return Err(Refusal::method(allowed));
    }
    let headers = request.headers();
    if !is_wanted(headers) || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::not_an_upgrade(caller.is_encrypted));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::version());
    }
    check_unambiguous(headers)?;
    cors::check(headers, &settings)?;
    let frames = |query: Query| Ok(query.into_frames());
    let (session, query) = permitted_query(shared, &settings, request, caller, frames)?;
    let query = read_query(shared, &settings, query)?;
    let mut response = switching_protocols(request)?;
    let extension = match settings.compression {
        Compression::Off => None,
        Compression::Shared => compression::websocket(headers),
    };
    let is_compressed = extension.is_some();
    if let Some(extension) = extension {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    AcceptedRequest::new(
        shared,
        settings,
        (caller, session),
        headers,
        (query, is_compressed),
        &response,
    )
}

/// Returns true if the client wants to upgrade to a WebSocket, and not to another protocol such as `h2c`.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

fn switching_protocols<B>(request: &Request<B>) -> Result<Response<()>, Refusal> {
    let headers = request.headers();
    let mut plain = Request::new(());
    *plain.version_mut() = request.version();
    *plain.headers_mut() = headers.clone();
    // tungstenite reads one value of each header; the lists were read before.
    for (name, value) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
        plain
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let mut response = create_response_with_body(&plain, || ())
        .map_err(|error| Refusal::bad_request("bad_handshake", error.to_string()))?;
    // A browser that offers subprotocols fails if none is chosen. All of them mean the same here, but one that holds a
    // token is never repeated.
    if let Some(offered) = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
        .find(|token| !token.is_empty() && !token.starts_with(BEARER))
        && let Ok(chosen) = offered.parse()
    {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok(response)
}

/// Refuses a request that a proxy in front of the server may read differently. Frames begin after the head, even where
/// the proxy sees a body.
fn check_unambiguous(headers: &HeaderMap) -> Result<(), Refusal> {
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if has_body {
        let message = "a WebSocket handshake must not have a body";
        return Err(Refusal::bad_request("bad_handshake", message));
    }
    for name in [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION] {
        if headers.get_all(&name).iter().count() > 1 {
            let message = format!("{name}: header must not be repeated");
            return Err(Refusal::bad_request("bad_handshake", message));
        }
    }
    Ok(())
}

/// Iterates over the items of a header's lists.
pub(super) fn tokens<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h str> {
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
