//! The properties of connections, for operators.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::log::publication::now;
use crate::shard::command::{Answer, Command};
use crate::shard::connection_handle::ConnectionHandle;
use crate::subscription::Subscription;

/// Number of connections of a page about which the shards are asked together.
pub(crate) const ASKED_AT_ONCE: usize = 64;

/// The properties of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Id of the connection, unique within the program.
    pub connection: u64,
    /// Address of the client.
    pub peer: SocketAddr,
    /// `json`, `raw` or `events`.
    pub format: &'static str,
    /// Age of the connection, in milliseconds.
    pub age: u64,
    /// Bytes of publications in the send buffer, because the client reads slowly.
    pub send_buffer_bytes: u64,
    /// Publications, gaps and replies in the send buffer.
    pub send_buffer_frames: u64,
    /// Publications dropped because the client was slow.
    pub dropped: u64,
    /// Headers of the request, without those of the handshake: names in lower case, and values. Empty in a list of
    /// connections.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Subscriptions of the connection.
    pub topics: Vec<String>,
}

impl ConnectionInfo {
    fn of(handle: &ConnectionHandle) -> Self {
        Self {
            connection: handle.id,
            peer: handle.peer.address,
            format: handle.peer.form.format.name(),
            age: now().saturating_sub(handle.opened_at),
            send_buffer_bytes: handle.load.send_buffer_bytes.load(Ordering::Relaxed),
            send_buffer_frames: handle.load.send_buffer_frames.load(Ordering::Relaxed),
            dropped: handle.load.dropped.load(Ordering::Relaxed),
            headers: Vec::new(),
            topics: Vec::new(),
        }
    }
}

/// Asks the shard of a connection for its subscriptions. The result is `None` if the connection has ended meanwhile.
pub(crate) fn ask(
    handle: &ConnectionHandle,
) -> impl Future<Output = Option<ConnectionInfo>> + Send + use<> {
    let (sender, topics) = oneshot::channel();
    handle.tell(Command::Topics {
        connection: handle.id,
        // The caller may be gone.
        answer: Answer::new(|topics| drop(sender.send(topics))),
    });
    let known = ConnectionInfo::of(handle);
    async move {
        let topics = topics.await.ok().flatten()?;
        let name = |topic: &Subscription| match topic.shown() {
            serde_json::Value::String(name) => name,
            shown => shown.to_string(),
        };
        Some(ConnectionInfo {
            topics: topics.iter().map(name).collect(),
            ..known
        })
    }
}
