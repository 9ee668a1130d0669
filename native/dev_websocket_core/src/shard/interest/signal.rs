//! The signal that the interest has changed: one for all changes between two reads, and none is missed.

use std::fmt;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Receives the signal that the interest has changed.
pub trait InterestWatcher: Send + Sync {
    /// Reports a change. The server calls it on one of its threads, without holding a lock. Returns false if the
    /// watcher is gone.
    fn changed(&self) -> bool;
}

/// Signals the first change since the watcher last read the interest. All servers of a program share it, one after the
/// other.
#[derive(Default)]
pub struct InterestSignal {
    is_armed: AtomicBool,
    watcher: Mutex<Option<Arc<dyn InterestWatcher>>>,
}

impl InterestSignal {
    /// Replaces the previous watcher and waits for the next change.
    pub fn watch(&self, watcher: impl InterestWatcher + 'static) {
        let mut present = self.watcher.lock();
        *present = Some(Arc::new(watcher));
        self.arm();
    }

    /// Waits for the next change. Call it before reading the interest, so that no change falls between the two.
    pub fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
        // A change of the interest has a fence as well: either it sees this store, or the reader sees the change.
        fence(Ordering::SeqCst);
    }

    /// Signals that the interest has changed. Call it on a thread of the server, without holding a lock.
    pub fn changed(&self) {
        fence(Ordering::SeqCst);
        if !self.is_armed.load(Ordering::Relaxed) {
            return;
        }
        let Some(watcher) = self.take_turn() else {
            return;
        };
        if !watcher.changed() {
            self.watcher
                .lock()
                .take_if(|present| Arc::ptr_eq(present, &watcher));
        }
    }

    /// Returns the watcher that waits, for one of those that signal at once. The lock keeps the wish to hear and the
    /// watcher together, so a new watcher is not told in the place of the one before it.
    fn take_turn(&self) -> Option<Arc<dyn InterestWatcher>> {
        let watcher = self.watcher.lock();
        if !self.is_armed.swap(false, Ordering::Relaxed) {
            return None;
        }
        watcher.clone()
    }
}

impl fmt::Debug for InterestSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InterestSignal")
    }
}
