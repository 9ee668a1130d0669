//! How far the results of each process are published, so that each slot is published once and in order.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

/// Processes that are remembered; the one published to the longest ago is forgotten.
const MAX_PROCESSES: usize = 65_536;

/// The last published slot of each process. Shared by all servers of the program, so that a restart repeats nothing.
#[derive(Debug)]
pub struct Slots {
    marks: Mutex<Marks>,
    max_processes: usize,
}

type Marks = LruCache<Arc<str>, u64>;

/// The order of all slots, held: nobody else publishes one meanwhile.
#[derive(Debug)]
pub(crate) struct Turn<'s> {
    marks: MutexGuard<'s, Marks>,
    max_processes: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self::bounded(MAX_PROCESSES)
    }
}

impl Slots {
    fn bounded(max_processes: usize) -> Self {
        Self {
            // Room for all of them at once would be megabytes for a node that has ten.
            marks: Mutex::new(LruCache::unbounded()),
            max_processes,
        }
    }

    /// Whether the slot was published, or a later one of the process.
    pub(crate) fn is_past(&self, process: &str, slot: u64) -> bool {
        let marks = self.marks.lock();
        marks.peek(process).is_some_and(|last| slot <= *last)
    }

    /// Waits for the turn to publish a slot, and marks it as published; none if it is past.
    pub(crate) fn take_turn(&self, process: &str, slot: u64) -> Option<Turn<'_>> {
        let mut turn = Turn {
            marks: self.marks.lock(),
            max_processes: self.max_processes,
        };
        turn.mark(process, slot).then_some(turn)
    }
}

impl Turn<'_> {
    fn mark(&mut self, process: &str, slot: u64) -> bool {
        if let Some(last) = self.marks.get_mut(process) {
            let is_new = slot > *last;
            *last = slot.max(*last);
            return is_new;
        }
        self.marks.put(process.into(), slot);
        if self.marks.len() > self.max_processes {
            self.marks.pop_lru();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(slots: &Slots, process: &str, slot: u64) -> bool {
        slots.take_turn(process, slot).is_some()
    }

    #[test]
    fn a_slot_is_published_once_and_never_after_a_later_one() {
        let slots = Slots::default();
        assert!(publish(&slots, "a", 0));
        assert!(!publish(&slots, "a", 0));
        assert!(publish(&slots, "a", 5));
        assert!(!publish(&slots, "a", 4));
        assert!(publish(&slots, "b", 4));
        assert!(publish(&slots, "a", 6));
        assert!(slots.is_past("a", 6) && slots.is_past("a", 0));
        assert!(!slots.is_past("a", 7) && !slots.is_past("c", 0));
    }

    #[test]
    fn the_process_published_to_the_longest_ago_is_forgotten() {
        let slots = Slots::bounded(2);
        assert!(publish(&slots, "a", 1));
        assert!(publish(&slots, "b", 1));
        assert!(publish(&slots, "a", 2));
        // A question is no use.
        assert!(slots.is_past("b", 1));
        assert!(publish(&slots, "c", 1));
        assert!(!slots.is_past("b", 1));
        assert!(slots.is_past("a", 2) && slots.is_past("c", 1));
    }
}
