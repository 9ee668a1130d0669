//! The HTTP side of the listener. It accepts a connection and answers its request, or hands the socket to a
//! subscriber's connection.

mod caller;
mod client;
mod compression;
mod connect;
mod cors;
mod credentials;
mod endpoints;
mod events;
pub(crate) mod forwarded;
mod host;
pub(crate) mod listener;
mod operator;
mod page;
pub(crate) mod proxy_header;
pub(crate) mod query;
mod refusal;
mod tls;
mod upgrade;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;

use self::caller::Caller;
pub(crate) use self::caller::Door;
use self::connect::AcceptedRequest;
use self::refusal::Refusal;
use crate::limits::handshakes::Place;
use crate::settings::{Access, Settings};
use crate::shared::{Shared, WEBSOCKET_PATH};
use crate::telemetry::panics::panic_point;
use crate::tls::socket::Socket;

/// Limit on the buffer for a request's head. A larger head is refused with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Methods of the endpoints that only return information.
const METHODS: &str = "GET, HEAD, OPTIONS";

const JSON: &str = "application/json";

type Answer = Response<Full<Bytes>>;

/// The outcome of a request.
enum Outcome {
    Answered(Answer),
    /// The connection answers the request; the socket belongs to it from here on.
    Accepted(Box<AcceptedRequest>),
    /// The operator's work, which takes time and may need the body of the request.
    Begun(operator::Work, SocketAddr),
}

/// A function that decides about a request.
type Decide = fn(&Arc<Shared>, &Request<Incoming>, Caller) -> Outcome;

/// Serves one connection until it is answered, handed over or timed out.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    place: Place,
) {
    let sender = peer;
    let settings = shared.settings();
    let timeout = settings.handshake_timeout;
    let mut peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if settings.proxy_protocol && door == Door::Public {
        // The box keeps this task small where the protocol is off.
        let client = Box::pin(proxy_header::client(&shared, &stream, peer, &place));
        match client.await {
            Some(client) => peer = client,
            None => return,
        }
    }
    drop(settings);
    let caller = Caller {
        peer,
        sender,
        is_encrypted: false,
        door,
    };
    let acceptor = match door {
        Door::Public => shared.tls.acceptor(),
        Door::Operator => None,
    };
    match acceptor {
        None => exchange(shared, stream, caller, place, timeout, outcome).await,
        // The box keeps the task of a plain connection small.
        Some(acceptor) => {
            Box::pin(tls::serve(shared, stream, caller, place, timeout, acceptor)).await;
        }
    }
}

