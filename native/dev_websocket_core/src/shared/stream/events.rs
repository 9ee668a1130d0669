//! Events of processes that the stream has lately delivered, so that one that it has twice is published once.
//!
//! Two servers send the same event under one name, and the stream recognizes it for as long as its duplicate window. A
//! copy that is delayed for longer comes under another number.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::log::publication::Place;

/// The maximum number of remembered events. With their hashes of 128 bits they take about two megabytes.
const MAX_EVENTS: usize = 65_536;

/// The newest events, by hashes with keys of their own.
#[derive(Debug, Default)]
pub(super) struct SeenEvents {
    hashers: [RandomState; 2],
    seen: HashSet<u128>,
    order: VecDeque<u128>,
}

impl SeenEvents {
    /// Adds an event. Returns false if it is among the newest already.
    pub(super) fn insert(&mut self, place: &Place) -> bool {
        let event = (place.process, place.position.slot, place.position.part);
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(event));
        let hash = u128::from(high) << 64 | u128::from(low);
        let is_new = self.seen.insert(hash);
        if is_new {
            self.order.push_back(hash);
            if self.order.len() > MAX_EVENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
        is_new
    }

    /// Forgets everything, because numbers begin again and events may come again with them.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::slot_marks::Position;

    #[test]
    fn the_newest_events_are_known_and_older_ones_forgotten() {
        let mut events = SeenEvents::default();
        let event = |slot| Place {
            process: [b'p'; 43],
            position: Position { slot, part: 1 },
        };
        for slot in 0..MAX_EVENTS as u64 {
            assert!(events.insert(&event(slot)));
        }
        assert!(!events.insert(&event(0)) && !events.insert(&event(9)));
        let mut other = event(9);
        other.position.part = 2;
        assert!(events.insert(&other));
        assert!(events.insert(&event(0)) && !events.insert(&event(9)));
        assert_eq!(
            (events.seen.len(), events.order.len()),
            (MAX_EVENTS, MAX_EVENTS)
        );
        events.clear();
        assert!(events.insert(&event(9)));
    }
}
