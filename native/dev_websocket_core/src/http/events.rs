//! Server-sent events (the HTML standard, section 9.2): what `/ws` gives, for clients without WebSockets.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response};

use super::accepted::{Accepted, read_query};
use super::origin;
use super::query::Query;
use super::refusal::Refusal;
use crate::cursor::{From, Since};
use crate::fault_code::FaultCode;
use crate::shared::Shared;

/// Where a browser says how far it has come when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The content type of events.
pub(super) const CONTENT: &str = "text/event-stream";

/// Answers a request for events.
pub(super) fn accept<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    peer: SocketAddr,
) -> Result<Accepted, Refusal> {
    let settings = shared.settings();
    let headers = request.headers();
    let text = request.uri().query().unwrap_or_default();
    let mut query = Query::parse(text, &settings)?.into_events()?;
    // The URL is the same each time that a browser connects, so its own cursor is older.
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        let since = Since::parse(id.to_str().unwrap_or_default())
            .map_err(|error| Refusal::of(FaultCode::BadSince, format!("Last-Event-ID: {error}")))?;
        query.from = Some(From::Since(since));
    }
    let query = read_query(shared, &settings, query)?;
    let mut response = Response::new(());
    origin::allow(&mut response, headers, &settings);
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
    Accepted::new(shared, settings, peer, headers, query, &response)
}
