//! How the rest of the engine speaks to a writer shard, and how the shard sleeps.
//!
//! Waking a thread costs a system call, so it is done only when the shard sleeps: a shard that is behind finds new
//! work by itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;

use parking_lot::Mutex;

use super::command::Command;

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
            && self.asleep.swap(false, Ordering::Relaxed)
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
        let _ = self.thread.set(std::thread::current());
    }

    /// Sleeps until woken, unless there are commands or `work` says that there is something to do.
    pub(crate) fn sleep_unless(&self, work: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if work() || !self.commands.lock().is_empty() {
            self.asleep.store(false, Ordering::Relaxed);
            return;
        }
        while self.asleep.load(Ordering::Relaxed) {
            std::thread::park();
        }
        // What was written before the wake must be seen after it.
        fence(Ordering::SeqCst);
    }
}
