//! Gaps in the send buffer, in the place of publications that were dropped.

use crate::log::publication::Publication;

/// A range of publications that were dropped in one place, in the numbers that clients see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) dropped: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Gap {
    pub(super) fn of(publication: &Publication) -> Self {
        Self {
            // A report of lost messages stands for those messages.
            dropped: publication.lost_messages().max(1),
            first: publication.first_number(),
            last: publication.shown_number(),
        }
    }

    pub(super) fn extend(&mut self, next: Gap) {
        self.dropped += next.dropped;
        self.last = next.last;
    }
}
