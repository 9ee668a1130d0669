//! The queue of commands to a writer shard, and the sleep of the shard.
//!
//! Waking a thread costs the caller a system call and often the wake of a whole core, ten times the rest of a
//! publication. Therefore a shard is woken only when it really sleeps. A shard that is behind finds new work by itself.
//! An idle one checks again a few times before it sleeps, so at thousands of publications a second no thread is woken.
//!
//! A shard without connections only has to record publications at some time. Therefore it parks: commands wake it, and
//! publications only when many are queued. A publisher with a hundred publications a second and no subscriber wakes no
//! thread.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};

/// Number of checks for work before a shard sleeps, and the pause between two checks. The pause is the longest delay of
/// a message for a shard that could have been woken. All pauses take less than half a millisecond, so more frequent
/// publications wake no thread.
const SPINS: u32 = if cfg!(loom) { 1 } else { 4 };
const SPIN: Duration = Duration::from_micros(50);

/// Number of times that a shard without connections parks before it sleeps, and the duration. Each check costs as much
/// as a wake.
const PARKS: u32 = if cfg!(loom) { 1 } else { 4 };
const PARK: Duration = Duration::from_millis(5);

/// Marks a shard that does not sleep.
const AWAKE: u64 = u64::MAX;
/// Marks a shard that any publication wakes.
const ASLEEP: u64 = 0;

/// Ways in which a shard waits for work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Idle {
    /// The next publication may be for a connection.
    Light,
    /// No connection waits until this number of bytes has been appended to the log.
    Parked(u64),
}

/// The commands of a shard and its sleep.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    commands: Mutex<Vec<C>>,
    /// Number of bytes appended to the log from which publications wake the shard, or [`AWAKE`].
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
    /// Queues a command and wakes the shard. Commands are carried out in order.
    pub(crate) fn send(&self, command: C) {
        self.commands.lock().push(command);
        self.wake(u64::MAX);
    }

    /// Wakes the shard if its sleep ends at `appended` bytes of the log. Call it after the work for the shard is
    /// visible.
    pub(crate) fn wake(&self, appended: u64) {
        // Pairs with the fences below: either this thread sees that the shard sleeps, or the shard sees the work.
        fence(Ordering::SeqCst);
        let until = self.sleeps_until.load(Ordering::Relaxed);
        if until != AWAKE
            && appended >= until
            // A thread that sees the sleep also sees which thread to wake.
            && self.sleeps_until.swap(AWAKE, Ordering::Acquire) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes all commands. `into` must be empty; its memory serves the next commands.
    pub(crate) fn take(&self, into: &mut Vec<C>) {
        std::mem::swap(&mut *self.commands.lock(), into);
    }

    /// Registers the current thread as the shard's. The shard calls it once.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Sleeps until woken, unless there are commands or `work` returns true.
    pub(crate) fn sleep_unless(&self, rest: Idle, work: impl Fn() -> bool) {
        let is_due = || work() || !self.commands.lock().is_empty();
        let is_found = match rest {
            Idle::Light => (0..SPINS).any(|_| spin(&is_due)),
            // One pause finds the work of a publisher at full speed, before the shard parks.
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
            // Everything written before the wake must be visible after it.
            fence(Ordering::SeqCst);
        }
    }

    /// Parks for a while. Returns true if there is work.
    fn park(&self, until: u64, is_due: &impl Fn() -> bool) -> bool {
        let falls_asleep = self.falls_asleep(until, is_due);
        if falls_asleep {
            thread::park_timeout(PARK);
            self.sleeps_until.store(AWAKE, Ordering::Relaxed);
        }
        !falls_asleep
    }

    /// Marks the shard as asleep. Returns false if there is work.
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

/// Checks for work and pauses if there is none. Returns true if there is work.
fn spin(is_due: &impl Fn() -> bool) -> bool {
    let is_due = is_due();
    if !is_due {
        thread::sleep(SPIN);
    }
    is_due
}
