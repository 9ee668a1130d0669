//! How the rest of the engine speaks to a writer shard, and how the shard sleeps.
//!
//! Waking a thread that sleeps costs the caller a system call and often the wake of a whole core, ten times the rest of
//! a cast. So it is done only when the shard really sleeps. A shard that is behind finds new work by itself, and one
//! that has just become idle looks again a few times before it sleeps: at thousands of casts a second nobody is woken.

use std::time::Duration;

use super::command::Command;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};

/// How often a shard looks for work before it sleeps, and the pause between two looks, which is the longest that a
/// message waits for a shard that could have been woken. Together less than half a millisecond: who casts more often than
/// that wakes nobody.
const NAPS: u32 = 4;
const NAP: Duration = Duration::from_micros(50);

/// A shard's commands and its sleep.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Mailbox {
    /// Gives the shard a command and wakes it. Commands are carried out in order.
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().push(command);
        self.wake();
    }

    /// Wakes the shard if it sleeps. To be called after the work it shall find is visible.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `sleep_unless`: either we see that it sleeps, or it sees the work.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            // Who sees that it sleeps also sees which thread it is.
            && self.asleep.swap(false, Ordering::Acquire)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes all commands; `into` must be empty and gives its memory to the next ones.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        std::mem::swap(&mut *self.commands.lock(), into);
    }

    /// Says which thread is the shard's. To be called once by that thread.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Sleeps until woken, unless there are commands or `work` says that there is something to do.
    pub(crate) fn sleep_unless(&self, work: impl Fn() -> bool) {
        let is_due = || work() || !self.commands.lock().is_empty();
        for _ in 0..NAPS {
            if is_due() {
                return;
            }
            thread::sleep(NAP);
        }
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if is_due() {
            self.asleep.store(false, Ordering::Relaxed);
            return;
        }
        while self.asleep.load(Ordering::Relaxed) {
            thread::park();
        }
        // What was written before the wake must be seen after it.
        fence(Ordering::SeqCst);
    }
}
