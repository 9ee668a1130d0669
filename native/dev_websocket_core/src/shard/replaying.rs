//! How a shard gives its connections past publications before the present ones: [`Replay`] finds them, this sends them.
//!
//! Live work comes first: after each round of it some replays go on, for as many steps as the round allows. A connection
//! in a replay takes no part in the batches of its shard until it has come to where the shard is.

use super::client::Client;
use super::ids::ConnectionIndex;
use super::replay::{Budget, Missing, Replay};
use super::{Shard, Turn};
use crate::wire::control::Reply;
use crate::wire::format::Format;

/// Steps of all replays between two rounds of live work, about half a millisecond; fewer while live work waits.
const ROUND_STEPS: usize = 4096;
const BUSY_STEPS: usize = 512;
/// Steps of a replay right behind the request for it, so that a short one is over at once.
const FIRST_STEPS: usize = 64;

impl Shard {
    /// Begins a replay. A cursor of another epoch is told so, and everything that is kept follows.
    pub(super) fn begin_replay(
        &mut self,
        index: ConnectionIndex,
        mut replay: Replay,
        is_other_epoch: bool,
    ) {
        if is_other_epoch {
            let missing = replay.begin_anew(&self.context.log);
            self.reply(index, &missing.reply());
        }
        // The reply may have shown that the connection is gone.
        if let Some(client) = self.clients.get_mut(index) {
            client.replay = Some(Box::new(replay));
            self.go_on(index, &mut Budget::new(FIRST_STEPS));
        }
    }

    /// Goes on with a replay whose socket takes bytes again.
    pub(super) fn resume_replay(&mut self, index: ConnectionIndex) {
        let client = self.clients.get(index);
        if client.is_some_and(Client::has_taken_everything) {
            self.queue_replay(index);
        }
    }

    /// A connection stands in the queue once at most.
    fn queue_replay(&mut self, index: ConnectionIndex) {
        if let Some(client) = self.clients.get_mut(index)
            && let Some(replay) = client.replay.as_mut().filter(|replay| !replay.is_queued)
        {
            replay.is_queued = true;
            // By number: another connection may take the place of this one.
            self.replaying.push_back(client.state.id);
        }
    }

    /// The next blocks of some of the replays.
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
                // The socket says when it takes more.
                return;
            };
            let context = &self.context;
            let block = replay.step(&context.log, self.seq, budget, &context.counters);
            if block.is_live {
                return self.go_live(index);
            }
            if block.is_ahead {
                break;
            }
            if let Some(missing) = block.missing {
                self.tell_missing(index, missing);
            }
            let context = &self.context;
            let client = self.clients.get_mut(index);
            if let Some(client) = client.filter(|_| !block.publications.is_empty())
                && client
                    .deliver_past(block.publications, &mut self.sent, context)
                    .is_err()
            {
                self.clients.mark(index);
            }
        }
        self.queue_replay(index);
    }

    /// A connection that cannot be told of what it does not get is closed.
    fn tell_missing(&mut self, index: ConnectionIndex, missing: Missing) {
        if let Some(client) = self.clients.get_mut(index)
            && client.format == Format::Raw
        {
            client.disconnect_slow(&mut self.sent);
        } else {
            self.reply(index, &missing.reply());
        }
    }

    /// The connection takes part in the batches from here on.
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
            seq: self.seq,
        };
        self.reply(index, &live);
        for (bytes, request) in replay.deferred {
            self.request(id, bytes, request);
        }
    }
}
