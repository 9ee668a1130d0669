//! Which processes have subscribers, for the part of the program that follows processes only while somebody wants it.
//!
//! Subscriptions to `process:<id>` and `from:<id>` name a process. Any other subscription may want events of any process,
//! so of those it is only known whether there are some.

mod signal;

use lru::LruCache;

pub use self::signal::{InterestSignal, InterestWatcher};
use crate::log::publication;
use crate::message::process_id::{ProcessId, is_process_id};

/// Which processes have subscribers.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interest {
    /// Processes, those subscribed to the longest ago first. May be a part of all.
    pub processes: Vec<Wanted>,
    /// How many processes there are.
    pub total: usize,
    /// Whether there are subscriptions that name no process.
    pub others: bool,
}

/// A process with subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// Which one.
    pub id: ProcessId,
    /// When the first of the present subscribers came, in milliseconds since 1970. Before that client was answered, so all that
    /// is scheduled after the answer has a later time.
    pub since: u64,
}

/// The present interest. Owned by the topic registry, whose lock covers it.
#[derive(Debug)]
pub(crate) struct Interests {
    /// In the order in which they were first named.
    processes: LruCache<ProcessId, Named>,
    others: u64,
}

/// What is known of a process with subscribers.
#[derive(Debug)]
struct Named {
    /// How many topics with subscribers name it.
    topics: u32,
    since: u64,
}

/// The process that a topic names.
pub(crate) fn process_of(topic: &str) -> Option<ProcessId> {
    let id = topic
        .strip_prefix("process:")
        .or_else(|| topic.strip_prefix("from:"))?;
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
    /// A topic has its first subscriber. Says whether the interest has changed.
    pub(crate) fn add_topic(&mut self, topic: &str) -> bool {
        let Some(id) = process_of(topic) else {
            return self.add_other();
        };
        // Looked at without being used, it keeps its place in the order.
        if let Some(named) = self.processes.peek_mut(&id) {
            named.topics += 1;
            return false;
        }
        let since = publication::now();
        self.processes.put(id, Named { topics: 1, since });
        true
    }

    /// A topic has lost its last subscriber. Says whether the interest has changed.
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

    /// There is one more subscription that names no process. Says whether it is the first.
    pub(crate) fn add_other(&mut self) -> bool {
        self.others += 1;
        self.others == 1
    }

    /// There is one less. Says whether it was the last.
    pub(crate) fn remove_other(&mut self) -> bool {
        let had = self.others;
        self.others = had.saturating_sub(1);
        had == 1
    }

    /// The interest, with at most so many processes.
    pub(crate) fn read(&self, max: usize) -> Interest {
        let wanted = |(id, named): (&ProcessId, &Named)| Wanted {
            id: *id,
            since: named.since,
        };
        Interest {
            // The newest come first.
            processes: self.processes.iter().rev().take(max).map(wanted).collect(),
            total: self.processes.len(),
            others: self.others > 0,
        }
    }
}

#[cfg(test)]
mod tests;
