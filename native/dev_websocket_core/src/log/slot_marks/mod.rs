//! How far the results of each process are published, so that each slot is published once and in order.

mod mark;

use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::mark::OutOfOrder;
pub use self::mark::{MAX_HOLES, MAX_SLOT, Mark, Position};

/// Processes that are remembered; the one published to the longest ago is forgotten.
const MAX_PROCESSES: usize = 65_536;

/// The mark of each process. Shared by all servers of the program, so that a restart repeats nothing.
#[derive(Debug)]
pub struct SlotMarks {
    marks: Mutex<Marks>,
    max_processes: usize,
}

type Marks = LruCache<Arc<str>, Mark>;

/// The order of all slots, held: nobody else publishes one meanwhile.
#[derive(Debug)]
pub(crate) struct Turn<'s> {
    marks: MutexGuard<'s, Marks>,
}

impl Default for SlotMarks {
    fn default() -> Self {
        Self::bounded(MAX_PROCESSES)
    }
}

impl SlotMarks {
    fn bounded(max_processes: usize) -> Self {
        Self {
            // Room for all of them at once would be megabytes for a node that has ten.
            marks: Mutex::new(LruCache::unbounded()),
            max_processes,
        }
    }

    /// The mark of a process, if it has one.
    #[must_use]
    pub fn mark(&self, process: &str) -> Option<Mark> {
        self.marks.lock().peek(process).cloned()
    }

    /// Sets the mark of a process that has none, and gives the one in force.
    pub fn set_mark(&self, process: &str, slot: u64) -> Mark {
        let mut marks = self.marks.lock();
        if let Some(mark) = marks.get(process) {
            return mark.clone();
        }
        let mark = Mark::at(slot);
        marks.put(process.into(), mark.clone());
        if marks.len() > self.max_processes {
            marks.pop_lru();
        }
        mark
    }

    /// Waits for the turn to publish something of a slot.
    pub(crate) fn take_turn(&self) -> Turn<'_> {
        Turn {
            marks: self.marks.lock(),
        }
    }

    /// How many events from this one on are published already; none without a mark.
    pub(crate) fn published_from(
        &self,
        process: &str,
        event: Position,
    ) -> Option<Result<u64, OutOfOrder>> {
        let marks = self.marks.lock();
        Some(marks.peek(process)?.published_from(event))
    }
}

impl Turn<'_> {
    /// The mark of a process, which is now the last to be forgotten.
    pub(crate) fn mark(&mut self, process: &str) -> Option<&mut Mark> {
        self.marks.get_mut(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_slot(slots: &SlotMarks, process: &str) -> Option<u64> {
        slots.mark(process).map(|mark| mark.next().slot)
    }

    #[test]
    fn a_mark_is_set_once_and_stays() {
        let slots = SlotMarks::default();
        assert_eq!(slots.mark("a"), None);
        assert_eq!(slots.set_mark("a", 5), Mark::at(5));
        assert_eq!(slots.set_mark("a", 9), Mark::at(5));
        assert_eq!(slots.set_mark("b", 0), Mark::at(0));
        slots.take_turn().mark("a").unwrap().complete(5);
        assert_eq!(slots.set_mark("a", 5), Mark::at(6));
        assert_eq!(slots.mark("c"), None);
    }

    #[test]
    fn the_process_published_to_the_longest_ago_is_forgotten() {
        let slots = SlotMarks::bounded(2);
        slots.set_mark("a", 1);
        slots.set_mark("b", 1);
        slots.take_turn().mark("a").unwrap().complete(1);
        // A question is no use.
        assert_eq!(next_slot(&slots, "b"), Some(1));
        slots.set_mark("c", 1);
        assert_eq!(slots.mark("b"), None);
        assert_eq!(next_slot(&slots, "a"), Some(2));
        assert_eq!(next_slot(&slots, "c"), Some(1));
        let ahead = Position { slot: 1, part: 1 };
        assert_eq!(slots.published_from("b", ahead), None);
        assert_eq!(
            slots.published_from("c", ahead),
            Some(Err(OutOfOrder::Ahead(Position { slot: 1, part: 0 })))
        );
    }
}
