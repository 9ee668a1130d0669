//! What all clients counted, and what they found wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde::Serialize;

/// Failures that are kept in words.
const KEPT: usize = 20;

/// A count.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.set(self.0.get() + amount);
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Connections that were upgraded.
    pub(crate) connected: Count,
    /// Publications that came whole, in either format.
    pub(crate) received: Count,
    /// Of these, compared with the ledger.
    pub(crate) compared: Count,
    /// Messages that gap frames of reason `slow` told of.
    pub(crate) told_slow: Count,
    /// The same for `overload`.
    pub(crate) told_overload: Count,
    /// Gaps in which exactly as much was missing as told.
    pub(crate) gaps_exact: Count,
    /// Gaps in which the observers left something open.
    pub(crate) gaps_within_bounds: Count,
    /// Requests that were answered.
    pub(crate) answers: Count,
    /// Replays that came to their end.
    pub(crate) replays: Count,
    /// Gap frames of reason `expired` and `epoch`.
    pub(crate) forgotten: Count,
    /// Messages to the listener that came back.
    pub(crate) echoes: Count,
    /// Connections that died on purpose.
    pub(crate) died: Count,
    /// Connections that the server ended, by close code.
    pub(crate) closed: RefCell<BTreeMap<u16, u64>>,
    pub(crate) failures: Count,
    pub(crate) failed: RefCell<Vec<String>>,
}

impl Tally {
    pub(crate) fn closed_with(&self, code: u16) {
        *self.closed.borrow_mut().entry(code).or_default() += 1;
    }

    pub(crate) fn fail(&self, who: &str, what: &str) {
        self.failures.add(1);
        let mut failed = self.failed.borrow_mut();
        if failed.len() < KEPT {
            failed.push(format!("{who}: {what}"));
        }
    }
}
