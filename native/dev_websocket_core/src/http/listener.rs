//! Binds the port and accepts connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::http::{self, Door};
use crate::limits::descriptors::Descriptors;
use crate::settings::size;
use crate::shared::Shared;
use crate::telemetry::panics::{contain_task, panic_point};

/// Limit on connections that the system completes before the server accepts them.
const BACKLOG: u32 = 4096;
/// First pause after a failed accept; it doubles up to the second constant. If file descriptors run out, faster retries
/// do not help.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Binds an address. It must run within the runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The option makes a port usable at once after this server has left it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes over a bound listener. It must run within the runtime.
pub(crate) fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts connections until it is stopped.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    door: Door,
    stop: CancellationToken,
) {
    let forever = async {
        // A panic costs only the connection that was being accepted.
        while contain_task(
            "the listener",
            &*shared.context.counters,
            accept_all(&shared, &listener, door),
        )
        .await
        .is_none()
        {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = forever => {}
    }
}

async fn accept_all(shared: &Arc<Shared>, listener: &TcpListener, door: Door) {
    let descriptors = Descriptors::new();
    let mut are_short = true;
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = match are_short.then(|| descriptors.check(listener)) {
            Some(Err(error)) => Err(error),
            _ => listener.accept().await,
        };
        match accepted {
            Ok((stream, peer)) => {
                panic_point!("listener::accept");
                pause = FIRST_PAUSE;
                are_short = descriptors.end_with(&stream);
                // Frames are small and complete; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                let limit = size(shared.settings().max_handshakes);
                if shared.handshakes.room(limit).await {
                    shared.context.counters.handshakes_dropped.add(1);
                }
                let place = shared.handshakes.enter();
                shared.spawn("a request", |shared| {
                    http::serve(shared, stream, peer, door, place)
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                count_failure(shared, &error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Counts and logs a connection that the system does not let the server have.
pub(super) fn count_failure(shared: &Shared, error: &io::Error) {
    shared.context.counters.accept_failures.add(1);
    tracing::warn!(
        name: "failed_accept", %error,
        "The WebSocket server failed to accept a connection: {error}."
    );
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
