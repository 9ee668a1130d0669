//! What was published under which number, as the observers saw it.
//!
//! Each observer is subscribed to everything and writes down what it gets. A number that neither of them got, because
//! both were too slow for a moment, is not known; what that leaves open is told apart from what is exact.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::choice::Class;

/// Numbers that are remembered: more than any history holds.
const REMEMBERED: usize = 1 << 22;
const LOSS: u64 = 1 << 23;
const KNOWN: u64 = 1 << 22;
const VALUE: u64 = KNOWN - 1;

/// What stands under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Unknown,
    Message(Class),
    /// So many messages found no room.
    Loss(u64),
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// The number in the upper 40 bits, so that an old entry is not taken for a new one.
    entries: Box<[AtomicU64]>,
    /// How far each observer has come.
    seen: [AtomicU64; OBSERVERS],
}

/// Two, so that hardly any number is known to none.
pub(crate) const OBSERVERS: usize = 2;

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            entries: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect(),
            seen: Default::default(),
        }
    }

    pub(crate) fn message(&self, seq: u64, class: Class) {
        self.set(seq, KNOWN | u64::from(class.0));
    }

    pub(crate) fn loss(&self, seq: u64, messages: u64) {
        self.set(seq, KNOWN | LOSS | messages.min(VALUE));
    }

    fn set(&self, seq: u64, value: u64) {
        self.entries[seq as usize % REMEMBERED].store(seq << 24 | value, Ordering::Relaxed);
    }

    /// An observer has written down everything up to a number.
    pub(crate) fn seen(&self, observer: usize, seq: u64) {
        self.seen[observer].store(seq, Ordering::Release);
    }

    /// Up to where all observers are.
    pub(crate) fn complete_to(&self) -> u64 {
        let seen = self.seen.iter().map(|seen| seen.load(Ordering::Acquire));
        seen.min().unwrap_or(0)
    }

    /// Only to be asked up to [`Self::complete_to`].
    pub(crate) fn get(&self, seq: u64) -> Entry {
        let value = self.entries[seq as usize % REMEMBERED].load(Ordering::Relaxed);
        if value >> 24 != seq || value & KNOWN == 0 {
            Entry::Unknown
        } else if value & LOSS != 0 {
            Entry::Loss(value & VALUE)
        } else {
            Entry::Message(Class((value & VALUE) as u16))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_was_written_last_under_its_number() {
        let ledger = Ledger::new();
        ledger.message(7, Class(512));
        ledger.loss(8, 3);
        ledger.message(9, Class::NONE);
        assert_eq!(ledger.get(7), Entry::Message(Class(512)));
        assert_eq!(ledger.get(8), Entry::Loss(3));
        assert_eq!(ledger.get(9), Entry::Message(Class::NONE));
        assert_eq!(ledger.get(10), Entry::Unknown);
        assert_eq!(ledger.get(7 + REMEMBERED as u64), Entry::Unknown);
        ledger.seen(0, 9);
        assert_eq!(ledger.complete_to(), 0);
        ledger.seen(1, 8);
        assert_eq!(ledger.complete_to(), 8);
    }
}
