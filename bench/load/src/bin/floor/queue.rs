//! What is waiting for one shard, pushed by the publisher and by the acceptor.

use mio::Waker;
use std::sync::{Arc, Mutex, PoisonError};

/// One thing for a shard to do.
pub(crate) enum Item {
    /// A new connection, and the topics it asked for.
    Join {
        stream: std::net::TcpStream,
        topics: Vec<usize>,
    },
    /// A frame for everybody at that topic.
    Send { topic: usize, frame: Arc<[u8]> },
}

/// Many push, one takes everything at once.
pub(crate) struct Queue {
    items: Mutex<Vec<Item>>,
    waker: Waker,
}

impl Queue {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            items: Mutex::default(),
            waker,
        }
    }

    /// Adds an item; wakes the shard only when there was none, since otherwise it has been woken or is at work.
    pub(crate) fn push(&self, item: Item) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = items.is_empty();
        items.push(item);
        drop(items);
        if was_empty && let Err(error) = self.waker.wake() {
            eprintln!("floor: cannot wake a shard: {error}");
        }
    }

    /// Swaps what is waiting with `into`, which must be empty and whose memory is used again.
    pub(crate) fn take(&self, into: &mut Vec<Item>) {
        std::mem::swap(
            &mut *self.items.lock().unwrap_or_else(PoisonError::into_inner),
            into,
        );
    }
}
