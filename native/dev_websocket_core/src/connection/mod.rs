//! One client, from its request to its end: a small task that reads ([`websocket`]) or only watches ([`sse`]).
//!
//! The task never writes to the socket, because its shard does ([`crate::shard`]). It passes the client's requests to
//! the shard as commands, and tells the shard when a blocked socket takes bytes again.

#[cfg(test)]
mod idle_tests;
mod login;
mod sse;
mod stream;
mod websocket;
mod written;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use self::websocket::WebSocket;
use crate::log::publication::now;
use crate::settings::Settings;
use crate::shard::command::{Command, Opening};
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::ids::ConnectionId;
use crate::shared::Shared;
use crate::telemetry::panics::contained;
use crate::wire::close::Disconnect;
use crate::wire::format::Format;

/// Time that a client has to read its close frame and close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The reason for the end of a connection's loop.
enum Ending {
    /// The server closes the connection.
    Close(Disconnect),
    /// Both sides have sent a close frame.
    Closed,
    /// The socket is broken, or the client vanished.
    Gone,
}

/// Everything that a connection needs at its beginning alone.
struct Beginning {
    format: Format,
    settings: Arc<Settings>,
    /// Bytes that the client sent after its request.
    early: Vec<u8>,
}

/// Serves a connection until its end. `early` holds the bytes that the client sent after its request.
pub(crate) fn serve(
    shared: Arc<Shared>,
    handle: ConnectionHandle,
    opening: Opening,
    early: Vec<u8>,
) -> impl Future<Output = ()> {
    // A future keeps memory for all that it ever holds, as long as the connection lives. So it is handed boxes, and
    // what it needs only at the beginning or at the end is boxed too.
    let beginning = Box::new(Beginning {
        format: opening.format,
        settings: opening.settings.clone(),
        early,
    });
    let opening = Box::new(opening);
    async move {
        open(&handle, opening);
        let _leaving = RemoveOnDrop(&handle);
        // Each is a future of its own, so that they share their memory.
        if beginning.format == Format::Events {
            events(&shared, &handle, beginning).await;
        } else {
            websocket(&shared, &handle, beginning).await;
        }
    }
}

async fn events(shared: &Shared, handle: &ConnectionHandle, beginning: Box<Beginning>) {
    let ending = watch(shared, handle, sse::watch(handle, &beginning.settings)).await;
    Box::pin(sse::end(handle, ending)).await;
}

fn websocket<'c>(
    shared: &'c Shared,
    handle: &'c ConnectionHandle,
    beginning: Box<Beginning>,
) -> impl Future<Output = ()> {
    let opened = Box::pin(WebSocket::new(shared, handle, beginning));
    async move {
        let mut websocket = opened.await;
        let ending = watch(shared, handle, websocket.read()).await;
        Box::pin(websocket.end(ending)).await;
    }
}

/// Tells the shard of a new connection. The command is larger than its box, and the future does not see it.
fn open(handle: &ConnectionHandle, opening: Box<Opening>) {
    handle.tell(Command::Open(opening));
}

/// Waits until a connection ends, and returns the reason. Meanwhile other threads can send to the connection, whose
/// welcome frame goes first.
fn watch<'c>(
    shared: &'c Shared,
    handle: &'c ConnectionHandle,
    reading: impl Future<Output = Ending>,
) -> impl Future<Output = Ending> {
    let entry = shared.connections.enter(handle);
    // Later, because a permission that ends closes only connections that can be found.
    let permission = Permission::watch(shared, handle);
    AssertUnwindSafe(reading).catch_unwind().map(move |result| {
        drop((entry, permission));
        let counters = &*shared.context.counters;
        let ending = contained("a connection", counters, result);
        let ending = ending.unwrap_or(Ending::Close(Disconnect::Panic));
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

/// Logs a connection that is closed because of its client's behavior.
fn tell_closed(handle: &ConnectionHandle, reason: Disconnect) {
    if reason.is_of_client() {
        let (connection, peer) = (handle.id, handle.peer.address);
        tracing::info!(
            name: "closed_connection", connection, %peer, reason = reason.name(), code = reason.code(),
            "The WebSocket server closed connection {connection} of {peer}: {}.", reason.reason()
        );
    }
}

/// Stops publications before a close frame, because nothing may follow it. A pong that is due goes first.
fn mute(handle: &ConnectionHandle) {
    handle.tell(Command::Mute {
        connection: handle.id,
    });
}

/// Tells the shard that the connection is gone, whichever way its task ends.
struct RemoveOnDrop<'l>(&'l ConnectionHandle);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        self.0.tell(Command::Remove {
            connection: self.0.id,
        });
    }
}

/// The entry of a connection among those whose permissions end; dropping it removes the entry.
struct Permission<'c> {
    shared: &'c Shared,
    id: ConnectionId,
}

impl<'c> Permission<'c> {
    /// Notes the end of the connection's token. A connection without a token or a subscription has as much time to send
    /// a token as for its request.
    fn watch(shared: &'c Shared, handle: &ConnectionHandle) -> Option<Self> {
        let session = handle.peer.session.load();
        let settings = shared.settings();
        let expiry = &shared.context.access.expiry;
        if session.holder.is_some() {
            expiry.renew(handle.id, &session);
        } else if session.is_anonymous() && settings.public_topics.0.is_empty() {
            let timeout = u64::try_from(settings.handshake_timeout.as_millis());
            expiry.set(handle.id, now() + timeout.unwrap_or(u64::MAX), false);
        } else if !session.is_anonymous() {
            return None;
        }
        Some(Self {
            shared,
            id: handle.id,
        })
    }
}

impl Drop for Permission<'_> {
    fn drop(&mut self) {
        self.shared.context.access.expiry.forget(self.id);
    }
}

/// Lets the shard send the queued frames, and waits for the client to close its side.
///
/// Bytes that the client still sends are read and dropped. Closing a socket with unread bytes would reset it, and the
/// client would lose its close frame.
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
            result = handle.socket.writable(), if blocked => {
                if result.is_err() {
                    return;
                }
                blocked = false;
                handle.tell(Command::Writable { connection: handle.id });
            }
            result = handle.socket.readable() => {
                if result.is_err() || is_at_end(handle) {
                    return;
                }
            }
        }
    }
}

/// Reads and drops the available bytes. Returns true at the end of the stream.
fn is_at_end(handle: &ConnectionHandle) -> bool {
    let mut buffer = [0; 4096];
    let read = handle.socket.try_read(&mut buffer);
    flush_replies(handle);
    match read {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !is_retried(&error),
    }
}

/// Returns true if a read found nothing, or no complete TLS record.
fn is_retried(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Lets the shard send what TLS has to answer to bytes that were read, as soon as the socket takes it.
fn flush_replies(handle: &ConnectionHandle) {
    if handle.socket.has_pending() {
        handle.block();
    }
}

fn heartbeat(settings: &Settings) -> Interval {
    let period = settings.ping_interval;
    let mut heartbeat = interval_at(Instant::now() + period, period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}
