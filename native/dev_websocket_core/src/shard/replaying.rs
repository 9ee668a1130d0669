//! Replays of a shard's connections: [`Replay`] finds past publications, and this module sends them.
//!
//! Live work comes first: after each round of it some replays continue, within the steps that the round allows. A
//! connection in a replay takes no part in the batches of its shard until it has caught up.

use std::sync::Arc;

use super::client::Client;
use super::ids::ConnectionIndex;
use super::replay::{Budget, Replay};
use super::{Shard, Turn};
use crate::log::publication::Publication;
use crate::log::publication::stream_break::StreamBreak;
use crate::wire::control::Reply;

/// Steps for all replays between two rounds of live work, about half a millisecond; fewer while live work is queued.
const ROUND_STEPS: usize = 4096;
const BUSY_STEPS: usize = 512;
/// Steps of a replay right after its request, so that a short one ends at once.
const FIRST_STEPS: usize = 64;

impl Shard {
    /// Begins a replay, with the gap that the client is told first.
    pub(super) fn begin_replay(
        &mut self,
        index: ConnectionIndex,
        replay: Replay,
        gap: Option<&StreamBreak>,
    ) {
        if let Some(gap) = gap {
            self.reply(index, &gap.reply());
        }
        // The reply may have shown that the connection is gone.
        if let Some(client) = self.clients.get_mut(index) {
            client.replay = Some(Box::new(replay));
            self.go_on(index, &mut Budget::new(FIRST_STEPS));
        }
    }

    /// Continues a replay whose socket takes bytes again.
    pub(super) fn resume_replay(&mut self, index: ConnectionIndex) {
        let client = self.clients.get(index);
        if client.is_some_and(Client::has_taken_everything) {
            self.queue_replay(index);
        }
    }

    /// Queues a replay. A connection stands in the queue at most once.
    pub(super) fn queue_replay(&mut self, index: ConnectionIndex) {
        if let Some(client) = self.clients.get_mut(index)
            && let Some(replay) = client.replay.as_mut().filter(|replay| !replay.is_queued)
        {
            replay.is_queued = true;
            // The queue holds ids, because another connection may reuse the index.
            self.replaying.push_back(client.state.id);
        }
    }

    /// Queues a replay again when the shard has taken more publications.
    fn wait_for_shard(&mut self, index: ConnectionIndex) {
        if let Some(client) = self.clients.get_mut(index)
            && let Some(replay) = client.replay.as_mut().filter(|replay| !replay.is_queued)
        {
            replay.is_queued = true;
            self.ahead.push(client.state.id);
        }
    }

    /// Sends the next blocks of some replays.
    pub(super) fn replay_round(&mut self) {
        let turn = self.turn;
        let mut budget = Budget::new(if self.queue.is_empty() {
            ROUND_STEPS
        } else {
            BUSY_STEPS
        });
        while !budget.is_spent()
            && let Some(connection) = self.replaying.pop_front()
        {
            let Some(index) = self.clients.find(connection) else {
                continue;
            };
            self.turn = Turn::Client(index);
            let client = self.clients.get_mut(index);
            if let Some(replay) = client.and_then(|client| client.replay.as_mut()) {
                replay.is_queued = false;
                self.go_on(index, &mut budget);
            }
        }
        self.turn = turn;
    }

    /// Sends blocks until the socket is full, the connection is live or the budget is spent.
    fn go_on(&mut self, index: ConnectionIndex, budget: &mut Budget) {
        while !budget.is_spent() {
            let Some(client) = self.clients.get_mut(index) else {
                return;
            };
            let is_ready = client.has_taken_everything();
            let Some(replay) = client.replay.as_mut().filter(|_| is_ready) else {
                // The socket reports when it takes more.
                return;
            };
            if replay.past.is_some() {
                if self.step_stream(index, budget) {
                    continue;
                }
                // The engine's answer continues it.
                return;
            }
            let context = &self.context;
            let block = replay.step(&context.log, self.seq, budget, &context.counters);
            if block.is_live {
                return self.go_live(index);
            }
            if block.is_ahead {
                return self.wait_for_shard(index);
            }
            if let Some(missing) = block.missing
                && !self.read_missing(index, missing)
            {
                let gap = missing.gap(&self.context.eras);
                self.tell_gap(index, &gap);
            }
            self.send_past(index, block.publications, None);
        }
        self.queue_replay(index);
    }

    /// Sends replayed publications; those of the stream with the epoch of their numbers.
    pub(super) fn send_past(
        &mut self,
        index: ConnectionIndex,
        mut publications: Vec<Arc<Publication>>,
        epoch: Option<&Arc<str>>,
    ) {
        let context = &self.context;
        let client = self.clients.get_mut(index);
        if let Some(slots) = client.as_ref().and_then(|client| client.slots.as_ref()) {
            publications.retain(|publication| slots.passes(publication));
        }
        if let Some(client) = client.filter(|_| !publications.is_empty())
            && client
                .deliver_past(publications, epoch, &mut self.sent, context)
                .is_err()
        {
            self.clients.mark(index);
        }
    }

    /// Ends the replay; the connection takes part in batches from here on.
    fn go_live(&mut self, index: ConnectionIndex) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        client.served = self.seq;
        client.active.clear();
        let id = client.state.id;
        let Some(replay) = client.replay.take() else {
            return;
        };
        let live = Reply::Live {
            id: &replay.id,
            process: None,
            slot: None,
            seq: self.context.eras.number(self.seq),
        };
        self.reply(index, &live);
        self.tell_if_stale(index);
        self.begin_slots(index);
        for (bytes, request) in replay.deferred {
            self.request(id, bytes, request);
        }
    }
}
