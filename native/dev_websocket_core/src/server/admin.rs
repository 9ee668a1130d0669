//! Who is connected: for an operator who wants to see it, or to end it.

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

/// Connections of a page that the shards are asked for together.
const ASKED_AT_ONCE: usize = 64;

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number, which no other one ever has in this program.
    pub connection: u64,
    /// The address that it comes from.
    pub peer: SocketAddr,
    /// `json`, `raw` or `events`.
    pub format: &'static str,
    /// How long it has been there, in milliseconds.
    pub age: u64,
    /// Bytes of publications that wait for it, because it reads slowly.
    pub send_buffer_bytes: u64,
    /// Publications, gaps and replies that wait for it.
    pub send_buffer_frames: u64,
    /// Publications that were dropped because it was slow.
    pub dropped: u64,
    /// Names in lower case and values of its request's headers, without those of the handshake. None in a list of connections.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is subscribed to.
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

/// What whoever asked gets, once this is dropped: however the work on it ends, there is one answer.
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

    /// Adds to what is told.
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

/// Asks the shard of a connection what that is subscribed to: none when it has ended meanwhile.
fn ask(handle: &ConnectionHandle) -> impl Future<Output = Option<ConnectionInfo>> + Send + use<> {
    let (sender, topics) = oneshot::channel();
    handle.tell(Command::Topics {
        connection: handle.id,
        // Who asked may be gone.
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
    /// Asks what is known of a connection. The answer comes on another thread: none when the connection has ended
    /// meanwhile.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once; there is no other answer then.
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

    /// Asks for a page of the connections: at most `limit` with numbers greater than `after`, in order. The answer comes on
    /// another thread, without those that have ended meanwhile. It takes work for the connections of the page alone, a few
    /// at a time, so that their shards do not keep others waiting for it.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once when there are none; there is no other answer then.
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
                let asked: Vec<_> = handles.iter().map(|handle| ask(handle)).collect();
                for known in asked {
                    let known = known.await;
                    promise.add(|found| found.extend(known));
                }
            }
        });
        Ok(())
    }

    /// Ends a connection: it is closed with 1008.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] when there is no such connection any more, or there never was.
    pub fn disconnect(&self, connection: u64) -> Result<(), SendError> {
        let handle = self.shared.connections.find(connection);
        let handle = handle.ok_or(SendError::NoConnection)?;
        handle.close(Disconnect::Operator);
        Ok(())
    }
}
