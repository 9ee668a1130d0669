//! The processes that have subscribers, for a part of the program that follows only processes with an audience.
//!
//! Subscriptions to `process:<id>`, `from:<id>` and `edges:<id>` name a process. Any other subscription may match events of any
//! process, so only their existence is recorded.

mod signal;

use lru::LruCache;

pub use self::signal::{InterestSignal, InterestWatcher};
use crate::log::publication;
use crate::message::process_id::{ProcessId, is_process_id};

/// The processes that have subscribers.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interest {
    /// Processes, oldest subscription first. The list may be cut off; `total` is the complete number.
    pub processes: Vec<Wanted>,
    /// Number of all processes with subscribers.
    pub total: usize,
    /// True if there are subscriptions that name no process.
    pub others: bool,
}

/// A process with subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// Id of the process.
    pub id: ProcessId,
    /// Time at which the first of the present subscribers arrived, in milliseconds since 1970. It lies before the
    /// answer to that client, so everything scheduled after the answer has a later time.
    pub since: u64,
}

/// The present interest. The topic registry owns it, and its lock covers it.
#[derive(Debug)]
pub(crate) struct Interests {
    /// Processes in the order in which they were first named.
    processes: LruCache<ProcessId, Named>,
    others: u64,
}

/// The record of a process with subscribers.
#[derive(Debug)]
struct Named {
    /// Number of topics with subscribers that name the process.
    topics: u32,
    since: u64,
}

/// Returns the process that a topic names.
pub(crate) fn process_of(topic: &str) -> Option<ProcessId> {
    let id = topic
        .strip_prefix("process:")
        .or_else(|| topic.strip_prefix("from:"))
        .or_else(|| topic.strip_prefix("edges:"))?;
    is_process_id(id).then(|| id.as_bytes().try_into().ok())?
}

impl Default for Interests {
    fn default() -> Self {
        Self {
            processes: LruCache::unbounded(),
            others: 0,
        }
    }
}

impl Interests {
    /// Records the first subscriber of a topic. Returns true if the interest has changed.
    pub(crate) fn add_topic(&mut self, topic: &str) -> bool {
        let Some(id) = process_of(topic) else {
            return self.add_other();
        };
        // Peeking keeps the process at its position in the order.
        if let Some(named) = self.processes.peek_mut(&id) {
            named.topics += 1;
            return false;
        }
        let since = publication::now();
        self.processes.put(id, Named { topics: 1, since });
        true
    }

    /// Records that a topic has lost its last subscriber. Returns true if the interest has changed.
    pub(crate) fn remove_topic(&mut self, topic: &str) -> bool {
        let Some(id) = process_of(topic) else {
            return self.remove_other();
        };
        let Some(named) = self.processes.peek_mut(&id) else {
            return false;
        };
        named.topics -= 1;
        let is_last = named.topics == 0;
        if is_last {
            self.processes.pop(&id);
        }
        is_last
    }

    /// Records a subscription that names no process. Returns true if it is the first.
    pub(crate) fn add_other(&mut self) -> bool {
        self.others += 1;
        self.others == 1
    }

    /// Removes a subscription that names no process. Returns true if it was the last.
    pub(crate) fn remove_other(&mut self) -> bool {
        let had = self.others;
        self.others = had.saturating_sub(1);
        had == 1
    }

    /// Returns the interest with at most `max` processes.
    pub(crate) fn read(&self, max: usize) -> Interest {
        let wanted = |(id, named): (&ProcessId, &Named)| Wanted {
            id: *id,
            since: named.since,
        };
        Interest {
            // The iterator yields the newest first.
            processes: self.processes.iter().rev().take(max).map(wanted).collect(),
            total: self.processes.len(),
            others: self.others > 0,
        }
    }
}

#[cfg(test)]
mod tests;
