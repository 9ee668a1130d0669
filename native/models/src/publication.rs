//! A message as the log sees it: how large it is, and its number, which loom watches: who reads it must not do so while
//! it is written.

use std::sync::Arc;

use loom::cell::Cell;

/// The size of what tells of lost messages.
pub(crate) const LOSS: usize = 20;

#[derive(Debug)]
pub(crate) struct Draft(Publication);

#[derive(Debug)]
pub(crate) struct Publication {
    seq: Cell<u64>,
    /// What the model tells it by.
    pub(crate) name: u64,
    footprint: usize,
    lost: u64,
}

impl Draft {
    pub(crate) fn new(name: u64, footprint: usize) -> Self {
        Self(Publication {
            seq: Cell::new(0),
            name,
            footprint,
            lost: 0,
        })
    }

    pub(crate) fn into_loss(self) -> Self {
        Self::of_lost_messages(1)
    }

    pub(crate) fn of_lost_messages(lost: u64) -> Self {
        let Self(publication) = Self::new(0, LOSS);
        Self(Publication {
            lost,
            ..publication
        })
    }

    pub(crate) fn footprint(&self) -> usize {
        self.0.footprint
    }

    pub(crate) fn number(self, seq: u64) -> Arc<Publication> {
        self.0.seq.set(seq);
        Arc::new(self.0)
    }
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
