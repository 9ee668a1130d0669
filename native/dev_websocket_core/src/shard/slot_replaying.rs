//! Slot replays of a shard's connections: the steps of their readers become frames, and the last one joins the live
//! publications.

use std::collections::VecDeque;
use std::sync::Arc;

use super::client::Client;
use super::ids::{ConnectionId, ConnectionIndex};
use super::replay::Deferred;
use super::slot_replay::{
    ClientSlots, HeldSlots, ReplayedFrame, Replaying, Seam, SlotPermit, SlotReplay, SlotStep,
};
use super::{Shard, connection_handle::ConnectionHandle};
use crate::error_code::ErrorCode;
use crate::log::publication::slot_gap::{SlotGap, SlotRange};
use crate::log::slot_marks::Mark;
use crate::wire::control::{Reply, RequestId};
use crate::wire::slots::SlotStart;

impl Shard {
    /// Holds the slots of a process back for a connection, until their replay has come to the present.
    pub(super) fn hold_slots(
        &mut self,
        index: ConnectionIndex,
        (start, permit): (SlotStart, SlotPermit),
        id: RequestId,
    ) {
        if let Some(client) = self.clients.get_mut(index) {
            let slots = ClientSlots::new(start, permit, id).after(client.slots.take());
            client.slots = Some(Box::new(slots));
        }
    }

    /// Reserves the place of a slot replay that a request asks for.
    pub(super) fn admit_slots(
        &self,
        start: Option<SlotStart>,
    ) -> Result<Option<(SlotStart, SlotPermit)>, (ErrorCode, String)> {
        let Some(start) = start else {
            return Ok(None);
        };
        let max = self.context.settings().max_slot_replays;
        match self.context.replays.admit(max) {
            Ok(permit) => Ok(Some((start, permit))),
            Err(refused) => Err((refused.code(), refused.to_string())),
        }
    }

    /// Begins the slot replay of a connection that is not in a replay of publications.
    pub(super) fn begin_slots(&mut self, index: ConnectionIndex) {
        let choice = self.choice(index);
        let mailbox = self.mailbox.clone();
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let handle = ConnectionHandle::new(client.state.clone(), mailbox);
        if let Some(slots) = client.slots.as_mut()
            && let Some(replay) = slots.replay.as_mut()
            && replay.begun.is_none()
        {
            replay.begun = Some(replay.permit.begin(handle, choice, slots.held.cursor()));
        }
    }

    /// Carries out a step of a connection's slot replay.
    pub(super) fn step_slots(&mut self, index: ConnectionIndex, replay: u64, step: SlotStep) {
        let client = self.clients.get(index);
        let Some(begun) = client
            .and_then(Client::slot_replay)
            .filter(|begun| begun.id == replay)
            .cloned()
        else {
            return;
        };
        match step {
            SlotStep::Events {
                frames,
                next,
                is_last,
            } => {
                for frame in frames {
                    self.push_replayed(index, &frame);
                }
                if let Some(slots) = self.slots(index) {
                    slots.held.move_to(next);
                }
                let counters = &self.context.counters;
                counters.slots_replayed.add(u64::from(is_last));
            }
            SlotStep::Missing {
                frame,
                from,
                to,
                may_come,
            } => {
                if let Some(slots) = self.slots(index).filter(|_| may_come) {
                    slots.held.report_missing(from, to);
                }
                self.push_replayed(index, &frame);
            }
            SlotStep::Live => return self.try_live(index, &begun),
            SlotStep::Failed { code, message } => {
                return self.end_slots(index, &begun, code, &message);
            }
        }
        if let Some(replay) = self.slots(index).and_then(|slots| slots.replay.as_mut()) {
            replay.is_waiting = true;
        }
        self.on_client(index, |client, sent| {
            if client.is_blocked() {
                Ok(())
            } else {
                client.flush(sent)
            }
        });
        self.resume_slots(index);
    }

    /// Makes a slot replay due again when its client has taken all replayed frames.
    pub(super) fn resume_slots(&mut self, index: ConnectionIndex) {
        let replays = self.context.replays.clone();
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if client.has_replayed_frames() {
            return;
        }
        if let Some(replay) = client
            .slots
            .as_mut()
            .and_then(|slots| slots.replay.as_mut())
            && std::mem::take(&mut replay.is_waiting)
            && let Some(begun) = &replay.begun
        {
            replays.set_due(begun);
        }
    }

