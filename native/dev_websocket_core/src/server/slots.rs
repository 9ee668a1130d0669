//! The steps of slot replays: what the embedding program has read again for one connection.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::error_code::ErrorCode;
use crate::log::publication::draft::Draft;
use crate::log::publication::slot_gap::SlotGap;
use crate::log::slot_marks::Position;
use crate::server::Server;
use crate::server::publish::Event;
use crate::server::results::{MAX_PART_EVENTS, SlotRejected};
use crate::shard::slot_replay::{ReplayedFrame, SlotReplay, SlotStep};

/// Reasons for which a slot replay took no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplayRejected {
    /// The connection has ended, or is live.
    #[error("the replay has ended")]
    Ended,
    /// Another event comes next, or the client has to take the last ones first.
    #[error("expected slot {}, event {}", .0.slot, .0.part)]
    Expected(Position),
    /// More than [`MAX_PART_EVENTS`] or [`crate::MAX_PART_BYTES`].
    #[error("too many events in one call")]
    TooMuch,
}

/// Reasons for which a slot replay cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFailure {
    /// The program is not a node, or its results are switched off.
    NoNode,
    /// The node stores nothing on this machine.
    NoLocalStore,
    /// The node does not know the process.
    UnknownProcess,
    /// The node already follows its maximum number of processes.
    TooManyProcesses,
    /// The node's cache could not be read.
    Unreadable,
}

impl ReplayFailure {
    fn told(self) -> (ErrorCode, &'static str) {
        match self {
            Self::NoNode => (
                ErrorCode::NoCache,
                "from-slot: this server has no results of a node, so there are no slots to replay",
            ),
            Self::NoLocalStore => (
                ErrorCode::NoCache,
                "from-slot: the node has no store on its machine, so there are no slots to replay",
            ),
            Self::UnknownProcess => (
                ErrorCode::UnknownProcess,
                "process: the node does not have this process",
            ),
            Self::TooManyProcesses => (
                ErrorCode::TooManyProcesses,
                "process: the node follows max_tails processes already; try again",
            ),
            Self::Unreadable => (
                ErrorCode::ReplayFailed,
                "from-slot: the node's cache could not be read; try again",
            ),
        }
    }
}

impl Server {
    /// Sends the events of one slot that begin at a position to the connection of a replay. The replay is due again when
    /// the client has taken them.
    ///
    /// # Errors
    /// [`ReplayRejected`]; nothing was sent then.
    pub fn replay_part(
        &self,
        replay: u64,
        start: Position,
        events: Vec<Event<'_>>,
        is_last: bool,
    ) -> Result<(), ReplayRejected> {
        if events.len() > MAX_PART_EVENTS {
            return Err(ReplayRejected::TooMuch);
        }
        let replay = self.replay(replay)?;
        let active = self.shared.context.active.load();
        let next = if is_last {
            Position {
                slot: start.slot + 1,
                part: 0,
            }
        } else {
            Position {
                part: start.part.saturating_add(events.len() as u64),
                ..start
            }
        };
        let process = String::from_utf8_lossy(&replay.process);
        let drafts = self
            .draft_part(&active, &process, start, events, 0)
            .map_err(|rejected| match rejected {
                SlotRejected::Expected(next) => ReplayRejected::Expected(next),
                _ => ReplayRejected::TooMuch,
            })?;
        let frames = drafts.into_iter().map(Draft::replayed).zip(start.part..);
        let mut frames: Vec<ReplayedFrame> = frames
            .filter(|(event, _)| replay.choice.matches(event))
            .map(|(event, part)| ReplayedFrame {
                frame: Bytes::copy_from_slice(event.json_frame()),
                next: Position {
                    part: part + 1,
                    ..start
                },
            })
            .collect();
        // The cursor of the last event leads to the next slot at once.
        if let Some(last) = frames.last_mut() {
            last.next = next;
        }
        let step = SlotStep::Events {
            frames,
            next,
            is_last,
        };
        replay
            .step(start, next, step)
            .map_err(ReplayRejected::Expected)
    }

    /// Tells the connection of a replay that slots are missing, and continues behind them. They begin with the next
    /// slot.
    ///
    /// # Errors
    /// [`ReplayRejected`]; nothing was sent then.
    pub fn replay_gap(&self, replay: u64, gap: SlotGap) -> Result<(), ReplayRejected> {
        let replay = self.replay(replay)?;
        let start = replay.next();
        let slots = gap.slots().ok_or(ReplayRejected::Expected(start))?;
        if slots.from() != start.slot {
            return Err(ReplayRejected::Expected(start));
        }
        let frame = replay.gap_frame(gap);
        let next = frame.next;
        let step = SlotStep::Missing {
            from: slots.from(),
            to: slots.to(),
            may_come: matches!(gap, SlotGap::NotCached(_) | SlotGap::Withheld(_)),
            frame,
        };
        replay
            .step(start, next, step)
            .map_err(ReplayRejected::Expected)?;
        let counters = &self.shared.context.counters;
        counters.slots_not_replayed.add(slots.count());
        Ok(())
    }

    /// Lets the connection of a replay go live, if all published slots were replayed. Otherwise the replay is due again.
    ///
    /// # Errors
    /// [`ReplayRejected`]; nothing has changed then.
    pub fn replay_live(&self, replay: u64) -> Result<(), ReplayRejected> {
        let replay = self.replay(replay)?;
        let next = replay.next();
        replay
            .step(next, next, SlotStep::Live)
            .map_err(ReplayRejected::Expected)
    }

    /// Ends a replay that cannot go on. The client gets an error and a gap of the slots that it misses, and is live.
    ///
    /// # Errors
    /// [`ReplayRejected`]; nothing has changed then.
    pub fn replay_failed(&self, replay: u64, failure: ReplayFailure) -> Result<(), ReplayRejected> {
        let replay = self.replay(replay)?;
        let next = replay.next();
        let (code, message) = failure.told();
        let step = SlotStep::Failed {
            code,
            message: message.to_owned(),
        };
        replay
            .step(next, next, step)
            .map_err(ReplayRejected::Expected)
    }

    fn replay(&self, id: u64) -> Result<Arc<SlotReplay>, ReplayRejected> {
        let replays = &self.shared.context.replays;
        replays.find(id).ok_or(ReplayRejected::Ended)
    }
}
