//! Which processes have subscribers, for the part of the program that follows processes only while somebody wants it.
//!
//! Subscriptions to `process:<id>` and `from:<id>` name a process. Any other subscription may want events of any process,
//! so of those it is only known whether there are some.

mod signal;

use lru::LruCache;

pub use self::signal::{InterestSignal, InterestWatcher};

/// Characters of a process's id: 32 bytes as base64url.
const ID_LENGTH: usize = 43;

/// The id of a process.
pub type ProcessId = [u8; ID_LENGTH];

/// Which processes have subscribers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Processes, those subscribed to the longest ago first. May be a part of all.
    pub ids: Vec<ProcessId>,
    /// How many processes there are.
    pub total: usize,
    /// Whether there are subscriptions that name no process.
    pub others: bool,
}

/// The present interest. Owned by the directory of topics, whose lock covers it.
#[derive(Debug)]
pub(crate) struct Interests {
    /// How many topics with subscribers name the process, in the order in which it was first named.
    ids: LruCache<ProcessId, u32>,
    others: u64,
}

/// Whether a text has the form of a process's id.
pub(crate) fn is_process_id(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == ID_LENGTH && text.bytes().all(is_base64url)
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
            ids: LruCache::unbounded(),
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
        if let Some(topics) = self.ids.peek_mut(&id) {
            *topics += 1;
            return false;
        }
        self.ids.put(id, 1);
        true
    }

    /// A topic has lost its last subscriber. Says whether the interest has changed.
    pub(crate) fn remove_topic(&mut self, topic: &str) -> bool {
        let Some(id) = process_of(topic) else {
            return self.remove_other();
        };
        let Some(topics) = self.ids.peek_mut(&id) else {
            return false;
        };
        *topics -= 1;
        let is_last = *topics == 0;
        if is_last {
            self.ids.pop(&id);
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
        Interest {
            // The newest come first.
            ids: self.ids.iter().rev().take(max).map(|(id, _)| *id).collect(),
            total: self.ids.len(),
            others: self.others > 0,
        }
    }
}

#[cfg(test)]
mod tests;
