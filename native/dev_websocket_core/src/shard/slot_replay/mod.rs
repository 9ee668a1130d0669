//! Slot replays: slots of a process that the embedding program reads again for one connection.
//!
//! The program reads a slot and hands over its events, which go to the connection's shard. The replay is due again when
//! the socket has taken them, so each replay has the events of one call in memory. All progress is kept here: a reader
//! that crashes leaves nothing behind, and the next one continues at the same event.

mod client_slots;
mod held;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thiserror::Error;

pub(crate) use self::client_slots::{ClientSlots, Replaying};
pub(crate) use self::held::{HeldSlots, Seam};
use super::command::Command;
use super::connection_handle::ConnectionHandle;
use super::interest::{InterestSignal, InterestWatcher};
use super::replay::Choice;
use crate::error_code::ErrorCode;
use crate::log::publication::now;
use crate::log::publication::slot_gap::{SlotGap, SlotGapNotice};
use crate::log::slot_marks::Position;
use crate::message::process_id::ProcessId;
use crate::wire::close::Disconnect;
use crate::wire::slots::SlotStart;

/// Time for which a client may take nothing before its replay makes room for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The slot replays of the program. All of its servers share them, one after the other.
#[derive(Default)]
pub struct SlotReplays {
    replays: Mutex<Replays>,
    /// Signals the reader that a replay is due, or that one has ended.
    signal: InterestSignal,
}

#[derive(Default)]
struct Replays {
    active: HashMap<u64, Arc<SlotReplay>>,
    due: VecDeque<u64>,
    /// Replays that the reader has seen and that have ended.
    ended: Vec<u64>,
    /// Number of permits.
    admitted: u64,
    last_id: u64,
    has_reader: bool,
}

/// A slot replay that is due: its next event is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DueReplay {
    /// Number of the replay, never used again.
    pub id: u64,
    /// Id of the process.
    pub process: ProcessId,
    /// The next event.
    pub next: Position,
}

/// One slot replay, as its reader and its shard share it.
#[derive(Debug)]
pub(crate) struct SlotReplay {
    pub(crate) id: u64,
    pub(crate) process: ProcessId,
    /// The subscriptions of the connection, which do not change during the replay.
    pub(crate) choice: Choice,
    connection: ConnectionHandle,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    next: Position,
    turn: Turn,
    /// True if the reader knows the replay.
    is_known: bool,
    /// True if the replay has lost its permit to another one.
    is_evicted: bool,
}

/// Who acts next on a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The reader, which has not taken it yet.
    Due,
    /// The reader.
    Reader,
    /// The shard, because the client has to take events first. The time is that of the last step.
    Client(Instant),
}

/// A step of a replay for the shard of its connection.
#[derive(Debug)]
pub(crate) enum SlotStep {
    /// Events that the connection is to get.
    Events {
        frames: Vec<ReplayedFrame>,
        next: Position,
        is_last: bool,
    },
    /// Slots that are not in the cache, and the frame that says so.
    Missing {
        frame: ReplayedFrame,
        from: u64,
        to: u64,
        /// True if they may still be published.
        may_come: bool,
    },
    /// The reader has come to the last published slot.
    Live,
    /// The replay cannot go on.
    Failed { code: ErrorCode, message: String },
}

/// A whole text frame, and the event after it.
#[derive(Debug)]
pub(crate) struct ReplayedFrame {
    pub(crate) frame: bytes::Bytes,
    pub(crate) next: Position,
}

/// The reason why there is no further replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NoReplay {
    /// The limit is reached.
    #[error("from-slot: the server makes max_slot_replays slot replays already; try again")]
    Full,
    /// The program does not read slots.
    #[error("from-slot: this server has no results of a node, so there are no slots to replay")]
    NoReader,
}

impl NoReplay {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Full => ErrorCode::TooManySlotReplays,
            Self::NoReader => ErrorCode::NoCache,
        }
    }
}

/// The place of one replay among `max_slot_replays`. Dropping it ends the replay.
pub(crate) struct SlotPermit {
    replays: Arc<SlotReplays>,
    id: u64,
}

impl SlotReplays {
    /// Replaces the previous reader. Replays that it had begun are due again, so the new one looks at once.
    pub fn watch(&self, watcher: impl InterestWatcher + 'static) {
        {
            let mut replays = self.replays.lock();
            replays.has_reader = true;
            replays.ended.clear();
            let Replays { active, due, .. } = &mut *replays;
            let mut again: Vec<_> = active
                .values()
                .filter(|replay| {
                    let mut progress = replay.progress.lock();
                    progress.is_known = false;
                    let was_read = progress.turn == Turn::Reader;
                    if was_read {
                        progress.turn = Turn::Due;
                    }
                    was_read
                })
                .map(|replay| replay.id)
                .collect();
            again.sort_unstable();
            due.extend(again);
        }
        self.signal.watch(watcher);
    }

    /// Takes at most `max` replays that are due, longest first, and the ids of those that have ended. The reader is
    /// signalled when further ones are due. If this call returns `max`, there may be more already.
    pub fn take_due(&self, max: usize) -> (Vec<DueReplay>, Vec<u64>) {
        self.signal.arm();
        let mut replays = self.replays.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(id) = replays.due.pop_front()
        {
            let Some(replay) = replays.active.get(&id) else {
                continue;
            };
            let mut progress = replay.progress.lock();
            if progress.turn != Turn::Due {
                continue;
            }
            progress.turn = Turn::Reader;
            progress.is_known = true;
            taken.push(DueReplay {
                id,
                process: replay.process,
                next: progress.next,
            });
        }
        (taken, std::mem::take(&mut replays.ended))
    }

