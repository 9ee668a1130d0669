//! The operator's endpoints: `/connections` lists connections and ends single ones, `/cast` publishes a message.
//!
//! They are for the operator's listener, and on the public one for tokens that allow everything. A browser gets there only
//! with a page of this server: no page of another site, whatever it makes the browser send, passes [`check_site`].

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value as Json, json};

use super::refusal::Refusal;
use super::{Answer, Caller, Door, JSON, answer_with, credentials, host, note_refusal};
use crate::access::Session;
use crate::error::{BadJson, Rejected};
use crate::error_code::ErrorCode;
use crate::message::provenance::Provenance;
use crate::settings::{Access, Settings, size};
use crate::shared::Shared;
use crate::shared::connection_info::{ASKED_AT_ONCE, ConnectionInfo, ask};
use crate::wire::close::Disconnect;

pub(super) const CONNECTIONS: &str = "/connections";
pub(super) const CAST: &str = "/cast";

/// Field `source` of a message that the operator cast.
const SOURCE: &str = "operator";
/// Number of connections of a page: by default, and at most.
const FEW: usize = 100;
const MOST: usize = 1000;
/// Limits on what a page shows of the subscriptions of one connection. A client could choose long names to make the page large.
const MAX_TOPICS: usize = 8;
const MAX_NAME: usize = 200;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is to be done for an operator who may.
#[derive(Debug)]
pub(super) enum Work {
    List { after: u64, limit: usize },
    Disconnect { connection: u64 },
    Cast,
}

/// Returns true for the paths of these endpoints.
pub(super) fn endpoint(path: &str) -> Option<&'static str> {
    match path {
        CAST => Some("cast"),
        _ if path.strip_prefix(CONNECTIONS).is_some_and(is_end) => Some("connections"),
        _ => None,
    }
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// Returns the names of these endpoints that serve the caller.
pub(super) fn offered(settings: &Settings, session: &Session, caller: Caller) -> Vec<&'static str> {
    let is_allowed = match (caller.door, settings.access) {
        (Door::Operator, _) => true,
        (Door::Public, Access::Open) => false,
        (Door::Public, Access::Token) => session.allows_all(),
    };
    let mut names = vec!["connections", "cast"];
    names.retain(|name| is_allowed && settings.endpoints.iter().any(|known| known == name));
    names
}

/// Checks a request and its sender, and reads what is to be done. Nothing of the body is read before that.
///
/// # Errors
/// A [`Refusal`] of the site, the method, the sender or the request.
pub(super) fn accept<B>(
    shared: &Shared,
    request: &Request<B>,
    caller: Caller,
) -> Result<Work, Refusal> {
    let settings = shared.settings();
    check_site(request, &settings)?;
    let (path, method) = (request.uri().path(), request.method());
    let id = path
        .strip_prefix(CONNECTIONS)
        .map(|rest| rest.strip_prefix('/'));
    let allowed = match id {
        None => Method::POST,
        Some(None) => Method::GET,
        Some(Some(_)) => Method::DELETE,
    };
    if *method != allowed {
        return Err(Refusal::method(match id {
            None => "POST",
            Some(None) => "GET",
            Some(Some(_)) => "DELETE",
        }));
    }
    check_caller(shared, &settings, request, caller)?;
    match id {
        None => {
            check_body(request.headers(), size(settings.max_message_bytes))?;
            Ok(Work::Cast)
        }
        Some(None) => page(request.uri().query().unwrap_or_default()),
        Some(Some(id)) => Ok(Work::Disconnect {
            connection: number(id)
                .ok_or_else(|| bad("bad_connection", "the id of a connection is a number"))?,
        }),
    }
}

/// Refuses requests that a page of another site may have caused.
fn check_site<B>(request: &Request<B>, settings: &Settings) -> Result<(), Refusal> {
    let headers = request.headers();
    host::check_own_name(request, settings)?;
    let mut sites = headers.get_all(FETCH_SITE).iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return Err(Refusal::cross_site());
    }
    // Browsers state the site only to addresses that they trust, but the origin with everything except GET.
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        own.is_some_and(|own| {
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own))
        })
    };
    let is_attested = headers.contains_key(FETCH_SITE);
    let mut origins = headers.get_all(ORIGIN).iter();
    if is_attested || origins.all(|origin| origin.to_str().is_ok_and(is_own)) {
        Ok(())
    } else {
        Err(Refusal::origin())
    }
}

/// Refuses senders who are neither at the operator's door nor have a token that allows everything.
fn check_caller<B>(
    shared: &Shared,
    settings: &Settings,
    request: &Request<B>,
    caller: Caller,
) -> Result<(), Refusal> {
    if caller.door == Door::Operator {
        return Ok(());
    }
    // Without tokens there is nobody on the public port whom the server knows.
    if settings.access == Access::Open {
        return Err(Refusal::needs_all());
    }
    let query = request.uri().query();
    let session = credentials::session(shared, settings, request.headers(), query, caller)?;
    credentials::check_all(shared, &session)
}

