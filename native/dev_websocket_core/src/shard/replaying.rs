//! How a connection gets past publications before the present ones.
//!
//! While it does, it takes no part in the batches of its shard: it reads the log by numbers, at its own pace, a block at
//! a time whenever its socket has taken the last one. When it has come to where the shard is, it is live. So the seam is
//! exact: each publication is looked at once, in order, whatever is cast meanwhile.

use std::sync::Arc;

use super::client::Client;
use super::place::{ConnectionIndex, Seq};
use super::replay::Replay;
use super::{Shard, Turn};
use crate::delivery::Format;
use crate::protocol::{GapReason, Reply};
use crate::publication::Publication;

/// Publications that are looked at in one go; about as long as a round of writing.
const BLOCK: usize = 256;
/// Bytes that are sent in one go, and one publication more.
const BLOCK_BYTES: usize = 128 * 1024;
/// Connections that get their next block between two rounds of writing.
const BLOCKS_PER_ROUND: usize = 8;
/// Requests of one connection that may wait until its replay is over.
pub(super) const MAX_DEFERRED: usize = 64;

/// What a block came to.
enum Step {
    /// There is more to look at.
    Goes,
    /// The socket is full; it says when it takes more.
    Waits,
    /// The connection has come to where the shard is.
    IsLive,
}

impl Shard {
    /// Begins a replay. A cursor of another epoch is told so, and everything that is kept follows.
    pub(super) fn begin_replay(
        &mut self,
        index: ConnectionIndex,
        mut replay: Replay,
        is_other_epoch: bool,
    ) {
        if is_other_epoch {
            let oldest = self.shared.log.read(0, 0).oldest;
            let gap = Reply::Gap {
                reason: GapReason::Epoch,
                dropped: oldest - 1,
                after: 0,
                next: oldest,
            };
            replay.next = oldest;
            self.reply(index, &gap);
        }
        // The reply may have shown that the connection is gone.
        if let Some(client) = self.clients.get_mut(index) {
            client.replay = Some(Box::new(replay));
            self.replaying.push_back(index);
        }
    }

    /// Goes on with a replay whose socket takes bytes again.
    pub(super) fn resume_replay(&mut self, index: ConnectionIndex) {
        let client = self.clients.get(index);
        if client.is_some_and(|client| client.replay.is_some() && client.has_taken_everything()) {
            self.replaying.push_back(index);
        }
    }

    /// The next blocks of some of the replays.
    pub(super) fn replay_round(&mut self) {
        let turn = self.turn;
        for _ in 0..self.replaying.len().min(BLOCKS_PER_ROUND) {
            let Some(index) = self.replaying.pop_front() else {
                break;
            };
            self.turn = Turn::Client(index);
            match self.replay_block(index) {
                None | Some(Step::Waits) => {}
                Some(Step::Goes) => self.replaying.push_back(index),
                Some(Step::IsLive) => self.go_live(index),
            }
        }
        self.turn = turn;
    }

    /// None when there is nothing to do: the connection is gone, or was queued twice.
    fn replay_block(&mut self, index: ConnectionIndex) -> Option<Step> {
        let client = self.clients.get_mut(index)?;
        if !client.has_taken_everything() {
            // Its socket was filled by something else meanwhile.
            return client.replay.is_some().then_some(Step::Waits);
        }
        let mut replay = client.replay.take()?;
        let step = match replay.looking_back {
            Some(wanted) => self.look_back(index, &mut replay, wanted),
            None => self.look_forward(index, &mut replay),
        };
        // A broken socket has removed the client, a slow raw one gets no more.
        let client = self.clients.get_mut(index)?;
        if client.is_muted() {
            return None;
        }
        client.replay = Some(replay);
        Some(step)
    }

    fn look_back(
        &mut self,
        index: ConnectionIndex,
        replay: &mut Replay,
        mut wanted: usize,
    ) -> Step {
        let from = replay.next.saturating_sub(BLOCK as Seq).max(1);
        let past = self.shared.log.read(from, (replay.next - from) as usize);
        for publication in past.publications.iter().rev() {
            if wanted == 0 {
                break;
            }
            if publication.seq() < replay.next {
                replay.next = publication.seq();
                if self.is_for(index, publication, replay) {
                    wanted -= 1;
                }
            }
        }
        let is_done = wanted == 0 || replay.next <= past.oldest || from == 1;
        replay.looking_back = (!is_done).then_some(wanted);
        Step::Goes
    }

    fn look_forward(&mut self, index: ConnectionIndex, replay: &mut Replay) -> Step {
        if replay.next == self.seq + 1 {
            return Step::IsLive;
        }
        if replay.next > self.seq {
            // The cursor comes from another shard, which is ahead of this one.
            return Step::Goes;
        }
        let count = BLOCK.min((self.seq + 1 - replay.next) as usize);
        let past = self.shared.log.read(replay.next, count);
        let unnumbered_until = std::mem::take(&mut replay.unnumbered_until);
        if past.oldest > replay.next {
            let missing = replay.next.max(unnumbered_until + 1);
            replay.next = past.oldest;
            if past.oldest > missing && !self.tell_expired(index, missing, past.oldest) {
                return Step::Waits;
            }
        }
        let mut chosen = Vec::new();
        let mut bytes = 0;
        for publication in past.publications {
            if bytes >= BLOCK_BYTES || publication.seq() > self.seq {
                break;
            }
            replay.next = publication.seq() + 1;
            if self.is_for(index, &publication, replay) {
                bytes += publication.footprint();
                chosen.push(publication);
            }
        }
        let (sent, shared) = (&mut self.sent, &self.shared);
        let Some(client) = self.clients.get_mut(index) else {
            return Step::Waits;
        };
        if client.deliver_past(chosen, sent, shared).is_err() {
            self.clients.mark(index);
            Step::Waits
        } else if client.has_taken_everything() {
            Step::Goes
        } else {
            Step::Waits
        }
    }

    /// What was forgotten before the connection got it. Says whether the connection goes on.
    fn tell_expired(&mut self, index: ConnectionIndex, first: Seq, oldest: Seq) -> bool {
        let Some(client) = self.clients.get_mut(index) else {
            return false;
        };
        if client.format == Format::Raw {
            client.disconnect_slow(&mut self.sent);
            return false;
        }
        let gap = Reply::Gap {
            reason: GapReason::Expired,
            dropped: oldest - first,
            after: first - 1,
            next: oldest,
        };
        self.reply(index, &gap);
        true
    }

    fn is_for(
        &mut self,
        index: ConnectionIndex,
        publication: &Arc<Publication>,
        replay: &Replay,
    ) -> bool {
        let entries = self.registry.matching(publication);
        let Some(client) = self.clients.get(index) else {
            return false;
        };
        let has_had = publication.seq() <= replay.had_until && replay.had.chooses(entries);
        client.selection.chooses(entries) && !has_had
    }

    /// The connection takes part in the batches from here on.
    fn go_live(&mut self, index: ConnectionIndex) {
        let Some(replay) = self.end_replay(index) else {
            return;
        };
        let Replay { id, deferred, .. } = *replay;
        self.reply(
            index,
            &Reply::Live {
                id: &id,
                seq: self.seq,
            },
        );
        for command in deferred {
            self.carry_out(command);
        }
    }

    fn end_replay(&mut self, index: ConnectionIndex) -> Option<Box<Replay>> {
        let client: &mut Client = self.clients.get_mut(index)?;
        client.served = self.seq;
        client.active.clear();
        client.replay.take()
    }
}
