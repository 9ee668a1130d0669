//! The state of a connection that its task and its shard share: byte counts, and signals in both directions.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ids::ConnectionId;
use super::peer::Peer;
use crate::log::publication::now;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{AtomicWaker, Mutex, Notify};
use crate::tls::socket::Socket;
use crate::wire::close::Disconnect;

/// Limit on queued control bytes of a connection. Above it, the task stops reading, which is backpressure on the
/// client.
const MAX_CONTROL_BYTES: usize = if cfg!(loom) { 64 } else { 64 * 1024 };

/// Limits on requests that the shard has not carried out, in number and in bytes. One more request, which may be
/// larger, is accepted below the limits.
const MAX_REQUESTS: usize = 64;
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Shared state of a connection: its task reads from the socket, its shard writes to it.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) id: ConnectionId,
    pub(crate) socket: Socket,
    pub(crate) peer: Peer,
    /// Notifies the task that one of the fields below has changed.
    changed: Notify,
    blocked: AtomicBool,
    ended: AtomicBool,
    close: Mutex<Option<Disconnect>>,
    control_bytes: AtomicUsize,
    control_room: AtomicWaker,
    /// Requests that the shard has not carried out yet.
    requests: AtomicUsize,
    request_bytes: AtomicUsize,
    /// Bytes of frames for this connection alone that are not written to the socket yet.
    direct_bytes: AtomicUsize,
    /// Time at which the connection opened, in milliseconds since 1970.
    pub(crate) opened_at: u64,
    pub(crate) load: Load,
}

/// Load of a connection: its send buffer and its dropped publications. The shard writes it, operators read it.
#[derive(Debug)]
pub(crate) struct Load {
    /// Bytes of queued publications.
    pub(crate) send_buffer_bytes: AtomicU64,
    /// Sum over all connections, so that a reader need not visit each of them.
    all_send_buffer_bytes: Arc<AtomicUsize>,
    /// Queued frames of all kinds.
    pub(crate) send_buffer_frames: AtomicU64,
    /// Publications dropped because the client was slow.
    pub(crate) dropped: AtomicU64,
}

impl Load {
    fn new(all_send_buffer_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            send_buffer_bytes: AtomicU64::new(0),
            all_send_buffer_bytes,
            send_buffer_frames: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Updates the size of the send buffer.
    pub(crate) fn show(&self, bytes: u64, frames: u64) {
        let before = self.send_buffer_bytes.swap(bytes, Ordering::Relaxed);
        // The sum wraps around when a difference is negative, and back again.
        self.all_send_buffer_bytes
            .fetch_add(bytes.wrapping_sub(before) as usize, Ordering::Relaxed);
        self.send_buffer_frames.store(frames, Ordering::Relaxed);
    }
}

impl ConnectionState {
    /// Creates the state. `send_buffer_bytes` is the sum over all connections.
    pub(crate) fn new(
        id: ConnectionId,
        socket: Socket,
        peer: Peer,
        send_buffer_bytes: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            socket,
            peer,
            changed: Notify::new(),
            blocked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            close: Mutex::new(None),
            control_bytes: AtomicUsize::new(0),
            control_room: AtomicWaker::new(),
            requests: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            direct_bytes: AtomicUsize::new(0),
            opened_at: now(),
            load: Load::new(send_buffer_bytes),
        })
    }

    // Calls of the shard.

    /// Reports a full socket; the task then waits until it takes bytes again.
    pub(crate) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Asks for the connection to be closed. The first reason counts.
    pub(crate) fn close(&self, reason: Disconnect) {
        self.close.lock().get_or_insert(reason);
        self.changed.notify_one();
    }

    /// Reports that the shard has finished with the connection, because it is complete or broken.
    pub(crate) fn end(&self) {
        if self.load.send_buffer_bytes.load(Ordering::Relaxed) > 0 {
            self.load.show(0, 0);
        }
        self.ended.store(true, Ordering::Release);
        self.changed.notify_one();
        self.control_room.wake();
    }

    /// Reports control bytes that were written to the socket.
    pub(crate) fn control_sent(&self, bytes: usize) {
        if bytes > 0 {
            self.control_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.control_room.wake();
        }
    }

    /// Reports a request of `bytes` bytes that was carried out.
    pub(crate) fn request_done(&self, bytes: usize) {
        let requests = self.requests.fetch_sub(1, Ordering::AcqRel);
        let waiting = self.request_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if requests >= MAX_REQUESTS || waiting >= MAX_REQUEST_BYTES {
            self.control_room.wake();
        }
    }

    /// Reports a written frame for this connection alone.
    pub(crate) fn direct_sent(&self, bytes: usize) {
        if bytes > 0 {
            self.direct_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    // Calls of senders to this connection alone.

    /// Counts a frame, unless more than `limit` bytes are queued already.
    pub(crate) fn direct_made(&self, bytes: usize, limit: usize) -> bool {
        let count = |waiting: usize| (waiting <= limit).then(|| waiting + bytes);
        let counted = self
            .direct_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
        counted.is_ok()
    }

    // Calls of the connection's task.

    /// Waits for a change by the shard.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// Returns true if the socket was blocked since the last call.
    pub(crate) fn take_blocked(&self) -> bool {
        self.blocked.swap(false, Ordering::AcqRel)
    }

    /// Returns true if the shard has finished with the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns the reason for which the shard wants the connection closed, if it does.
    pub(crate) fn close_reason(&self) -> Option<Disconnect> {
        *self.close.lock()
    }

    /// Counts a request of `bytes` bytes before it goes to the shard.
    pub(crate) fn request_made(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.request_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts control bytes that the shard is about to produce, so that the same limit bounds them.
    pub(crate) fn control_made(&self, bytes: usize) {
        self.control_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Returns true if the client may send more requests: it has read enough replies, and the shard keeps up with its
    /// requests.
    pub(crate) fn has_request_room(&self) -> bool {
        self.has_control_room()
            && self.requests.load(Ordering::Acquire) < MAX_REQUESTS
            && self.request_bytes.load(Ordering::Acquire) < MAX_REQUEST_BYTES
    }

    /// Waits until the client may send more requests.
    pub(crate) fn poll_request_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_room(context, Self::has_request_room)
    }

    /// Returns true if the client has read enough of the replies to its requests.
    pub(crate) fn has_control_room(&self) -> bool {
        self.control_bytes.load(Ordering::Acquire) < MAX_CONTROL_BYTES
    }

    /// Waits for room or for the end of the connection. Only the connection's task waits, for one condition at a time.
    pub(super) fn poll_room(
        &self,
        context: &mut Context<'_>,
        has_room: impl Fn(&Self) -> bool,
    ) -> Poll<io::Result<()>> {
        let is_over = || self.has_ended() || has_room(self);
        if !is_over() {
            self.control_room.register(context.waker());
            if !is_over() {
                return Poll::Pending;
            }
        }
        Poll::Ready(if self.has_ended() {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(())
        })
    }
}
