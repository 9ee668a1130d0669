//! The live connections by their numbers, for those who address one of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::link::Link;
use crate::shard::command::ConnectionId;
use crate::topic::PrecomputedHash;

/// Parts with a lock of their own, so that connections come, go and are found without waiting for each other.
const PARTS: u64 = 16;

type Part = HashMap<u64, Arc<Link>, PrecomputedHash>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    parts: [Mutex<Part>; PARTS as usize],
}

/// A connection's place in the table, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entry<'c> {
    connections: &'c Connections,
    id: ConnectionId,
}

impl Connections {
    /// Makes a connection known.
    pub(crate) fn enter(&self, link: &Arc<Link>) -> Entry<'_> {
        let (part, key) = self.place(link.id);
        part.lock().insert(key, link.clone());
        Entry {
            connections: self,
            id: link.id,
        }
    }

    /// The connection of that number, if it lives.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Link>> {
        let (part, key) = self.place(id);
        part.lock().get(&key).cloned()
    }

    /// At most so many connections with greater numbers, in order.
    pub(crate) fn page(&self, after: ConnectionId, limit: usize) -> Vec<Arc<Link>> {
        let of_part = |part: &Mutex<Part>| -> Vec<Arc<Link>> {
            let part = part.lock();
            let behind = part.values().filter(|link| link.id > after);
            behind.cloned().collect()
        };
        let mut links: Vec<_> = self.parts.iter().flat_map(of_part).collect();
        links.sort_unstable_by_key(|link| link.id);
        links.truncate(limit);
        links
    }

    /// Bytes of publications that wait for all of them.
    pub(crate) fn pending_bytes(&self) -> u64 {
        let of_part = |part: &Mutex<Part>| -> u64 {
            let part = part.lock();
            part.values()
                .map(|link| link.load.pending_bytes.load(Ordering::Relaxed))
                .sum()
        };
        self.parts.iter().map(of_part).sum()
    }

    /// Numbers are given in turn, so the keys of a part follow each other: that spreads them best.
    fn place(&self, id: ConnectionId) -> (&Mutex<Part>, u64) {
        (&self.parts[(id % PARTS) as usize], id / PARTS)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let (part, key) = self.connections.place(self.id);
        let mut part = part.lock();
        part.remove(&key);
        // A crowd that has left leaves no memory behind.
        if part.capacity() > 64 && part.len() < part.capacity() / 8 {
            part.shrink_to_fit();
        }
    }
}
