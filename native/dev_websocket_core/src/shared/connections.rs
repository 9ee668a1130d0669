//! The live connections by id, for callers that address one of them.

use std::collections::BTreeMap;
use std::ops::Bound;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::ids::ConnectionId;

/// Number of parts. Each has its own lock, so that connections can be added, removed and found without waiting for each
/// other.
const PARTS: u64 = 16;

/// Connections in order of their ids, so that a page can begin at any id.
type Part = BTreeMap<ConnectionId, ConnectionHandle>;

/// The table of live connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    parts: [Mutex<Part>; PARTS as usize],
    /// Connections that pages have visited.
    #[cfg(test)]
    visited: AtomicUsize,
}

/// A connection's entry in the table; dropping it removes the connection.
#[derive(Debug)]
pub(crate) struct Entry<'c> {
    connections: &'c Connections,
    id: ConnectionId,
}

impl Connections {
    /// Adds a connection.
    pub(crate) fn enter(&self, handle: &ConnectionHandle) -> Entry<'_> {
        self.part(handle.id)
            .lock()
            .insert(handle.id, handle.clone());
        Entry {
            connections: self,
            id: handle.id,
        }
    }

    /// Returns the connection with an id, if it is live.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<ConnectionHandle> {
        self.part(id).lock().get(&id).cloned()
    }

    /// Returns at most `limit` connections with ids above `after`, in order. It visits a few more than those, and locks
    /// one part at a time.
    pub(crate) fn page(&self, after: ConnectionId, limit: usize) -> Vec<ConnectionHandle> {
        let mut handles: Vec<ConnectionHandle> = Vec::new();
        let mut after = after;
        while handles.len() < limit {
            // Ids are assigned in turn, so each part has about as many of the next ones.
            let share = (limit - handles.len()).div_ceil(PARTS as usize) + 1;
            let mut complete_to = ConnectionId::MAX;
            let start = handles.len();
            for part in &self.parts {
                let part = part.lock();
                let behind = part.range((Bound::Excluded(after), Bound::Unbounded));
                let known = handles.len();
                handles.extend(behind.take(share).map(|(_, handle)| handle.clone()));
                #[cfg(test)]
                self.visited
                    .fetch_add(handles.len() - known, Ordering::Relaxed);
                if handles.len() - known == share
                    && let Some(last) = handles.last()
                {
                    // The part may have more of the next connections.
                    complete_to = complete_to.min(last.id);
                }
            }
            handles[start..].sort_unstable_by_key(|handle| handle.id);
            let complete = handles[start..].partition_point(|handle| handle.id <= complete_to);
            handles.truncate(start + complete);
            if complete_to == ConnectionId::MAX {
                break;
            }
            after = complete_to;
        }
        handles.truncate(limit);
        handles
    }

    fn part(&self, id: ConnectionId) -> &Mutex<Part> {
        &self.parts[(id % PARTS) as usize]
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.connections.part(self.id).lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use std::net::{TcpListener, TcpStream};

    use hyper::header::HeaderMap;

    use crate::access::Session;
    use crate::shard::connection_state::ConnectionState;
    use crate::shard::peer::Peer;
    use crate::wire::format::Format;

    /// Creates handles with these ids, all over the same socket.
    fn handles(numbers: impl IntoIterator<Item = u64>) -> Vec<ConnectionHandle> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let handle = |id| {
            let stream = tokio::net::TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let peer = Peer::new(
                address,
                Format::Json,
                &HeaderMap::new(),
                Session::unrestricted(),
            );
            let state = ConnectionState::new(id, stream.into(), peer, Arc::default());
            ConnectionHandle::new(state, Arc::default())
        };
        numbers.into_iter().map(handle).collect()
    }

    fn numbers(page: &[ConnectionHandle]) -> Vec<u64> {
        page.iter().map(|handle| handle.id).collect()
    }

    #[tokio::test]
    async fn pages_are_in_order_whatever_numbers_are_left() {
        let skewed: Vec<u64> = (1..40).map(|number| number * PARTS).collect();
        for left in [Vec::new(), vec![7], (1..=100).collect(), skewed] {
            let table = Connections::default();
            let handles = handles(left.iter().copied());
            let _entries: Vec<_> = handles.iter().map(|handle| table.enter(handle)).collect();
            for limit in [1, 2, 15, 16, 17, 38, 39, 40, 99, 100, 101, 1000] {
                let (mut paged, mut after) = (Vec::new(), 0);
                loop {
                    let page = numbers(&table.page(after, limit));
                    let Some(last) = page.last() else { break };
                    assert!(page.len() == limit || paged.len() + page.len() == left.len());
                    after = *last;
                    paged.extend(page);
                }
                assert_eq!(paged, left, "{limit}");
            }
        }
    }

    #[tokio::test]
    async fn a_page_takes_steps_for_itself_and_not_for_all_connections() {
        let table = Connections::default();
        let handles = handles(1..=500);
        let _entries: Vec<_> = handles.iter().map(|handle| table.enter(handle)).collect();
        let (mut after, mut pages) = (0, 0);
        while let Some(last) = table.page(after, 5).last() {
            after = last.id;
            pages += 1;
        }
        assert_eq!(pages, 100);
        // It visits two of each part, since a page is 5 of 16 parts; visiting all each time would be 50,000.
        let visited = table.visited.load(Ordering::Relaxed);
        assert!(visited <= 101 * 2 * PARTS as usize, "{visited}");
    }
}
