//! Notices about missing results for the subscribers of a process.

use bytes::Bytes;

use crate::log::slot_marks::MAX_SLOT;
use crate::wire::control::{Reply, SlotGapReason};

/// The maximum length of the frame without the name of the process, in bytes.
const FRAME: usize = 256;

/// The reason why results of a process are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotGap {
    /// The node's cache lacks these slots, though it has later ones. They may still come.
    NotCached(SlotRange),
    /// The node's cache has these slots, but the node does not vouch for them. They may still come.
    Withheld(SlotRange),
    /// No client was subscribed when these slots were computed.
    NotFollowed(SlotRange),
    /// The node already follows its maximum number of processes.
    Limit,
    /// A slot replay leaves these slots out.
    NotReplayed(SlotRange),
}

/// An inclusive range of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    from: u64,
    to: u64,
}

impl SlotGap {
    /// Returns the missing slots; [`SlotGap::Limit`] has none.
    pub(crate) fn slots(self) -> Option<SlotRange> {
        match self {
            Self::NotCached(slots)
            | Self::Withheld(slots)
            | Self::NotFollowed(slots)
            | Self::NotReplayed(slots) => Some(slots),
            Self::Limit => None,
        }
    }

    fn reason(self) -> SlotGapReason {
        match self {
            Self::NotCached(_) => SlotGapReason::NotCached,
            Self::Withheld(_) => SlotGapReason::Withheld,
            Self::NotFollowed(_) => SlotGapReason::NotFollowed,
            Self::Limit => SlotGapReason::Limit,
            Self::NotReplayed(_) => SlotGapReason::NotReplayed,
        }
    }
}

impl SlotRange {
    /// Makes the range of `from` to `to`, both included; none if `to` is before `from` or is no valid slot.
    #[must_use]
    pub fn new(from: u64, to: u64) -> Option<Self> {
        (from <= to && to <= MAX_SLOT).then_some(Self { from, to })
    }

    /// Returns the first slot.
    pub(crate) fn from(self) -> u64 {
        self.from
    }

    /// Returns the last slot.
    pub(crate) fn to(self) -> u64 {
        self.to
    }

    /// Returns the number of slots.
    pub(crate) fn count(self) -> u64 {
        self.to - self.from + 1
    }
}

/// A slot gap with the process that it concerns.
#[derive(Debug)]
pub(crate) struct SlotGapNotice {
    pub(crate) process: Box<str>,
    pub(crate) gap: SlotGap,
}

impl SlotGapNotice {
    /// Encodes the whole text frame. A gap in a slot replay has no sequence number.
    pub(crate) fn encode(&self, seq: Option<u64>, timestamp: u64) -> Bytes {
        let slots = self.gap.slots();
        Reply::SlotGap {
            reason: self.gap.reason(),
            process: &self.process,
            from_slot: slots.map(SlotRange::from),
            to_slot: slots.map(SlotRange::to),
            dropped: slots.map_or(0, SlotRange::count),
            seq,
            replayed: seq.is_none(),
            timestamp,
        }
        .encode()
    }

    /// Returns the maximum length of the frame, in bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        // The frame escapes control characters with six bytes each; the notice holds the plain name as well.
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
            let frame = notice.encode(Some(u64::MAX), u64::MAX);
            assert!(frame.len() <= notice.frame_bytes(), "{}", frame.len());
        }
    }
}
