//! Inspection of connections for operators, and disconnection of single ones.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::log::publication::now;
use crate::server::Server;
use crate::server::send::SendError;
use crate::shard::command::{Answer, Command};
use crate::shard::connection_handle::ConnectionHandle;
use crate::subscription::Subscription;
use crate::wire::close::Disconnect;

/// Number of connections of a page about which the shards are asked together.
const ASKED_AT_ONCE: usize = 64;

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
            format: handle.peer.format.name(),
            age: now().saturating_sub(handle.opened_at),
            send_buffer_bytes: handle.load.send_buffer_bytes.load(Ordering::Relaxed),
            send_buffer_frames: handle.load.send_buffer_frames.load(Ordering::Relaxed),
            dropped: handle.load.dropped.load(Ordering::Relaxed),
            headers: Vec::new(),
            topics: Vec::new(),
        }
    }
}

/// The answer to a caller, delivered when this is dropped. Whichever way the work ends, there is exactly one answer.
struct Promise<T, F: FnOnce(T)> {
    found: Option<T>,
    answer: Option<F>,
}

impl<T, F: FnOnce(T)> Promise<T, F> {
    fn new(found: T, answer: F) -> Self {
        Self {
            found: Some(found),
            answer: Some(answer),
        }
    }

    /// Changes the answer.
    fn add(&mut self, change: impl FnOnce(&mut T)) {
        self.found.as_mut().map(change);
    }
}

impl<T, F: FnOnce(T)> Drop for Promise<T, F> {
    fn drop(&mut self) {
        if let (Some(found), Some(answer)) = (self.found.take(), self.answer.take()) {
            answer(found);
        }
    }
}

/// Asks the shard of a connection for its subscriptions. The result is `None` if the connection has ended meanwhile.
fn ask(handle: &ConnectionHandle) -> impl Future<Output = Option<ConnectionInfo>> + Send + use<> {
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

impl Server {
    /// Requests the properties of a connection. The answer comes on another thread; it is `None` if the connection has
    /// ended meanwhile.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once, if there is no such connection; there is no other answer then.
    pub fn connection(
        &self,
        connection: u64,
        answer: impl FnOnce(Option<ConnectionInfo>) + Send + 'static,
    ) -> Result<(), SendError> {
        let Some(handle) = self.shared.connections.find(connection) else {
            return Err(SendError::NoConnection);
        };
        let mut promise = Promise::new(None, answer);
        self.runtime.spawn(async move {
            let headers = handle.peer.headers();
            let headers = headers.map(|(name, value)| (name.to_vec(), value.to_vec()));
            let known = ask(&handle).await.map(|known| ConnectionInfo {
                headers: headers.collect(),
                ..known
            });
            promise.add(|found| *found = known);
        });
        Ok(())
    }

    /// Requests a page of connections: at most `limit` with ids above `after`, in order. The answer comes on another
    /// thread, without connections that have ended meanwhile.
    ///
    /// The work is proportional to the page. It is done in small parts, so that shards do not keep other connections
    /// waiting.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once, if there are none; there is no other answer then.
    pub fn connections(
        &self,
        after: u64,
        limit: usize,
        answer: impl FnOnce(Vec<ConnectionInfo>) + Send + 'static,
    ) -> Result<(), SendError> {
        let handles = self.shared.connections.page(after, limit);
        if handles.is_empty() {
            return Err(SendError::NoConnection);
        }
        let mut promise = Promise::new(Vec::with_capacity(handles.len()), answer);
        self.runtime.spawn(async move {
            for handles in handles.chunks(ASKED_AT_ONCE) {
                let asked: Vec<_> = handles.iter().map(ask).collect();
                for known in asked {
                    let known = known.await;
                    promise.add(|found| found.extend(known));
                }
            }
        });
        Ok(())
    }

    /// Closes a connection with code 1008.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] if the connection has ended or never existed.
    pub fn disconnect(&self, connection: u64) -> Result<(), SendError> {
        let handle = self.shared.connections.find(connection);
        let handle = handle.ok_or(SendError::NoConnection)?;
        handle.close(Disconnect::Operator);
        Ok(())
    }
}
