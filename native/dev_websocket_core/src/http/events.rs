//! Server-sent events (the HTML standard, section 9.2): what `/ws` gives, for clients without WebSockets.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};

use super::connect::{AcceptedRequest, read_query};
use super::cors;
use super::query::{LAST_EVENT_PARAMETER, Query};
use super::refusal::Refusal;
use crate::error_code::ErrorCode;
use crate::shared::Shared;
use crate::wire::cursor::{From, Since};

/// Where a browser says how far it has come when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The content type of events.
pub(super) const CONTENT: &str = "text/event-stream";

/// Answers a request for events.
pub(super) fn accept<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    peer: SocketAddr,
) -> Result<AcceptedRequest, Refusal> {
    let settings = shared.settings();
    let headers = request.headers();
    let text = request.uri().query().unwrap_or_default();
    let mut query = Query::parse(text, &settings)?.into_events()?;
    // The rest of the URL is the same each time that a client connects, so its own cursor is older.
    if let Some(since) = last_event(headers, query.last_event_id.as_deref())? {
        query.from = Some(From::Since(since));
    }
    let query = read_query(shared, &settings, query)?;
    let mut response = Response::new(());
    cors::allow(&mut response, headers, &settings);
    for (name, value) in [
        (CONTENT_TYPE, CONTENT),
        (CACHE_CONTROL, "no-store"),
        // The stream ends with the connection, so nobody has to count its bytes.
        (CONNECTION, "close"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    AcceptedRequest::new(shared, settings, peer, headers, query, &response)
}

/// How far the client has come: by the header, else by the parameter that stands for it where a library cannot set
/// headers. An empty one says that there was nothing yet.
fn last_event(headers: &HeaderMap, parameter: Option<&str>) -> Result<Option<Since>, Refusal> {
    let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    let (name, id) = match (header, parameter) {
        // What is no text is no cursor.
        (Some(id), _) => ("Last-Event-ID", id.to_str().unwrap_or("?")),
        (None, Some(id)) if !id.is_empty() => (LAST_EVENT_PARAMETER, id),
        _ => return Ok(None),
    };
    Since::parse(id)
        .map(Some)
        .map_err(|error| Refusal::of(ErrorCode::BadSince, format!("{name}: {error}")))
}
