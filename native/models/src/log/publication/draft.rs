//! A stand-in for a message without a sequence number.

use std::sync::Arc;

use loom::cell::Cell;

use super::{LOSS, Publication};

#[derive(Debug)]
pub(crate) struct Draft(Publication);

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

    pub(crate) fn number(self, seq: u64, _: u64) -> Arc<Publication> {
        self.0.seq.set(seq);
        Arc::new(self.0)
    }
}
