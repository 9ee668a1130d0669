//! The TLS handshake of a new connection, and the answer to clients that do not speak TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::refusal::Refusal;
use super::{Caller, Outcome, exchange, outcome, refuse};
use crate::limits::handshakes::Place;
use crate::shared::Shared;

/// First byte of a TLS connection: a record with a handshake (RFC 8446 section 5.1). No HTTP request begins with it.
const HANDSHAKE: u8 = 0x16;

/// The first bytes of a client.
enum Hello {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
    /// The client is gone and has sent nothing.
    Gone,
}

/// Serves one connection of a port with TLS. The handshake and the request have one timeout together.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    mut caller: Caller,
    place: Place,
    timeout: Duration,
    acceptor: TlsAcceptor,
) {
    let deadline = Instant::now() + timeout;
    let hello = tokio::select! {
        hello = greet(stream, &acceptor) => hello,
        () = sleep_until(deadline) => Err(io::ErrorKind::TimedOut.into()),
        () = shared.stopping.cancelled() => return,
        () = place.lost() => return,
    };
    caller.is_encrypted = matches!(hello, Ok(Hello::Tls(_)));
    let left = deadline.saturating_duration_since(Instant::now());
    match hello {
        Ok(Hello::Tls(stream)) => exchange(shared, *stream, caller, place, left, outcome).await,
        Ok(Hello::Plain(stream)) => {
            exchange(shared, stream, caller, place, left, refuse_plain).await
        }
        Ok(Hello::Gone) => {}
        Err(error) => {
            shared.context.counters.tls_handshakes_failed.add(1);
            let peer = caller.peer;
            tracing::info!(
                name: "failed_tls", %error, %peer,
                "The TLS handshake with {peer} failed: {error}."
            );
        }
    }
}

/// Looks at the first byte, and completes the handshake of a client that speaks TLS.
async fn greet(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<Hello> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => Ok(Hello::Gone),
        Ok(_) if first == [HANDSHAKE] => {
            let stream = acceptor.accept(stream).await?;
            Ok(Hello::Tls(Box::new(stream)))
        }
        Ok(_) => Ok(Hello::Plain(stream)),
    }
}

fn refuse_plain(shared: &Arc<Shared>, request: &Request<Incoming>, caller: Caller) -> Outcome {
    refuse(shared, request, caller, Refusal::plain())
}
