//! How the rest of the engine speaks to a writer shard, and how the shard sleeps.
//!
//! Waking a thread that sleeps costs the caller a system call and often the wake of a whole core, ten times the rest of
//! a cast. So it is done only when the shard really sleeps. A shard that is behind finds new work by itself, and one
//! that has just become idle looks again a few times before it sleeps: at thousands of casts a second nobody is woken.
//!
//! A shard without connections only has to note what is published, some time. So it dozes: commands wake it, and
//! publications only when many wait. Who casts a hundred times a second while nobody listens wakes nobody.

use std::time::Duration;

use super::command::Command;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};

/// How often a shard looks for work before it sleeps, and the pause between two looks, which is the longest that a
/// message waits for a shard that could have been woken. Together less than half a millisecond: who casts more often than
/// that wakes nobody.
const NAPS: u32 = 4;
const NAP: Duration = Duration::from_micros(50);

/// How often a shard without connections dozes before it sleeps, and how long. Each look costs what a wake does.
const DOZES: u32 = 4;
const DOZE: Duration = Duration::from_millis(5);

/// The shard does not doze.
const NO_DOZE: u64 = u64::MAX;

/// What a shard sleeps like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rest {
    /// Somebody may wait for the next publication.
    Light,
    /// Nobody does, until so many bytes have been appended to the log.
    Doze(u64),
}

/// A shard's commands and its sleep.
#[derive(Debug)]
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    asleep: AtomicBool,
    /// Bytes appended to the log at which publications wake the shard though it dozes.
    dozes_until: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            commands: Mutex::default(),
            asleep: AtomicBool::new(false),
            dozes_until: AtomicU64::new(NO_DOZE),
            thread: OnceLock::new(),
        }
    }
}

impl Mailbox {
    /// Gives the shard a command and wakes it. Commands are carried out in order.
    pub(crate) fn send(&self, command: Command) {
        self.commands.lock().push(command);
        self.wake(u64::MAX);
    }

    /// Wakes the shard if it sleeps, or dozes and so many bytes have been appended. To be called after the work it shall
    /// find is visible.
    pub(crate) fn wake(&self, appended: u64) {
        // Pairs with the fences below: either we see that it sleeps, or it sees the work.
        fence(Ordering::SeqCst);
        let is_awake = if self.asleep.load(Ordering::Relaxed) {
            // Who sees that it sleeps also sees which thread it is.
            !self.asleep.swap(false, Ordering::Acquire)
        } else {
            let until = self.dozes_until.load(Ordering::Relaxed);
            until == NO_DOZE
                || appended < until
                || self.dozes_until.swap(NO_DOZE, Ordering::Acquire) == NO_DOZE
        };
        if !is_awake && let Some(thread) = self.thread.get() {
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
    pub(crate) fn sleep_unless(&self, rest: Rest, work: impl Fn() -> bool) {
        let is_due = || work() || !self.commands.lock().is_empty();
        let has_rested = match rest {
            Rest::Light => nap(&is_due),
            Rest::Doze(until) => self.doze(until, &is_due),
        };
        if !has_rested {
            return;
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

    /// Dozes for a while; whether nothing came up.
    fn doze(&self, until: u64, is_due: &impl Fn() -> bool) -> bool {
        // Who casts as fast as possible is found at once.
        thread::sleep(NAP);
        (0..DOZES).all(|_| {
            self.dozes_until.store(until, Ordering::Release);
            fence(Ordering::SeqCst);
            let is_due_now = is_due();
            if !is_due_now {
                thread::park_timeout(DOZE);
            }
            self.dozes_until.store(NO_DOZE, Ordering::Relaxed);
            // What was written before a wake must be seen after it.
            fence(Ordering::SeqCst);
            !is_due_now && !is_due()
        })
    }
}

/// Looks a few times; whether nothing came up.
fn nap(is_due: &impl Fn() -> bool) -> bool {
    (0..NAPS).all(|_| {
        let is_due = is_due();
        if !is_due {
            thread::sleep(NAP);
        }
        !is_due
    })
}
