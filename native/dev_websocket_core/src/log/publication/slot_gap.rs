//! What tells the subscribers of a process that results are missing, in place of them.

use bytes::Bytes;

use crate::log::slot_marks::MAX_SLOT;
use crate::wire::control::{Reply, SlotGapReason};

/// The longest frame without the name of the process, in bytes.
const FRAME: usize = 256;

/// Why the results of a process are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotGap {
    /// SlotRange are not in the node's cache, though later ones are. They may still come.
    NotCached(SlotRange),
    /// The node does not vouch for slots in its cache. They may still come.
    Withheld(SlotRange),
    /// Nobody was subscribed when these slots were computed.
    NotFollowed(SlotRange),
    /// The node follows too many processes already.
    Limit,
}

/// The first and the last of some slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    from: u64,
    to: u64,
}

impl SlotGap {
    /// The missing slots; none for a limit.
    pub(crate) fn slots(self) -> Option<SlotRange> {
        match self {
            Self::NotCached(slots) | Self::Withheld(slots) | Self::NotFollowed(slots) => {
                Some(slots)
            }
            Self::Limit => None,
        }
    }

    fn reason(self) -> SlotGapReason {
        match self {
            Self::NotCached(_) => SlotGapReason::NotCached,
            Self::Withheld(_) => SlotGapReason::Withheld,
            Self::NotFollowed(_) => SlotGapReason::NotFollowed,
            Self::Limit => SlotGapReason::Limit,
        }
    }
}

impl SlotRange {
    /// The slots from one to another, which must not stand before it.
    #[must_use]
    pub fn new(from: u64, to: u64) -> Option<Self> {
        (from <= to && to <= MAX_SLOT).then_some(Self { from, to })
    }

    /// The first.
    pub(crate) fn from(self) -> u64 {
        self.from
    }

    /// The last.
    pub(crate) fn to(self) -> u64 {
        self.to
    }

    /// How many slots.
    pub(crate) fn count(self) -> u64 {
        self.to - self.from + 1
    }
}

/// A gap with its process.
#[derive(Debug)]
pub(crate) struct SlotGapNotice {
    pub(crate) process: Box<str>,
    pub(crate) gap: SlotGap,
}

impl SlotGapNotice {
    /// The whole text frame.
    pub(super) fn encode(&self, seq: u64, timestamp: u64) -> Bytes {
        let slots = self.gap.slots();
        Reply::SlotGap {
            reason: self.gap.reason(),
            process: &self.process,
            from_slot: slots.map(SlotRange::from),
            to_slot: slots.map(SlotRange::to),
            dropped: slots.map_or(0, SlotRange::count),
            seq,
            timestamp,
        }
        .encode()
    }

    /// Bytes of its frame at the most.
    pub(super) fn frame_bytes(&self) -> usize {
        // A control character takes six bytes, and the name stands here as well.
        FRAME + 7 * self.process.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_does_not_end_before_it_begins_or_behind_the_last_slot() {
        let count = |from, to| SlotRange::new(from, to).map(SlotRange::count);
        assert_eq!(count(4, 3), None);
        assert_eq!(count(4, 4), Some(1));
        assert_eq!(count(4, 5), Some(2));
        assert_eq!(count(0, MAX_SLOT - 1), Some(u64::MAX - 1));
        assert_eq!(count(0, MAX_SLOT), Some(u64::MAX));
        assert_eq!(count(0, MAX_SLOT + 1), None);
    }

    #[test]
    fn a_frame_stays_within_the_bytes_that_it_is_counted_with() {
        for process in ["p".to_owned(), "\u{1}".repeat(255), "\"".repeat(255)] {
            let notice = SlotGapNotice {
                process: process.as_str().into(),
                gap: SlotGap::NotFollowed(SlotRange::new(u64::MAX / 2, MAX_SLOT).unwrap()),
            };
            let frame = notice.encode(u64::MAX, u64::MAX);
            assert!(frame.len() <= notice.frame_bytes(), "{}", frame.len());
        }
    }
}
