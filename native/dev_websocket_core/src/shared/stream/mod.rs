//! The side of the engine that keeps the stream: what it takes from the server, and what it brings.

mod events;
mod inlet;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::inlet::Inlet;
pub use self::inlet::OutOfOrder;
use bytes::Bytes;

use crate::cluster::outgoing::OutgoingRecord;
use crate::cluster::state::StreamState;
use crate::settings::Settings;
use crate::shard::command::{Command, StreamNews};
pub use crate::shard::stream_reads::StreamRead;
use crate::shared::Shared;
use crate::telemetry::counters::Counters;

/// The bytes around a message in its record: topics, fields and headers.
const AROUND: u64 = 64 * 1024;

/// A program that keeps a stream for several servers. Records that one of them hands over come back to all of them, in
/// one order.
pub trait StreamEngine: Send {
    /// Carries records until the server stops ([`Stream::stopping`]), on a thread of its own. A call that returns or
    /// panics earlier is made again.
    fn run(&mut self, stream: &Stream);

    /// Returns whether the engine reads records again ([`Stream::next_read`]). Otherwise clients get a gap for what is
    /// older than the history.
    fn can_read(&self) -> bool {
        false
    }
}

/// The server's end of the stream. Only the engine has it.
#[derive(Clone)]
pub struct Stream {
    shared: Arc<Shared>,
    state: Arc<StreamState>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(formatter)
    }
}

impl Stream {
    /// Returns the end of a server that has a stream.
    pub(crate) fn of(shared: &Arc<Shared>) -> Option<Self> {
        let state = shared.context.stream.clone()?;
        Some(Self {
            shared: shared.clone(),
            state,
        })
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.shared.context.counters.clone()
    }

    /// Completes when the server stops.
    pub async fn stopping(&self) {
        self.shared.stopping.cancelled().await;
    }

    /// Returns whether the server stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.is_cancelled()
    }

    /// Returns the number of the last record that was received, and its epoch; none before [`Self::begin`].
    #[must_use]
    pub fn last(&self) -> Option<(Arc<str>, u64)> {
        self.shared.inlet.lock().last()
    }

    /// Prepares for records of an epoch from the number `next` on. Another epoch than before is told to all clients.
    pub fn begin(&self, epoch: &str, next: u64) {
        self.shared.begin_epoch(epoch, next);
    }

    /// Takes a record of the stream. Missing numbers before it are told to all clients.
    ///
    /// # Errors
    /// [`OutOfOrder`] if it has a number that was there already. Nothing happens then.
    pub fn receive(&self, number: u64, record: &[u8]) -> Result<(), OutOfOrder> {
        self.shared.receive(&self.state, number, record)
    }

    /// Waits until the shards have room for more records.
    pub async fn room(&self) {
        let limit = || self.shared.settings().publish_queue_bytes;
        while self.shared.context.log.waiting_bytes() >= limit() {
            self.state.room().await;
        }
    }

    /// Records that the stream is there, and that everything that it had was received.
    pub fn set_present(&self) {
        let reason = self.state.reason();
        let was_seen_away = self.state.set_present();
        if reason.is_some() {
            tracing::info!(
                name: "engine_present",
                "The WebSocket server has everything that the stream has."
            );
        }
        if was_seen_away {
            self.tell(StreamNews::Present);
        }
    }

    /// Records that the stream is away since a time, in milliseconds since 1970.
    pub fn set_away(&self, since: u64, reason: &str) {
        let has_joined = self.state.has_joined();
        if self.state.reason().is_none_or(|before| before != reason) {
            tracing::warn!(
                name: "engine_away", reason,
                "The WebSocket server does not reach its stream: {reason}."
            );
        }
        if self.state.set_away(since, reason) && has_joined {
            self.shared.context.counters.engine_away.add(1);
            self.tell(StreamNews::Away { since });
        }
    }

    fn tell(&self, news: StreamNews) {
        let after = self.shared.context.log.last_seq();
        self.shared
            .context
            .tell_shards(|| Command::Stream { after, news });
    }

    /// Records the largest record that the engine takes, in bytes. The operator is told if it is below
    /// `max_message_bytes` and 64 KiB for what travels around a message.
    pub fn set_max_payload(&self, bytes: u64) {
        let needed = self.settings().max_message_bytes.saturating_add(AROUND);
        let small = if bytes < needed { bytes } else { 0 };
        if self.state.set_small_payload(small) && small > 0 {
            tracing::warn!(
                name: "engine_limit", max_payload = bytes, needed,
                "The engine takes records of up to {bytes} bytes, and max_message_bytes needs {needed}. Raise max_payload, \
                 or lower max_message_bytes; larger messages are lost."
            );
        }
    }

    /// Returns the next record to send, if fewer than `window` are sent and not settled.
    #[must_use]
    pub fn next_outgoing(&self, window: usize) -> Option<OutgoingRecord> {
        self.state.outgoing.next(window)
    }

    /// Completes when [`Self::next_outgoing`] may have another record.
    pub async fn outgoing(&self) {
        self.state.outgoing.added().await;
    }

    /// Returns the number of records that the stream does not have yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.state.outgoing.len()
    }

    /// Completes when the stream has all records of this server.
    pub async fn settled(&self) {
        self.state.outgoing.emptied().await;
    }

    /// Records that the stream has all records of this server up to a number.
    pub fn settle(&self, number: u64) {
        self.state.outgoing.settle(number);
    }

    /// Records that the stream never takes a record, the first that is not settled. Clients are told of the loss.
    pub fn refuse(&self, number: u64, reason: &str) {
        let messages = self.state.outgoing.refuse(number);
        self.shared.context.counters.engine_refused.add(messages);
        tracing::warn!(
            name: "engine_refused", reason,
            "The stream of the WebSocket server refused a message: {reason}."
        );
    }

    /// Records whether the engine reads records again.
    pub(crate) fn set_can_read(&self, can_read: bool) {
        self.state.set_can_read(can_read);
    }

    /// Returns the next part of the stream that a client wants. [`Self::give`] answers it, and then it may come again
    /// with a later number.
    #[must_use]
    pub fn next_read(&self) -> Option<StreamRead> {
        let reads = &self.shared.context.reads;
        let epoch = self.last().map(|(epoch, _)| epoch);
        while let Some((read, of_epoch)) = reads.take_due() {
            if Some(&of_epoch) == epoch.as_ref() {
                return Some(read);
            }
            // Its numbers are over; the shard tells the client.
            reads.give(read, Vec::new());
        }
        None
    }

    /// Completes when [`Self::next_read`] may have another one.
    pub async fn reads(&self) {
        self.shared.context.reads.due().await;
    }

    /// Returns whether a client still wants its part of the stream.
    #[must_use]
    pub fn wants(&self, read: u64) -> bool {
        self.shared.context.reads.has(read)
    }

    /// Gives a client records with their numbers, in order, from the first one on that the stream has at or after
    /// `read.from`. Without any, the stream has none. The client takes them before more are wanted.
    pub fn give(&self, read: StreamRead, records: Vec<(u64, Bytes)>) {
        self.shared.context.reads.give(read, records);
    }

    /// Makes a read due again that could not be answered.
    pub fn postpone(&self, read: StreamRead) {
        self.shared.context.reads.postpone(read);
    }

    /// Makes all reads due again that were not answered, because the connection is a new one.
    pub fn read_again(&self) {
        self.shared.context.reads.begin_again();
    }

    /// Begins again with the first record that is not settled, because the connection is a new one.
    pub fn send_again(&self) {
        self.state.outgoing.send_again();
    }
}

#[cfg(test)]
mod tests;
