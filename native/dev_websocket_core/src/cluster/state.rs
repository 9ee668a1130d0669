//! The state of the connection to the stream, for everybody who asks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::outgoing::Outgoing;
use crate::log::publication::now;

/// The maximum number of remembered repetitions.
const MAX_REPEATED: usize = 1024;

/// The stream of a server, as its own parts see it.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) outgoing: Arc<Outgoing>,
    /// True once the server has read the history of the stream, and so knows its numbers.
    joined: AtomicBool,
    /// True if the engine reads records again.
    can_read: AtomicBool,
    /// The time since which the stream is away, in milliseconds since 1970; 0 while it is not.
    away_since: AtomicU64,
    /// Why it is away.
    reason: Mutex<String>,
    /// The largest record that the engine takes, in bytes, if it is too small for our messages; 0 if it is not.
    small_payload: AtomicU64,
    /// The newest numbers under which the stream has an event a second time.
    repeated: Mutex<VecDeque<u64>>,
    /// Told when the shards have made room.
    room: Notify,
}

impl StreamState {
    /// Makes the state of a server that has not reached its stream yet.
    pub(crate) fn new(server: u64) -> Arc<Self> {
        Arc::new(Self {
            outgoing: Outgoing::new(server),
            joined: AtomicBool::new(false),
            can_read: AtomicBool::new(false),
            away_since: AtomicU64::new(now()),
            reason: Mutex::new("not reached yet".to_owned()),
            small_payload: AtomicU64::new(0),
            repeated: Mutex::default(),
            room: Notify::new(),
        })
    }

    /// Returns whether the server knows the numbers of the stream. Until then it cannot judge a cursor.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Records whether the engine reads records again.
    pub(crate) fn set_can_read(&self, can_read: bool) {
        self.can_read.store(can_read, Ordering::Relaxed);
    }

    /// Returns whether the engine reads records again.
    pub(crate) fn can_read(&self) -> bool {
        self.can_read.load(Ordering::Relaxed)
    }

    /// Returns the time since which the stream is away, in milliseconds since 1970; none while it is not.
    pub(crate) fn away_since(&self) -> Option<u64> {
        Some(self.away_since.load(Ordering::Acquire)).filter(|since| *since != 0)
    }

    /// Returns why the stream is away; none while it is not.
    pub(crate) fn reason(&self) -> Option<String> {
        self.away_since().map(|_| self.reason.lock().clone())
    }

    /// Sets the stream away. Returns false if it was already, in which case only the reason changes.
    pub(crate) fn set_away(&self, since: u64, reason: &str) -> bool {
        let mut told = self.reason.lock();
        reason.clone_into(&mut told);
        let set = |since| {
            self.away_since
                .compare_exchange(0, since, Ordering::AcqRel, Ordering::Acquire)
        };
        set(since.max(1)).is_ok()
    }

    /// Sets the stream present. Returns whether clients have seen it away.
    pub(crate) fn set_present(&self) -> bool {
        let has_joined = self.joined.swap(true, Ordering::AcqRel);
        self.away_since.swap(0, Ordering::AcqRel) != 0 && has_joined
    }

    /// Records the largest record that the engine takes, in bytes, or 0 if all messages fit. Returns whether that is news.
    pub(crate) fn set_small_payload(&self, bytes: u64) -> bool {
        self.small_payload.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// Returns the largest record that the engine takes, in bytes, if some of our messages do not fit.
    pub(crate) fn small_payload(&self) -> Option<u64> {
        Some(self.small_payload.load(Ordering::Relaxed)).filter(|bytes| *bytes != 0)
    }

    /// Records that the stream has an event again, under another number.
    pub(crate) fn note_repeated(&self, number: u64) {
        let mut repeated = self.repeated.lock();
        repeated.push_back(number);
        if repeated.len() > MAX_REPEATED {
            repeated.pop_front();
        }
    }

    /// Returns whether a number is among the newest ones under which the stream has an event again.
    pub(crate) fn is_repeated(&self, number: u64) -> bool {
        self.repeated.lock().contains(&number)
    }

    /// Tells the receiver that the shards have made room.
    pub(crate) fn made_room(&self) {
        self.room.notify_one();
    }

    /// Waits until the shards have made room since the last call.
    pub(crate) async fn room(&self) {
        self.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_of_a_stream_that_was_there_before() {
        let state = StreamState::new(1);
        assert!(state.away_since().is_some() && !state.has_joined());
        assert_eq!(state.reason().as_deref(), Some("not reached yet"));
        assert!(!state.set_away(7, "refused"));
        assert_eq!(state.reason().as_deref(), Some("refused"));
        assert!(!state.set_present());
        assert_eq!((state.away_since(), state.reason()), (None, None));
        assert!(state.set_away(7, "silent"));
        assert!(!state.set_away(9, "gone"));
        assert_eq!(state.away_since(), Some(7));
        assert!(state.has_joined());
        assert!(state.set_present());
        assert!(!state.set_present());
    }
}