    /// Returns the number of replays, including those that have not begun.
    pub(crate) fn len(&self) -> u64 {
        self.replays.lock().admitted
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<SlotReplay>> {
        self.replays.lock().active.get(&id).cloned()
    }

    /// Reserves the place of a replay. When all are taken, a client that has taken nothing for a while loses its place
    /// and its connection.
    pub(crate) fn admit(self: &Arc<Self>, max: u64) -> Result<SlotPermit, NoReplay> {
        let mut replays = self.replays.lock();
        if !replays.has_reader {
            return Err(NoReplay::NoReader);
        }
        if replays.admitted >= max && (max == 0 || !replays.evict(Instant::now())) {
            return Err(NoReplay::Full);
        }
        replays.admitted += 1;
        replays.last_id += 1;
        Ok(SlotPermit {
            replays: self.clone(),
            id: replays.last_id,
        })
    }

    /// Makes a replay due.
    pub(crate) fn set_due(&self, replay: &SlotReplay) {
        let mut replays = self.replays.lock();
        let was_due = {
            let mut progress = replay.progress.lock();
            std::mem::replace(&mut progress.turn, Turn::Due) == Turn::Due
        };
        if !was_due {
            replays.due.push_back(replay.id);
        }
        drop(replays);
        self.signal.changed();
    }
}

impl Replays {
    /// Ends the replay whose client has taken nothing for the longest time. Returns false if no client is that slow.
    fn evict(&mut self, now: Instant) -> bool {
        let slowest = self
            .active
            .values()
            .filter_map(|replay| {
                let progress = replay.progress.lock();
                let Turn::Client(since) = progress.turn else {
                    return None;
                };
                let is_slow = !progress.is_evicted && now.duration_since(since) >= PATIENCE;
                is_slow.then_some((since, replay))
            })
            .min_by_key(|(since, _)| *since);
        let Some((_, replay)) = slowest else {
            return false;
        };
        replay.progress.lock().is_evicted = true;
        replay.connection.close(Disconnect::Slow);
        self.admitted -= 1;
        true
    }
}

impl SlotReplay {
    /// Hands a step to the shard. It must begin at the next event, and the client must have taken the steps before.
    ///
    /// # Errors
    /// The next event, if the step is not the next one.
    pub(crate) fn step(
        &self,
        start: Position,
        next: Position,
        step: SlotStep,
    ) -> Result<(), Position> {
        let mut progress = self.progress.lock();
        if progress.next != start || progress.turn != Turn::Reader {
            return Err(progress.next);
        }
        progress.next = next;
        progress.turn = Turn::Client(Instant::now());
        // Under the lock, so that the commands are in the order of the steps.
        self.connection.tell(Command::Slots {
            connection: self.connection.id,
            replay: self.id,
            step,
        });
        Ok(())
    }

    pub(crate) fn next(&self) -> Position {
        self.progress.lock().next
    }

    /// Returns the frame of a gap, and the event after it.
    pub(crate) fn gap_frame(&self, gap: SlotGap) -> ReplayedFrame {
        let next = gap.slots().map_or(self.next(), |slots| Position {
            slot: slots.to() + 1,
            part: 0,
        });
        let notice = SlotGapNotice {
            process: String::from_utf8_lossy(&self.process).into(),
            gap,
        };
        ReplayedFrame {
            frame: notice.encode(None, now()),
            next,
        }
    }
}

impl SlotPermit {
    /// Begins the replay, which is due at once.
    pub(crate) fn begin(
        &self,
        connection: ConnectionHandle,
        choice: Choice,
        start: &SlotStart,
    ) -> Arc<SlotReplay> {
        let replay = Arc::new(SlotReplay {
            id: self.id,
            process: start.process,
            choice,
            connection,
            progress: Mutex::new(Progress {
                next: Position {
                    slot: start.slot,
                    part: start.part,
                },
                turn: Turn::Due,
                is_known: false,
                is_evicted: false,
            }),
        });
        {
            let mut replays = self.replays.replays.lock();
            replays.active.insert(self.id, replay.clone());
            replays.due.push_back(self.id);
        }
        self.replays.signal.changed();
        replay
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        let mut replays = self.replays.replays.lock();
        let mut is_known = false;
        let mut is_evicted = false;
        if let Some(replay) = replays.active.remove(&self.id) {
            let progress = replay.progress.lock();
            (is_known, is_evicted) = (progress.is_known, progress.is_evicted);
        }
        if !is_evicted {
            replays.admitted -= 1;
        }
        if is_known {
            replays.ended.push(self.id);
        }
        // Ids of replays that ended while they were due are skipped when they are taken. They must not pile up.
        let Replays { active, due, .. } = &mut *replays;
        if due.len() > 2 * active.len() + 64 {
            due.retain(|id| active.contains_key(id));
        }
        drop(replays);
        if is_known {
            self.replays.signal.changed();
        }
    }
}

impl fmt::Debug for SlotReplays {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SlotReplays")
    }
}

impl fmt::Debug for SlotPermit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SlotPermit({})", self.id)
    }
}
