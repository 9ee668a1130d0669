//! One client, from its request to its end: a small task that reads ([`websocket`]), or only watches ([`events`]).
//!
//! The task never writes to the socket: its shard does ([`crate::shard`]). It passes what a client asks for on as
//! commands, and tells the shard when a blocked socket takes bytes again.

#[cfg(test)]
mod idle_tests;
mod sse;
mod stream;
mod websocket;
mod written;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use self::websocket::WebSocket;
use crate::settings::Settings;
use crate::shard::command::{Command, Opening};
use crate::shard::connection_handle::ConnectionHandle;
use crate::shared::Shared;
use crate::telemetry::panics::contain_task;
use crate::wire::close::Disconnect;
use crate::wire::format::Format;

/// How long a client has to take its close frame and close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Why a connection's loop ends.
enum Ending {
    /// We close it.
    Close(Disconnect),
    /// Both sides have said goodbye.
    Closed,
    /// The socket is broken, or the client vanished.
    Gone,
}

/// Serves a connection until its end. `early` is what the client sent together with its request.
pub(crate) fn serve(
    shared: Arc<Shared>,
    handle: ConnectionHandle,
    opening: Opening,
    early: Vec<u8>,
) -> impl Future<Output = ()> {
    // Not within the future, which would keep room for it as long as the connection lives.
    let format = opening.format;
    let settings = opening.settings.clone();
    let open = Command::Open(Box::new(opening));
    async move {
        handle.tell(open);
        let _leaving = RemoveOnDrop(&handle);
        // From here on it can be sent to; its welcome goes first.
        let entry = shared.connections.enter(&handle);
        if format == Format::Events {
            let watched = sse::watch(&handle, &settings, heartbeat(&settings));
            let ending = watch(&shared, &handle, watched).await;
            drop(entry);
            sse::end(&handle, ending).await;
        } else {
            let mut websocket = WebSocket::new(&shared, &handle, format, &settings, early).await;
            let ending = watch(&shared, &handle, websocket.read(heartbeat(&settings))).await;
            drop(entry);
            websocket.end(ending).await;
        }
    }
}

/// Waits until a connection ends, and says why.
fn watch(
    shared: &Shared,
    handle: &ConnectionHandle,
    reading: impl Future<Output = Ending>,
) -> impl Future<Output = Ending> {
    let counters = &*shared.context.counters;
    contain_task("a connection", counters, reading).map(move |ending| {
        let ending = ending.unwrap_or(Ending::Close(Disconnect::RequestError));
        let count = match ending {
            Ending::Closed => &counters.closed_by_client,
            Ending::Gone => &counters.closed_gone,
            Ending::Close(reason) => {
                tell_closed(handle, reason);
                counters.closed(reason)
            }
        };
        count.add(1);
        ending
    })
}

/// Tells the operator of a connection that is closed for what its client does.
fn tell_closed(handle: &ConnectionHandle, reason: Disconnect) {
    if reason.is_of_client() {
        let (connection, peer) = (handle.id, handle.peer.address);
        tracing::info!(
            name: "closed_connection", connection, %peer, reason = reason.name(), code = reason.code(),
            "The WebSocket server has closed connection {connection} of {peer}: {}.", reason.reason()
        );
    }
}

/// Nothing follows a close frame: publications end before it, and a pong that is due goes first.
fn mute(handle: &ConnectionHandle) {
    handle.tell(Command::Mute {
        connection: handle.id,
    });
}

/// Tells the shard that the connection is gone, however its task ends.
struct RemoveOnDrop<'l>(&'l ConnectionHandle);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        self.0.tell(Command::Remove {
            connection: self.0.id,
        });
    }
}

/// Lets the shard send what waits and waits for the client to close its side.
///
/// What the client still sends is read and dropped: closing a socket with unread bytes would reset it, and the client
/// would lose its close frame.
async fn finish(handle: &ConnectionHandle, mut blocked: bool) {
    handle.tell(Command::Finish {
        connection: handle.id,
    });
    let deadline = sleep(CLOSE_TIMEOUT);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut deadline => return,
            () = handle.changed() => blocked |= handle.take_blocked(),
            result = handle.stream.writable(), if blocked => {
                if result.is_err() {
                    return;
                }
                blocked = false;
                handle.tell(Command::Writable { connection: handle.id });
            }
            result = handle.stream.readable() => {
                if result.is_err() || is_at_end(&handle.stream) {
                    return;
                }
            }
        }
    }
}

/// Reads and drops what is there; whether that was the end.
fn is_at_end(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    match stream.try_read(&mut buffer) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn heartbeat(settings: &Settings) -> Interval {
    let period = settings.ping_interval;
    let mut heartbeat = interval_at(Instant::now() + period, period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}
