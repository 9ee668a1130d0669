//! How the rest of the engine speaks to a writer shard, and how the shard sleeps.
//!
//! Waking a thread that sleeps costs the caller a system call and often the wake of a whole core, ten times the rest of
//! a cast. So it is done only when the shard really sleeps. A shard that is behind finds new work by itself, and one
//! that has just become idle looks again a few times before it sleeps: at thousands of casts a second nobody is woken.
//!
//! A shard without connections only has to note what is published, some time. So it dozes: commands wake it, and
//! publications only when many wait. Who casts a hundred times a second while nobody listens wakes nobody.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};

/// How often a shard looks for work before it sleeps, and the pause between two looks, which is the longest that a
/// message waits for a shard that could have been woken. Together less than half a millisecond: who casts more often than
/// that wakes nobody.
const SPINS: u32 = if cfg!(loom) { 1 } else { 4 };
const SPIN: Duration = Duration::from_micros(50);

/// How often a shard without connections dozes before it sleeps, and how long. Each look costs what a wake does.
const PARKS: u32 = if cfg!(loom) { 1 } else { 4 };
const PARK: Duration = Duration::from_millis(5);

/// The shard does not sleep.
const AWAKE: u64 = u64::MAX;
/// Whatever is published wakes it.
const ASLEEP: u64 = 0;

/// How a shard waits for work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Idle {
    /// Somebody may wait for the next publication.
    Light,
    /// Nobody does, until so many bytes have been appended to the log.
    Parked(u64),
}

/// A shard's commands and its sleep.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    commands: Mutex<Vec<C>>,
    /// Bytes appended to the log from which on publications wake the shard, or [`AWAKE`].
    sleeps_until: AtomicU64,
    thread: OnceLock<Thread>,
}

impl<C> Default for Mailbox<C> {
    fn default() -> Self {
        Self {
            commands: Mutex::default(),
            sleeps_until: AtomicU64::new(AWAKE),
            thread: OnceLock::new(),
        }
    }
}

impl<C> Mailbox<C> {
    /// Gives the shard a command and wakes it. Commands are carried out in order.
    pub(crate) fn send(&self, command: C) {
        self.commands.lock().push(command);
        self.wake(u64::MAX);
    }

    /// Wakes the shard if it sleeps until so many bytes have been appended. To be called after the work it shall find is
    /// visible.
    pub(crate) fn wake(&self, appended: u64) {
        // Pairs with the fences below: either we see that it sleeps, or it sees the work.
        fence(Ordering::SeqCst);
        let until = self.sleeps_until.load(Ordering::Relaxed);
        if until != AWAKE
            && appended >= until
            // Who sees that it sleeps also sees which thread it is.
            && self.sleeps_until.swap(AWAKE, Ordering::Acquire) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes all commands; `into` must be empty and gives its memory to the next ones.
    pub(crate) fn take(&self, into: &mut Vec<C>) {
        std::mem::swap(&mut *self.commands.lock(), into);
    }

    /// Says which thread is the shard's. To be called once by that thread.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Sleeps until woken, unless there are commands or `work` says that there is something to do.
    pub(crate) fn sleep_unless(&self, rest: Idle, work: impl Fn() -> bool) {
        let is_due = || work() || !self.commands.lock().is_empty();
        let is_found = match rest {
            Idle::Light => (0..SPINS).any(|_| spin(&is_due)),
            // Who casts as fast as possible is found by a nap.
            Idle::Parked(until) => spin(&is_due) || (0..PARKS).any(|_| self.park(until, &is_due)),
        };
        if !is_found {
            self.sleep(&is_due);
        }
    }

    fn sleep(&self, is_due: &impl Fn() -> bool) {
        if self.falls_asleep(ASLEEP, is_due) {
            while self.sleeps_until.load(Ordering::Relaxed) != AWAKE {
                thread::park();
            }
            // What was written before the wake must be seen after it.
            fence(Ordering::SeqCst);
        }
    }

    /// Dozes for a while, unless there is something to do, which it says.
    fn park(&self, until: u64, is_due: &impl Fn() -> bool) -> bool {
        let falls_asleep = self.falls_asleep(until, is_due);
        if falls_asleep {
            thread::park_timeout(PARK);
            self.sleeps_until.store(AWAKE, Ordering::Relaxed);
        }
        !falls_asleep
    }

    /// Says that the shard sleeps, unless there is something to do.
    fn falls_asleep(&self, until: u64, is_due: &impl Fn() -> bool) -> bool {
        self.sleeps_until.store(until, Ordering::Release);
        fence(Ordering::SeqCst);
        let is_due = is_due();
        if is_due {
            self.sleeps_until.store(AWAKE, Ordering::Relaxed);
        }
        !is_due
    }
}

/// Looks, and then pauses unless there is something to do, which it says.
fn spin(is_due: &impl Fn() -> bool) -> bool {
    let is_due = is_due();
    if !is_due {
        thread::sleep(SPIN);
    }
    is_due
}
