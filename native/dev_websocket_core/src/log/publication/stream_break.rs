//! Notices about breaks in the numbers of a stream, for every subscriber.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::control::{GapReason, Reply};

/// The maximum length of the frame without the name of the epoch, in bytes.
const FRAME: usize = 192;

/// A break in the numbers of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamBreak {
    pub(crate) reason: GapReason,
    /// The last number before the break, and the first one after it.
    pub(crate) after: u64,
    pub(crate) next: u64,
    /// The epoch of the numbers after the break, if it is another one. `after` is then 0.
    pub(crate) epoch: Option<Arc<str>>,
}

impl StreamBreak {
    /// Returns the number of missing publications.
    pub(crate) fn dropped(&self) -> u64 {
        self.next.saturating_sub(self.after).saturating_sub(1)
    }

    /// Returns the frame.
    pub(crate) fn reply(&self) -> Reply<'_> {
        Reply::Gap {
            reason: self.reason,
            dropped: self.dropped(),
            after: self.after,
            next: self.next,
            epoch: self.epoch.as_deref(),
        }
    }

    /// Encodes the whole text frame.
    pub(super) fn encode(&self) -> Bytes {
        self.reply().encode()
    }

    /// Returns the maximum length of the frame, in bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME + self.epoch.as_ref().map_or(0, |epoch| 6 * epoch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_names_the_new_epoch_and_stays_within_its_bytes() {
        let mut gap = StreamBreak {
            reason: GapReason::Expired,
            after: 7,
            next: 12,
            epoch: None,
        };
        let json = |gap: &StreamBreak| -> serde_json::Value {
            let frame = gap.encode();
            assert!(frame.len() <= gap.frame_bytes());
            serde_json::from_slice(crate::wire::frame::payload(&frame)).unwrap()
        };
        assert_eq!(
            json(&gap),
            serde_json::json!({"type": "gap", "reason": "expired", "dropped": 4, "after": 7, "next": 12})
        );
        gap.reason = GapReason::Overload;
        (gap.after, gap.next) = (u64::MAX - 1, u64::MAX);
        assert_eq!(json(&gap)["dropped"], 0);
        gap = StreamBreak {
            reason: GapReason::Epoch,
            after: 0,
            next: 3,
            epoch: Some("b".into()),
        };
        assert_eq!(
            json(&gap),
            serde_json::json!({"type": "gap", "reason": "epoch", "dropped": 2, "after": 0, "next": 3, "epoch": "b"})
        );
    }
}
