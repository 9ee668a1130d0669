//! Reads of the stream, for connections whose cursor is older than the history.
//!
//! The engine fetches one chunk of a read at a time and hands it over; it goes to the connection's shard. The read is
//! due again when the client has taken everything of it, so each read has one chunk in memory. Reads outlive a session
//! of the engine: those that it had begun are then due again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::command::Command;
use super::connection_handle::ConnectionHandle;
use crate::wire::close::Disconnect;

/// The maximum number of reads of a server. More would take the engine's connection from the live publications.
pub(crate) const MAX_READS: usize = 64;

/// Time for which a client may take nothing before its read makes room for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the stream that one client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamRead {
    /// The number of the read, never used again.
    pub id: u64,
    /// The number of the first record that is wanted.
    pub from: u64,
}

/// Records of one chunk with their numbers, in order. An empty chunk says that the stream has none from the first
/// wanted number on.
pub(crate) type Chunk = Vec<(u64, Bytes)>;

/// The reads of a server.
#[derive(Debug, Default)]
pub(crate) struct StreamReads {
    reads: Mutex<Reads>,
    /// Told when a read is due.
    due: Notify,
}

#[derive(Debug, Default)]
struct Reads {
    active: HashMap<u64, Read>,
    due: VecDeque<u64>,
    /// Number of permits.
    admitted: usize,
    last_id: u64,
}

#[derive(Debug)]
struct Read {
    connection: ConnectionHandle,
    epoch: Arc<str>,
    from: u64,
    turn: Turn,
    /// True if the read has lost its permit to another one.
    is_evicted: bool,
}

/// The side that acts next on a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The engine, which has not taken it yet.
    Due,
    /// The engine.
    Engine,
    /// The shard, because the client has to take records first. The time is that of the last chunk.
    Client(Instant),
}

/// The place of one read among all of them. Dropping it ends the read.
#[derive(Debug)]
pub(crate) struct ReadPermit {
    reads: Arc<StreamReads>,
    pub(crate) id: u64,
}

impl StreamReads {
    /// Reserves the place of a read; none when all are taken. A client that has taken nothing for a while then loses
    /// its place and its connection.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<ReadPermit> {
        let mut reads = self.reads.lock();
        if reads.admitted >= MAX_READS && !reads.evict(Instant::now()) {
            return None;
        }
        reads.admitted += 1;
        reads.last_id += 1;
        Some(ReadPermit {
            reads: self.clone(),
            id: reads.last_id,
        })
    }

    /// Returns the number of reads, including those that have not begun.
    pub(crate) fn len(&self) -> u64 {
        self.reads.lock().admitted as u64
    }

    /// Waits until a read is due; one that became due since the last call counts.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Takes the read that has been due for the longest time, with the epoch of its numbers.
    pub(crate) fn take_due(&self) -> Option<(StreamRead, Arc<str>)> {
        let mut reads = self.reads.lock();
        while let Some(id) = reads.due.pop_front() {
            if let Some(read) = reads.active.get_mut(&id)
                && read.turn == Turn::Due
            {
                read.turn = Turn::Engine;
                let from = read.from;
                return Some((StreamRead { id, from }, read.epoch.clone()));
            }
        }
        None
    }

    /// Returns whether a read has not ended.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.reads.lock().active.contains_key(&id)
    }

    /// Makes all reads due again that the engine has taken, because it begins anew.
    pub(crate) fn begin_again(&self) {
        let mut reads = self.reads.lock();
        let Reads { active, due, .. } = &mut *reads;
        for (id, read) in active {
            if read.turn == Turn::Engine {
                read.turn = Turn::Due;
                due.push_back(*id);
            }
        }
        drop(reads);
        self.due.notify_one();
    }

    /// Makes a read that the engine has taken due again, behind all others.
    pub(crate) fn postpone(&self, taken: StreamRead) {
        let mut reads = self.reads.lock();
        if let Some(read) = reads.active.get_mut(&taken.id)
            && read.turn == Turn::Engine
        {
            read.turn = Turn::Due;
            reads.due.push_back(taken.id);
        }
        drop(reads);
        self.due.notify_one();
    }

    /// Hands the next chunk of a read to the shard, unless the read has ended.
    pub(crate) fn give(&self, taken: StreamRead, chunk: Chunk) {
        let mut reads = self.reads.lock();
        if let Some(read) = reads.active.get_mut(&taken.id)
            && read.turn == Turn::Engine
        {
            read.turn = Turn::Client(Instant::now());
            let connection = read.connection.clone();
            drop(reads);
            connection.tell(Command::Chunk {
                connection: connection.id,
                read: taken.id,
                chunk,
            });
        }
    }
}

impl Reads {
    /// Ends the read whose client has taken nothing for the longest time. Returns false if no client is that slow.
    fn evict(&mut self, now: Instant) -> bool {
        let is_slow = |read: &&mut Read| match read.turn {
            Turn::Client(since) => !read.is_evicted && now.duration_since(since) >= PATIENCE,
            Turn::Due | Turn::Engine => false,
        };
        let since = |read: &&mut Read| match read.turn {
            Turn::Client(since) => since,
            Turn::Due | Turn::Engine => now,
        };
        let slow = self.active.values_mut().filter(is_slow);
        let Some(read) = slow.min_by_key(since) else {
            return false;
        };
        read.is_evicted = true;
        read.connection.close(Disconnect::Slow);
        self.admitted -= 1;
        true
    }
}

impl ReadPermit {
    /// Asks for the records from a number on. The client has taken everything before it.
    pub(crate) fn ask(&self, connection: ConnectionHandle, epoch: &Arc<str>, from: u64) {
        let mut reads = self.reads.reads.lock();
        let read = reads.active.entry(self.id).or_insert_with(|| Read {
            connection,
            epoch: epoch.clone(),
            from,
            turn: Turn::Engine,
            is_evicted: false,
        });
        read.from = from;
        if read.turn != Turn::Due {
            read.turn = Turn::Due;
            reads.due.push_back(self.id);
        }
        drop(reads);
        self.reads.due.notify_one();
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        let mut reads = self.reads.reads.lock();
        let read = reads.active.remove(&self.id);
        if !read.is_some_and(|read| read.is_evicted) {
            reads.admitted -= 1;
        }
        // Ids of reads that ended while they were due are skipped when they are taken. They must not pile up.
        let Reads { active, due, .. } = &mut *reads;
        if due.len() > 2 * active.len() + MAX_READS {
            due.retain(|id| active.contains_key(id));
        }
    }
}
