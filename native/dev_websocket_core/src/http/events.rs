//! Server-sent events (the HTML standard, section 9.2): the stream of `/ws` for clients without WebSockets.

use std::sync::Arc;

use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    VARY,
};
use hyper::{Request, Response};

use super::connect::{AcceptedRequest, read_query};
use super::credentials::permitted_query;
use super::query::{LAST_EVENT_PARAMETER, Query};
use super::refusal::Refusal;
use super::{Caller, compression, cors};
use crate::error_code::ErrorCode;
use crate::settings::Compression;
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::wire::cursor::{From, Since};
use crate::wire::slots::SlotStart;

/// Header in which a browser sends its cursor when it reconnects.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Content type of server-sent events.
pub(super) const CONTENT: &str = "text/event-stream";

/// Answers a request for server-sent events.
pub(super) fn accept<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    caller: Caller,
) -> Result<AcceptedRequest, Refusal> {
    let settings = shared.settings();
    let headers = request.headers();
    let (session, mut query) =
        permitted_query(shared, &settings, request, caller, Query::into_events)?;
    // The URL is the same at each reconnection, so a cursor in it is older than the one in the header.
    if let Some((since, slots)) = last_event(headers, query.last_event_id.as_deref())? {
        // The history has no edges of slots that were published without a client for them.
        if !query.subscriptions.iter().any(Subscription::is_of_edges) {
            query.from = Some(From::Since(since));
        }
        // A slot of a process that the URL does not name has no meaning.
        query.slots = query.slots.map(|asked| {
            slots
                .filter(|slots| slots.process == asked.process)
                .unwrap_or(asked)
        });
    }
    let query = read_query(shared, &settings, query)?;
    let mut response = Response::new(());
    cors::allow(&mut response, headers, &settings);
    for (name, value) in [
        (CONTENT_TYPE, CONTENT),
        (CACHE_CONTROL, "no-store"),
        // The stream ends with the connection, so its length need not be known.
        (CONNECTION, "close"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let is_compressed = match settings.compression {
        Compression::Off => false,
        Compression::Shared => {
            // A cache must not give a client the encoding of another one.
            let vary = HeaderValue::from_static("accept-encoding");
            response.headers_mut().append(VARY, vary);
            compression::accepts_gzip(headers)
        }
    };
    if is_compressed {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
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

/// Returns the client's cursor from the header. If a library cannot set headers, a parameter stands for it. An empty
/// value means that the client has no cursor yet.
fn last_event(
    headers: &HeaderMap,
    parameter: Option<&str>,
) -> Result<Option<(Since, Option<SlotStart>)>, Refusal> {
    let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    let (name, id) = match (header, parameter) {
        // A header that is not text cannot be a cursor.
        (Some(id), _) => ("Last-Event-ID", id.to_str().unwrap_or("?")),
        (None, Some(id)) if !id.is_empty() => (LAST_EVENT_PARAMETER, id),
        _ => return Ok(None),
    };
    SlotStart::parse_cursor(id)
        .map(Some)
        .map_err(|error| Refusal::of(ErrorCode::BadSince, format!("{name}: {error}")))
}