    fn push_replayed(&mut self, index: ConnectionIndex, frame: &ReplayedFrame) {
        let shown = self.context.eras.at(self.seq);
        if let Some(client) = self.clients.get_mut(index) {
            client.push_replayed(&frame.frame, frame.next, &shown);
        }
    }

    /// Lets the connection go live, if its replay has come to the last slot that was published.
    ///
    /// The mark and the last sequence number are read at one moment. Everything up to this number is spared, and every
    /// slot from the seam on has a greater one.
    fn try_live(&mut self, index: ConnectionIndex, replay: &SlotReplay) {
        let (mark, last) = self.published(replay);
        match HeldSlots::seam(replay.next(), mark.as_ref()) {
            Seam::Behind => self.context.replays.set_due(replay),
            Seam::At(first) => {
                self.take_until(index, last);
                self.go_live_slots(index, first);
            }
        }
    }

    /// Ends a replay that cannot go on. The client is told which slots it misses.
    fn end_slots(
        &mut self,
        index: ConnectionIndex,
        replay: &SlotReplay,
        code: ErrorCode,
        message: &str,
    ) {
        let (mark, last) = self.published(replay);
        self.take_until(index, last);
        let id = self
            .slots(index)
            .and_then(|slots| slots.replay.as_ref())
            .map(|replay| replay.id.clone())
            .unwrap_or_default();
        self.refuse(index, &id, code, message.to_owned());
        let (left_out, first) = HeldSlots::cut(replay.next(), mark.as_ref());
        if let Some((from, to)) = left_out
            && let Some(range) = SlotRange::new(from, to)
        {
            let frame = replay.gap_frame(SlotGap::NotReplayed(range));
            self.push_replayed(index, &frame);
        }
        self.go_live_slots(index, first);
    }

    /// Returns the mark of the replay's process, and the last publication at the same moment.
    fn published(&self, replay: &SlotReplay) -> (Option<Mark>, u64) {
        let process = std::str::from_utf8(&replay.process).unwrap_or_default();
        let mut turn = self.context.slots.take_turn();
        let mark = turn.mark(process).cloned();
        (mark, self.context.log.last_seq())
    }

    /// Takes the publications up to a sequence number while slots are still held back.
    pub(super) fn take_until(&mut self, index: ConnectionIndex, last: u64) {
        self.catch_up(last);
        self.serve(index);
        if let Some(client) = self.clients.get_mut(index) {
            client.served = self.seq;
        }
    }

    fn go_live_slots(&mut self, index: ConnectionIndex, first: u64) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let connection: ConnectionId = client.state.id;
        let Some(slots) = client.slots.as_mut() else {
            return;
        };
        slots.held.go_live(first);
        let cursor = *slots.held.cursor();
        let Some(replay) = slots.replay.take() else {
            return;
        };
        let Replaying {
            permit,
            id,
            deferred,
            ..
        } = replay;
        // The place is free before the client hears of the end.
        drop(permit);
        let live = Reply::Live {
            id: &id,
            process: Some(cursor.process()),
            slot: Some(first),
            seq: self.context.eras.number(self.seq),
        };
        self.reply(index, &live);
        for (bytes, request) in deferred {
            self.request(connection, bytes, request);
        }
    }

    fn slots(&mut self, index: ConnectionIndex) -> Option<&mut ClientSlots> {
        self.clients.get_mut(index)?.slots.as_deref_mut()
    }
}

impl Client {
    /// Returns the requests that wait until the connection is live, unless it is live.
    pub(super) fn deferred(&mut self) -> Option<&mut VecDeque<Deferred>> {
        if let Some(replay) = &mut self.replay {
            return Some(&mut replay.deferred);
        }
        let replay = self.slots.as_mut()?.replay.as_mut()?;
        Some(&mut replay.deferred)
    }

    /// Returns the slot replay, if it has begun and not ended.
    fn slot_replay(&self) -> Option<&Arc<SlotReplay>> {
        self.slots.as_ref()?.replay.as_ref()?.begun.as_ref()
    }
}