/// Reads one request within `timeout` and answers it, or hands the connection over.
async fn exchange<S>(
    shared: Arc<Shared>,
    stream: S,
    caller: Caller,
    place: Place,
    timeout: Duration,
    decide: Decide,
) where
    S: AsyncRead + AsyncWrite + Into<Socket> + Send + Unpin + 'static,
{
    let (hand_over, handed_over) = oneshot::channel();
    let hand_over = Mutex::new(Some(hand_over));
    let service = service_fn(|request: Request<Incoming>| {
        let outcome = match decide(&shared, &request, caller) {
            Outcome::Accepted(accepted) => {
                if let Some(hand_over) = hand_over.lock().take() {
                    // The receiver lives as long as this service.
                    let _ = hand_over.send(accepted);
                }
                None
            }
            outcome => Some((outcome, request)),
        };
        let shared = &shared;
        async move {
            match outcome {
                Some((Outcome::Answered(answer), _)) => Ok::<_, Infallible>(answer),
                // The box keeps the task of every other request small.
                Some((Outcome::Begun(work, peer), request)) => {
                    Ok(Box::pin(work.answer(shared.clone(), peer, request.into_body())).await)
                }
                _ => pending().await,
            }
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        // A client that closes its side right after its request still gets an answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let accepted = tokio::select! {
        // The request precedes every other event that is known by then, including the end of the client.
        biased;
        Ok(accepted) = handed_over => accepted,
        served = &mut connection => {
            if served.is_err_and(|error| error.is_parse_version_h2()) {
                refuse_http2(connection.into_parts().io.into_inner()).await;
            }
            // All other request errors have been answered, where that was possible.
            return;
        }
        () = shared.stopping.cancelled() => return,
        () = place.lost() => return,
        // The client does not read its answer.
        () = sleep(timeout * 2) => return,
    };
    // From here on it is a connection. Its client may hear of that before this task has ended.
    drop(place);
    let parts = connection.into_parts();
    let (socket, early) = (parts.io.into_inner().into(), parts.read_buf.to_vec());
    // The connection gets its own task, which is smaller than this one and lives longer.
    let spawned = shared.spawn_connection(socket, |shared, socket| {
        accepted.serve(shared, socket, early)
    });
    if let Err(error) = spawned {
        listener::count_failure(&shared, &error);
    }
}

/// Answers the preface of HTTP/2, as hyper answers other requests that are not HTTP/1.1.
async fn refuse_http2(mut stream: impl AsyncWrite + Unpin) {
    let answer = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    // The client may be gone or may have closed its side, so errors are ignored.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn outcome<B>(shared: &Arc<Shared>, request: &Request<B>, mut caller: Caller) -> Outcome {
    panic_point!("http::answer");
    let trusted = &shared.settings().trusted_proxies;
    caller.peer = forwarded::client(caller.peer, request.headers(), trusted);
    route(shared, request, caller)
        .unwrap_or_else(|refusal| refuse(shared, request, caller, refusal))
}

/// Counts and logs a refused request.
fn note_refusal(shared: &Shared, refusal: &Refusal, peer: SocketAddr) {
    let reason = refusal.reason().to_string();
    let counters = &shared.context.counters;
    counters.requests_refused.add(1);
    counters.refusals.add(&reason);
    tracing::info!(
        name: "refused_upgrade", %reason, %peer,
        "The WebSocket server refused a request of {peer}: {reason}."
    );
}

/// Counts, logs and answers a refused request.
fn refuse<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    caller: Caller,
    refusal: Refusal,
) -> Outcome {
    note_refusal(shared, &refusal, caller.peer);
    let mut answer = refusal.into_response();
    // No other page has any business there.
    if operator::endpoint(request.uri().path()).is_none() {
        cors::allow(&mut answer, request.headers(), &shared.settings());
    }
    Outcome::Answered(answer)
}

fn route<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    caller: Caller,
) -> Result<Outcome, Refusal> {
    let settings = shared.settings();
    host::check(request, &settings, caller.door.address(shared))?;
    let headers = request.headers();
    let (path, query) = (request.uri().path(), request.uri().query());
    let has = |endpoint: &str| settings.endpoints.iter().any(|name| name == endpoint);
    // The preflight of a page does not announce server-sent events in any header.
    let is_preflight = request.method() == Method::OPTIONS && has("events");
    if path == WEBSOCKET_PATH
        && !is_preflight
        && (upgrade::is_wanted(headers) || !accepts(headers, events::CONTENT))
    {
        let accepted = upgrade::accept(shared, request, caller)?;
        return Ok(Outcome::Accepted(Box::new(accepted)));
    }
    let endpoint = match path {
        "/" => "page",
        WEBSOCKET_PATH | "/events" => "events",
        "/client.js" => "client",
        "/info" => "info",
        "/health" => "health",
        "/metrics" => "metrics",
        _ => operator::endpoint(path).ok_or_else(Refusal::not_found)?,
    };
    if !has(endpoint) {
        return Err(Refusal::not_found());
    }
    cors::check(headers, &settings)?;
    if operator::endpoint(path).is_some() {
        let work = operator::accept(shared, request, caller)?;
        return Ok(Outcome::Begun(work, caller.peer));
    }
    let mut answer = match (request.method(), endpoint) {
        (&Method::OPTIONS, _) => preflight(&settings),
        (&Method::GET, "events") => {
            let accepted = events::accept(shared, request, caller)?;
            return Ok(Outcome::Accepted(Box::new(accepted)));
        }
        (&Method::HEAD, "events") => answer_with(StatusCode::OK, events::CONTENT, ""),
        (&Method::GET | &Method::HEAD, "page") => page::answer(),
        (&Method::GET | &Method::HEAD, "client") => client::answer(),
        (&Method::GET | &Method::HEAD, "info") => {
            let session = credentials::session(shared, &settings, headers, query, caller)?;
            let offered = operator::offered(&settings, &session, caller);
            endpoints::info(shared, session.grants.everything, &offered)
        }
        (&Method::GET | &Method::HEAD, "metrics") => {
            let session = credentials::session(shared, &settings, headers, query, caller)?;
            credentials::check_everything(shared, &session)?;
            endpoints::metrics(shared, headers)
        }
        (&Method::GET | &Method::HEAD, _) => endpoints::health(shared),
        _ => return Err(Refusal::method(METHODS)),
    };
    cors::allow(&mut answer, headers, &settings);
    Ok(Outcome::Answered(answer))
}

/// Answers a preflight with the permissions of pages (the Fetch standard, section 3.2.2).
fn preflight(settings: &Settings) -> Answer {
    let mut answer = Answer::default();
    let allowed = match settings.access {
        Access::Open => "Last-Event-ID, Cache-Control",
        Access::Token => "Last-Event-ID, Cache-Control, Authorization",
    };
    *answer.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (ALLOW, METHODS),
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, allowed),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (CONNECTION, "close"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Returns true if the client accepts this content type by name (RFC 9110 section 12.5.1).
fn accepts(headers: &HeaderMap, content: &str) -> bool {
    upgrade::tokens(headers, &ACCEPT)
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case(content))
}

/// Creates an answer with this content type that caches must not store.
fn answer_with(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::from(body.into()));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content),
        (CACHE_CONTROL, "no-store"),
        // A connection serves one request.
        (CONNECTION, "close"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
