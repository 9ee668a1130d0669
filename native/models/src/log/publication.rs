//! A message as the log sees it: how large it is, and its number, which loom watches: who reads it must not do so while
//! it is written.

pub(crate) mod draft;

use loom::cell::Cell;

/// The size of what tells of lost messages.
pub(crate) const LOSS: usize = 20;

#[derive(Debug)]
pub(crate) struct Publication {
    seq: Cell<u64>,
    /// What the model tells it by.
    pub(crate) name: u64,
    footprint: usize,
    lost: u64,
}

impl Publication {
    pub(crate) fn seq(&self) -> u64 {
        self.seq.get()
    }

    pub(crate) fn footprint(&self) -> usize {
        self.footprint
    }

    pub(crate) fn lost_messages(&self) -> u64 {
        self.lost
    }
}

/// The time is always the same here.
pub(crate) fn now() -> u64 {
    0
}
