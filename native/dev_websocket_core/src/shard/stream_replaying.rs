//! Replays that begin in the stream: a shard asks the engine for records, sends them, and goes on in the log where that
//! begins.
//!
//! While the stream is away such a replay waits, like everything else that comes from there.

use super::Shard;
use super::connection_handle::ConnectionHandle;
use super::ids::{ConnectionIndex, Seq};
use super::replay::{Budget, Missing, Past, Replay};
use super::stream_reads::{Chunk, ReadPermit};
use crate::error_code::ErrorCode;
use crate::log::publication::stream_break::StreamBreak;
use crate::shard::context::Start;
use crate::wire::control::{GapReason, RequestId};
use crate::wire::cursor::Since;
use crate::wire::format::Format;

/// The answer to a client for whose read there is no place.
pub(crate) const BUSY: &str =
    "since: the server reads the stream for as many clients as it can already; try again";

impl Shard {
    /// Begins the replay after a cursor, in the log or in the stream.
    pub(super) fn begin_after(
        &mut self,
        index: ConnectionIndex,
        since: &Since,
        permit: Option<ReadPermit>,
        replay: impl FnOnce(Seq) -> Replay,
    ) {
        let context = self.context.clone();
        match context.locate(since) {
            Start::Log(seq) => {
                let is_ahead = seq > self.seq && since.seq > context.eras.number(self.seq);
                let mut replay = replay(seq.min(self.seq));
                if is_ahead {
                    replay.wait_until(since.seq);
                }
                self.begin_replay(index, replay, None);
            }
            Start::Gap(seq, gap) => self.begin_replay(index, replay(seq), Some(&gap)),
            Start::Stream { epoch, after } => {
                let (place, gap) = context.rest_of(after);
                let mut replay = replay(place - 1);
                // The cursor may have fallen behind the history only now.
                if let Some(permit) = permit.or_else(|| context.reads.admit()) {
                    let had = context.eras.at(replay.had_until());
                    let had = if had.epoch == epoch { had.number } else { 0 };
                    replay.begin_past(permit, (epoch, after), had);
                    return self.begin_replay(index, replay, None);
                }
                let id: RequestId = replay.id.clone();
                self.refuse(index, &id, ErrorCode::Busy, BUSY.to_owned());
                self.begin_replay(index, replay, gap.as_ref());
            }
        }
    }

    /// Reserves the place of a read, if a cursor needs one.
    pub(super) fn admit_read(
        &self,
        since: &Since,
    ) -> Result<Option<ReadPermit>, (ErrorCode, String)> {
        match self.context.locate(since) {
            Start::Log(_) | Start::Gap(..) => Ok(None),
            Start::Stream { .. } => match self.context.reads.admit() {
                Some(permit) => Ok(Some(permit)),
                None => Err((ErrorCode::Busy, BUSY.to_owned())),
            },
        }
    }

    /// Continues a replay in the stream, because the log has forgotten the next publications. Returns false if the stream
    /// cannot help.
    pub(super) fn read_missing(&mut self, index: ConnectionIndex, missing: Missing) -> bool {
        let context = self.context.clone();
        let since = Since {
            epoch: Some(context.eras.at(missing.first - 1).epoch.to_string()),
            seq: context.eras.number(missing.first - 1),
        };
        if missing.reason != GapReason::Expired {
            return false;
        }
        let Start::Stream { epoch, after } = context.locate(&since) else {
            return false;
        };
        let Some(permit) = context.reads.admit() else {
            return false;
        };
        if let Some(replay) = self.replay_of(index) {
            let had = context.eras.at(replay.had_until());
            let had = if had.epoch == epoch { had.number } else { 0 };
            replay.begin_past(permit, (epoch, after), had);
        }
        true
    }

    /// Takes the next records of the stream for a connection.
    pub(super) fn take_chunk(&mut self, index: ConnectionIndex, read: u64, chunk: Chunk) {
        let records = chunk.len() as u64;
        let past = self.past_of(index);
        if past.is_some_and(|past| past.take(read, chunk)) {
            self.context.counters.engine_records_read.add(records);
            self.queue_replay(index);
        }
    }

    /// Sends the next records of the stream. Returns false if the connection has to wait for more.
    pub(super) fn step_stream(&mut self, index: ConnectionIndex, budget: &mut Budget) -> bool {
        let context = self.context.clone();
        let Some(replay) = self.replay_of(index) else {
            return false;
        };
        let Some(past) = &replay.past else {
            return true;
        };
        if past.is_waiting() {
            return false;
        }
        let epoch = past.epoch.clone();
        let oldest = context.oldest_number(&epoch);
        let is_repeated = |number| {
            let stream = context.stream.as_ref();
            stream.is_some_and(|stream| stream.is_repeated(number))
        };
        let (buffers, counters) = (&context.buffers, &context.counters);
        let block = replay.step_past(oldest, is_repeated, buffers, budget, counters);
        if block.is_over {
            return self.go_on_after_records(index);
        }
        if let Some(gap) = block.gap {
            self.tell_gap(index, &gap);
        }
        self.send_past(index, block.publications, Some(&epoch));
        true
    }

    /// Continues in the log if it has what follows the last record, and asks for more records otherwise.
    fn go_on_after_records(&mut self, index: ConnectionIndex) -> bool {
        let context = self.context.clone();
        let mailbox = self.mailbox.clone();
        let Some(client) = self.clients.get_mut(index) else {
            return false;
        };
        let state = client.state.clone();
        let Some(replay) = client.replay.as_mut() else {
            return false;
        };
        let Some(past) = replay.past.as_mut() else {
            return true;
        };
        let (place, gap) = match context.locate(&past.cursor()) {
            Start::Log(place) => (place + 1, None),
            Start::Gap(place, gap) => (place + 1, Some(gap)),
            Start::Stream { epoch, .. } => {
                let oldest = context.oldest_number(&epoch).unwrap_or(0);
                if let Some(gap) = past.skip_forgotten(oldest) {
                    self.tell_gap(index, &gap);
                    return true;
                }
                let last = context.eras.number(context.log.last_seq());
                past.ask(ConnectionHandle::new(state, mailbox), last);
                return false;
            }
        };
        replay.end_past(place);
        if let Some(gap) = gap {
            self.tell_gap(index, &gap);
        }
        true
    }

    /// Reports missing publications. A raw connection cannot be told, so it is closed.
    pub(super) fn tell_gap(&mut self, index: ConnectionIndex, gap: &StreamBreak) {
        if let Some(client) = self.clients.get_mut(index)
            && client.format == Format::Raw
        {
            client.disconnect_slow(&mut self.sent);
        } else {
            self.reply(index, &gap.reply());
        }
    }

    fn replay_of(&mut self, index: ConnectionIndex) -> Option<&mut Replay> {
        self.clients.get_mut(index)?.replay.as_deref_mut()
    }

    fn past_of(&mut self, index: ConnectionIndex) -> Option<&mut Past> {
        self.replay_of(index)?.past.as_mut()
    }
}
