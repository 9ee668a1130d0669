//! A stand-in for a publication with its size and its sequence number. loom checks that no thread reads the number
//! while another writes it.

pub(crate) mod draft;

use loom::cell::Cell;

/// The size of a gap notice.
pub(crate) const LOSS: usize = 20;

#[derive(Debug)]
pub(crate) struct Publication {
    seq: Cell<u64>,
    /// The name by which a model identifies the publication.
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

/// Returns a constant time.
pub(crate) fn now() -> u64 {
    0
}
