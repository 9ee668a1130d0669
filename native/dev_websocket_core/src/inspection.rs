//! Who is connected: for an operator who wants to see it, or to end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::connection::link::Link;
use crate::direct::SendError;
use crate::disconnect::Disconnect;
use crate::publication::now;
use crate::server::Server;
use crate::shard::command::{Answer, Command};

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub pending_bytes: u64,
    /// Publications, gaps and replies that wait for it.
    pub pending_frames: u64,
    /// Publications that were dropped because it was slow.
    pub dropped: u64,
    /// Names in lower case and values of its request's headers, without those of the handshake. None in a list of connections.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is subscribed to.
    pub topics: Vec<String>,
}

impl ConnectionInfo {
    fn of(link: &Link, topics: Vec<String>) -> Self {
        Self {
            connection: link.id,
            peer: link.peer.address,
            format: link.peer.format.name(),
            age: now().saturating_sub(link.opened_at),
            pending_bytes: link.load.pending_bytes.load(Ordering::Relaxed),
            pending_frames: link.load.pending_frames.load(Ordering::Relaxed),
            dropped: link.load.dropped.load(Ordering::Relaxed),
            headers: Vec::new(),
            topics,
        }
    }
}

/// A list that its parts come into, and who waits for all of it. Whoever lets go of it last makes it complete.
struct Gathering<F: FnOnce(Vec<ConnectionInfo>)>(Mutex<(Vec<ConnectionInfo>, Option<F>)>);

impl<F: FnOnce(Vec<ConnectionInfo>)> Drop for Gathering<F> {
    fn drop(&mut self) {
        let (found, answer) = self.0.get_mut();
        found.sort_unstable_by_key(|known| known.connection);
        if let Some(answer) = answer.take() {
            answer(std::mem::take(found));
        }
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
        let Some(link) = self.shared.connections.find(connection) else {
            return Err(SendError::NoConnection);
        };
        let known = link.clone();
        let answer = Answer::new(move |topics: Option<Vec<String>>| {
            answer(topics.map(|topics| {
                ConnectionInfo {
                    headers: known
                        .peer
                        .headers()
                        .map(|(name, value)| (name.to_vec(), value.to_vec()))
                        .collect(),
                    ..ConnectionInfo::of(&known, topics)
                }
            }));
        });
        link.tell(Command::Topics { connection, answer });
        Ok(())
    }

    /// Asks for a page of the connections: at most `limit` with numbers greater than `after`, in order. The answer comes on
    /// another thread, without those that have ended meanwhile. It takes time for each connection that there is.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once when there are none; there is no other answer then.
    pub fn connections(
        &self,
        after: u64,
        limit: usize,
        answer: impl FnOnce(Vec<ConnectionInfo>) + Send + 'static,
    ) -> Result<(), SendError> {
        let mut links = self.shared.connections.page(after, limit);
        let last = links.pop().ok_or(SendError::NoConnection)?;
        let gathering = Arc::new(Gathering(Mutex::new((Vec::new(), Some(answer)))));
        let ask = |link: Arc<Link>, gathering: Arc<Gathering<_>>| {
            let known = link.clone();
            let answer = Answer::new(move |topics| {
                if let Some(topics) = topics {
                    let known = ConnectionInfo::of(&known, topics);
                    gathering.0.lock().0.push(known);
                }
            });
            let connection = link.id;
            link.tell(Command::Topics { connection, answer });
        };
        for link in links {
            ask(link, gathering.clone());
        }
        // The last one takes our own hold of it along, so that it is never completed on this thread.
        ask(last, gathering);
        Ok(())
    }

    /// Ends a connection: it is closed with 1008.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] when there is no such connection any more, or there never was.
    pub fn disconnect(&self, connection: u64) -> Result<(), SendError> {
        let link = self.shared.connections.find(connection);
        let link = link.ok_or(SendError::NoConnection)?;
        link.close(Disconnect::Operator);
        Ok(())
    }
}
