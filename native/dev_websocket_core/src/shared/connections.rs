//! The live connections by their numbers, for those who address one of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::shard::command::ConnectionId;
use crate::shard::link::Link;

/// Parts with a lock of their own, so that connections come, go and are found without waiting for each other.
const PARTS: u64 = 16;

/// In order of their numbers, so that a page begins where it has to.
type Part = BTreeMap<ConnectionId, Arc<Link>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    parts: [Mutex<Part>; PARTS as usize],
    /// Connections that pages have looked at.
    #[cfg(test)]
    visited: AtomicUsize,
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
        self.part(link.id).lock().insert(link.id, link.clone());
        Entry {
            connections: self,
            id: link.id,
        }
    }

    /// The connection of that number, if it lives.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Link>> {
        self.part(id).lock().get(&id).cloned()
    }

    /// At most so many connections with greater numbers, in order. It takes a look at a few more than those, and holds a
    /// lock for a part of them.
    pub(crate) fn page(&self, after: ConnectionId, limit: usize) -> Vec<Arc<Link>> {
        let mut links: Vec<Arc<Link>> = Vec::new();
        let mut after = after;
        while links.len() < limit {
            // Numbers are given in turn, so each part has about as many of the next ones.
            let share = (limit - links.len()).div_ceil(PARTS as usize) + 1;
            let mut complete_to = ConnectionId::MAX;
            let start = links.len();
            for part in &self.parts {
                let part = part.lock();
                let behind = part.range((Bound::Excluded(after), Bound::Unbounded));
                let known = links.len();
                links.extend(behind.take(share).map(|(_, link)| link.clone()));
                #[cfg(test)]
                self.visited
                    .fetch_add(links.len() - known, Ordering::Relaxed);
                if links.len() - known == share
                    && let Some(last) = links.last()
                {
                    // It may have more of those that come next.
                    complete_to = complete_to.min(last.id);
                }
            }
            links[start..].sort_unstable_by_key(|link| link.id);
            let complete = links[start..].partition_point(|link| link.id <= complete_to);
            links.truncate(start + complete);
            if complete_to == ConnectionId::MAX {
                break;
            }
            after = complete_to;
        }
        links.truncate(limit);
        links
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
    use super::*;
    use std::net::{TcpListener, TcpStream};

    use hyper::header::HeaderMap;

    use crate::shard::peer::Peer;
    use crate::wire::format::Format;

    /// Links of these numbers, all over the same socket.
    fn links(numbers: impl IntoIterator<Item = u64>) -> Vec<Arc<Link>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let link = |id| {
            let stream = tokio::net::TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let peer = Peer::new(address, Format::Json, &HeaderMap::new());
            Link::new(id, stream, peer, Arc::default(), Arc::default())
        };
        numbers.into_iter().map(link).collect()
    }

    fn numbers(page: &[Arc<Link>]) -> Vec<u64> {
        page.iter().map(|link| link.id).collect()
    }

    #[tokio::test]
    async fn pages_are_in_order_whatever_numbers_are_left() {
        let skewed: Vec<u64> = (1..40).map(|number| number * PARTS).collect();
        for left in [Vec::new(), vec![7], (1..=100).collect(), skewed] {
            let table = Connections::default();
            let links = links(left.iter().copied());
            let _entries: Vec<_> = links.iter().map(|link| table.enter(link)).collect();
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
        let links = links(1..=500);
        let _entries: Vec<_> = links.iter().map(|link| table.enter(link)).collect();
        let (mut after, mut pages) = (0, 0);
        while let Some(last) = table.page(after, 5).last() {
            after = last.id;
            pages += 1;
        }
        assert_eq!(pages, 100);
        // Two of each part, where a page is 5 of 16 parts; all of them each time would be 50,000.
        let visited = table.visited.load(Ordering::Relaxed);
        assert!(visited <= 101 * 2 * PARTS as usize, "{visited}");
    }
}