fn check_body(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    // A form of another site cannot have this type, and a script needs a permission that this server never gives.
    let content = headers
        .get(CONTENT_TYPE)
        .and_then(|content| content.to_str().ok());
    let kind = content.and_then(|content| content.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON)) {
        return Err(Refusal::content_type());
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if length
        .and_then(number)
        .is_some_and(|length| length > limit as u64)
    {
        return Err(Refusal::too_large());
    }
    Ok(())
}

/// Reads the query of a page of connections.
fn page(query: &str) -> Result<Work, Refusal> {
    let (mut after, mut limit) = (0, FEW);
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        match name {
            "cursor" => {
                after =
                    number(value).ok_or_else(|| bad("bad_cursor", "cursor: must be a number"))?
            }
            "limit" => {
                let asked = number(value).and_then(|limit| usize::try_from(limit).ok());
                limit = asked
                    .filter(|limit| (1..=MOST).contains(limit))
                    .ok_or_else(|| {
                        bad(
                            "bad_limit",
                            format!("limit: must be a number from 1 to {MOST}"),
                        )
                    })?;
            }
            _ => {}
        }
    }
    Ok(Work::List { after, limit })
}

/// Reads a number of digits alone.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn bad(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::bad_request(code, message)
}

impl Work {
    /// Does the work. `body` is the rest of the request.
    pub(super) async fn answer<B>(self, shared: Arc<Shared>, peer: SocketAddr, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let done = match self {
            Self::List { after, limit } => Ok(list(&shared, after, limit).await),
            Self::Disconnect { connection } => disconnect(&shared, peer, connection),
            Self::Cast => cast(&shared, peer, body).await,
        };
        match done {
            Ok(document) => answer_with(StatusCode::OK, JSON, document.to_string()),
            Err(refusal) => {
                note_refusal(&shared, &refusal, peer);
                refusal.into_response()
            }
        }
    }
}

async fn list(shared: &Shared, after: u64, limit: usize) -> Json {
    let handles = shared.connections.page(after, limit);
    let cursor = (handles.len() == limit).then(|| handles.last().map(|last| last.id));
    let mut known = Vec::with_capacity(handles.len());
    for handles in handles.chunks(ASKED_AT_ONCE) {
        let asked: Vec<_> = handles.iter().map(ask).collect();
        for answer in asked {
            known.extend(answer.await.map(|info| shown(&info)));
        }
    }
    json!({"connections": known, "cursor": cursor.flatten()})
}

fn shown(info: &ConnectionInfo) -> Json {
    let topics =
        info.topics
            .iter()
            .take(MAX_TOPICS)
            .map(|name| match name.char_indices().nth(MAX_NAME) {
                Some((end, _)) => format!("{}…", &name[..end]),
                None => name.clone(),
            });
    json!({
        "connection": info.connection,
        "peer": info.peer.to_string(),
        "format": info.format,
        "age": info.age,
        "send_buffer_bytes": info.send_buffer_bytes,
        "send_buffer_frames": info.send_buffer_frames,
        "dropped": info.dropped,
        "subscriptions": info.topics.len(),
        "topics": topics.collect::<Vec<_>>(),
    })
}

fn disconnect(shared: &Shared, peer: SocketAddr, connection: u64) -> Result<Json, Refusal> {
    let handle = shared.connections.find(connection);
    handle
        .ok_or_else(Refusal::no_connection)?
        .close(Disconnect::Operator);
    tracing::info!(
        name: "operator_request", action = "disconnect", connection, %peer,
        "The operator at {peer} ended connection {connection} of the WebSocket server."
    );
    Ok(json!({"connection": connection}))
}

async fn cast<B>(shared: &Shared, peer: SocketAddr, body: B) -> Result<Json, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limit = size(shared.settings().max_message_bytes);
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Refusal::too_large()),
        Err(_) => return Err(bad("bad_message", "the message did not arrive whole")),
    };
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("bad_message", "a message is a JSON object"));
    }
    // Nobody vouches for the message, so it cannot have the topics of a process or a sender.
    let origin = Provenance {
        source: Some(SOURCE.into()),
        ..Provenance::default()
    };
    match shared.publish_json(&body, &origin) {
        Ok(seq) => {
            tracing::info!(
                name: "operator_request", action = "cast", seq, %peer,
                "The operator at {peer} cast message {seq} over the WebSocket server."
            );
            Ok(json!({"seq": seq}))
        }
        Err(BadJson::Malformed(reason)) => Err(bad("bad_message", reason)),
        Err(BadJson::Rejected(Rejected::TooLarge)) => Err(Refusal::too_large()),
        Err(BadJson::Rejected(Rejected::NoAudience)) => Err(Refusal::no_audience()),
        Err(BadJson::Rejected(Rejected::Overload)) => Err(Refusal::unavailable(
            ErrorCode::Busy,
            "the publish queue is full",
        )),
    }
}
