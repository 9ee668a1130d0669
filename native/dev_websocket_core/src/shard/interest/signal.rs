//! The word that the interest has changed: once for all changes between two looks, and never missed.

use std::fmt;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Takes the word that the interest has changed.
pub trait InterestWatcher: Send + Sync {
    /// Called on a thread of the server, without any lock held. Gives whether the watcher is still there.
    fn changed(&self) -> bool;
}

/// Tells a watcher of the first change since it last looked. Shared by all servers of the program, one after the other.
#[derive(Default)]
pub struct InterestSignal {
    is_armed: AtomicBool,
    watcher: Mutex<Option<Arc<dyn InterestWatcher>>>,
}

impl InterestSignal {
    /// Takes the place of the watcher before, and waits for the next change.
    pub fn watch(&self, watcher: impl InterestWatcher + 'static) {
        *self.watcher.lock() = Some(Arc::new(watcher));
        self.arm();
    }

    /// Waits for the next change. To be called before the interest is read, so that no change falls between the two.
    pub fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
        // Whoever changes the interest has a fence as well: either it sees the store, or its change is read.
        fence(Ordering::SeqCst);
    }

    /// The interest has changed. To be called on a thread of the server, without any lock held.
    pub fn changed(&self) {
        fence(Ordering::SeqCst);
        if !self.is_armed.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(watcher) = self.watcher.lock().clone() else {
            return;
        };
        if !watcher.changed() {
            self.watcher
                .lock()
                .take_if(|present| Arc::ptr_eq(present, &watcher));
        }
    }
}

impl fmt::Debug for InterestSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InterestSignal")
    }
}
