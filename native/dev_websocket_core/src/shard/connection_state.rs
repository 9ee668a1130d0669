//! The state of a connection that its task and its shard share: counts of bytes, and signals in both directions.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ids::ConnectionId;
use super::peer::Peer;
use crate::log::publication::now;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{AtomicWaker, Mutex, Notify, TcpStream};
use crate::wire::close::Disconnect;

/// Control bytes that may wait for a connection; at more, its task stops reading, which is backpressure on the client.
const MAX_CONTROL_BYTES: usize = if cfg!(loom) { 64 } else { 64 * 1024 };

/// Requests that may wait for the shard, and bytes in which they are written, likewise. One more may be larger.
const MAX_REQUESTS: usize = 64;
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// One connection: its task reads from the socket, its shard writes to it.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) id: ConnectionId,
    pub(crate) stream: TcpStream,
    pub(crate) peer: Peer,
    /// Tells the task that one of the fields below has changed.
    changed: Notify,
    blocked: AtomicBool,
    ended: AtomicBool,
    close: Mutex<Option<Disconnect>>,
    control_bytes: AtomicUsize,
    control_room: AtomicWaker,
    /// Requests that the shard has not carried out yet.
    requests: AtomicUsize,
    request_bytes: AtomicUsize,
    /// Bytes sent to this connection alone that are not on the socket yet.
    direct_bytes: AtomicUsize,
    /// When it was opened, in milliseconds since 1970.
    pub(crate) opened_at: u64,
    pub(crate) load: Load,
}

/// What waits for a connection, and what it has missed. The shard writes it, for operators to read.
#[derive(Debug)]
pub(crate) struct Load {
    /// Bytes of publications.
    pub(crate) send_buffer_bytes: AtomicU64,
    /// Those of all connections, so that nobody has to look at each of them.
    all_send_buffer_bytes: Arc<AtomicUsize>,
    /// Whatever waits.
    pub(crate) send_buffer_frames: AtomicU64,
    /// Publications that were dropped because it was slow.
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

    /// Shows what waits.
    pub(crate) fn show(&self, bytes: u64, frames: u64) {
        let before = self.send_buffer_bytes.swap(bytes, Ordering::Relaxed);
        // The sum wraps around on the way down, and back.
        self.all_send_buffer_bytes
            .fetch_add(bytes.wrapping_sub(before) as usize, Ordering::Relaxed);
        self.send_buffer_frames.store(frames, Ordering::Relaxed);
    }
}

impl ConnectionState {
    /// `send_buffer_bytes` are those of all connections.
    pub(crate) fn new(
        id: ConnectionId,
        stream: TcpStream,
        peer: Peer,
        send_buffer_bytes: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            stream,
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

    // What the shard says.

    /// The socket takes no more: the task shall say when it does.
    pub(crate) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The connection is to be closed, for the first reason given.
    pub(crate) fn close(&self, reason: Disconnect) {
        self.close.lock().get_or_insert(reason);
        self.changed.notify_one();
    }

    /// The shard has nothing more to do with the connection: it is finished, or broken.
    pub(crate) fn end(&self) {
        if self.load.send_buffer_bytes.load(Ordering::Relaxed) > 0 {
            self.load.show(0, 0);
        }
        self.ended.store(true, Ordering::Release);
        self.changed.notify_one();
        self.control_room.wake();
    }

    /// Control bytes are on the socket.
    pub(crate) fn control_sent(&self, bytes: usize) {
        if bytes > 0 {
            self.control_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.control_room.wake();
        }
    }

    /// A request of so many bytes has been carried out.
    pub(crate) fn request_done(&self, bytes: usize) {
        let requests = self.requests.fetch_sub(1, Ordering::AcqRel);
        let waiting = self.request_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if requests >= MAX_REQUESTS || waiting >= MAX_REQUEST_BYTES {
            self.control_room.wake();
        }
    }

    /// A frame for this connection alone is on the socket.
    pub(crate) fn direct_sent(&self, bytes: usize) {
        if bytes > 0 {
            self.direct_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    // What those who send to this connection alone say.

    /// Counts a frame, unless more than `limit` bytes wait already.
    pub(crate) fn direct_made(&self, bytes: usize, limit: usize) -> bool {
        let count = |waiting: usize| (waiting <= limit).then(|| waiting + bytes);
        let counted = self
            .direct_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
        counted.is_ok()
    }

    // What the task asks and says.

    /// Waits until the shard has said something.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the socket was blocked since the last call.
    pub(crate) fn take_blocked(&self) -> bool {
        self.blocked.swap(false, Ordering::AcqRel)
    }

    /// Whether the shard is done with the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why the shard wants the connection closed, if it does.
    pub(crate) fn close_reason(&self) -> Option<Disconnect> {
        *self.close.lock()
    }

    /// Counts a request of so many bytes that the shard is about to be given.
    pub(crate) fn request_made(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.request_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts control bytes that the shard is about to make, so that they are bounded with the others.
    pub(crate) fn control_made(&self, bytes: usize) {
        self.control_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether the client may ask for more: it has taken enough of its replies, and the shard keeps up with its requests.
    pub(crate) fn has_request_room(&self) -> bool {
        self.has_control_room()
            && self.requests.load(Ordering::Acquire) < MAX_REQUESTS
            && self.request_bytes.load(Ordering::Acquire) < MAX_REQUEST_BYTES
    }

    /// Waits until the client may ask for more.
    pub(crate) fn poll_request_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_room(context, Self::has_request_room)
    }

    /// Whether the client has taken enough of the replies that it asked for.
    pub(crate) fn has_control_room(&self) -> bool {
        self.control_bytes.load(Ordering::Acquire) < MAX_CONTROL_BYTES
    }

    /// Waits for room, or for the end. Only the connection's task waits, for one thing at a time.
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
