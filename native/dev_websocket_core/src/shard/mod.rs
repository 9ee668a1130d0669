//! A writer shard: one thread that owns some of the connections and does all their writing.
//!
//! The shard reads the log of publications at its own cursor and takes everything there. It finds the subscribers and
//! gives each socket its frames in one vectored write. There is no timer: a shard that is behind combines publications
//! by itself, and an idle one writes at once.
//!
//! Connections are served in rounds. Between two rounds the shard takes new publications, so connections served late
//! get more in one write. It also carries out commands, so a reply does not wait for thousands of sockets.

mod arrivals;
mod batch;
mod client;
mod clients;
pub(crate) mod command;
mod commands;
mod compressor;
pub(crate) mod connection_handle;
pub(crate) mod connection_state;
pub(crate) mod context;
mod frame_runs;
pub(crate) mod frames;
pub(crate) mod ids;
pub(crate) mod interest;
pub(crate) mod mailbox;
mod outbox;
pub(crate) mod peer;
mod permissions;
mod recovery;
pub(crate) mod registry;
mod replay;
mod replaying;
mod requests;
mod selection;
pub(crate) mod slot_replay;
mod slot_replaying;
pub(crate) mod stream_reads;
pub(crate) mod stream_replaying;
mod subscribers;
pub(crate) mod topic_registry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::arrivals::Arrivals;
use self::batch::Batch;
use self::client::Client;
use self::clients::Clients;
use self::command::Command;
use self::compressor::Compressor;
use self::frames::Frames;
use self::ids::{ConnectionIndex, Seq};
use self::mailbox::{Idle, Mailbox};
use self::outbox::SendCounts;
use self::registry::Registry;
use crate::log::publication::now_nanos;
use crate::log::publication_log::Cursor;
use crate::settings::size;
use crate::shard::context::Context;
use crate::shard::ids::ConnectionId;
use crate::shard::topic_registry::RecentTopics;
use crate::telemetry::panics::{contain, panic_point};
use crate::wire::close::Disconnect;

/// Number of connections served in one round: about a millisecond of writing.
const ROUND: usize = 256;

/// Number of connections that come or leave in one round.
const ARRIVALS: usize = 16;

/// Divisor of `publish_queue_bytes`: the part that may be queued while a shard without connections is parked.
const UNNOTED_SHARE: u64 = 8;

/// The part of the work that a panic ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The shard's own state, such as the subscriptions of all clients.
    Shard,
    /// The search for the subscribers of the publication with the sequence number [`Shard::seq`].
    Matching,
    /// Work that concerns one client alone.
    Client(ConnectionIndex),
}

/// The state of a shard's thread.
pub(crate) struct Shard {
    context: Arc<Context>,
    mailbox: Arc<Mailbox<Command>>,
    cursor: Cursor,
    /// Sequence number of the last publication taken from the log.
    seq: Seq,
    batch: Batch,
    compressor: Compressor,
    registry: Registry,
    clients: Clients,
    /// Connections with publications of the batch to send. A connection that is gone or was served meanwhile is
    /// skipped.
    queue: VecDeque<ConnectionIndex>,
    /// Buffer for the publications of a connection with several subscriptions in the batch.
    merged: Vec<Seq>,
    /// Connections due for their next replay block, each once. A connection that is gone or live by now is skipped.
    replaying: VecDeque<ConnectionId>,
    /// Connections whose cursor is ahead of the shard. They wait for the next publication.
    ahead: Vec<ConnectionId>,
    /// The table of recent topics. Only one shard has it; that shard also trims the history and restocks the buffer
    /// pool.
    recent: Option<RecentTopics>,
    /// Copy of `send_buffer_bytes` from the time when the batch last grew. Reading the settings for each connection
    /// would cost more than serving it.
    send_buffer_limit: usize,
    /// Index among the shards.
    number: usize,
    /// Subscriptions of the shard's connections.
    subscriptions: u64,
    /// Results that are not added to the counters yet.
    sent: SendCounts,
    /// Matched publications that are neither sent nor dropped, because they are queued for clients.
    owed: u64,
    /// The work in progress, which decides what a panic ends.
    turn: Turn,
    /// Publications of the batch that sockets have taken.
    delivered: u64,
    /// Look-ups and comparisons for requests.
    #[cfg(test)]
    steps: usize,
    /// Commands to carry out, the first one last.
    commands: Vec<Command>,
    arrivals: Arrivals,
    /// Reason for closing all connections, including those that arrive later.
    closing: Option<Disconnect>,
    is_stopping: bool,
}

impl Shard {
    pub(crate) fn new(
        context: Arc<Context>,
        mailbox: Arc<Mailbox<Command>>,
        cursor: Cursor,
        number: usize,
    ) -> Self {
        let known_topics = size(context.settings().max_known_topics);
        Self {
            context,
            mailbox,
            cursor,
            seq: 0,
            batch: Batch::default(),
            compressor: Compressor::default(),
            registry: Registry::new(),
            clients: Clients::default(),
            queue: VecDeque::new(),
            merged: Vec::new(),
            replaying: VecDeque::new(),
            ahead: Vec::new(),
            recent: (number == 0).then(|| RecentTopics::new(known_topics)),
            send_buffer_limit: 0,
            number,
            subscriptions: 0,
            sent: SendCounts::default(),
            owed: 0,
            turn: Turn::Shard,
            delivered: 0,
            #[cfg(test)]
            steps: 0,
            commands: Vec::new(),
            arrivals: Arrivals::default(),
            closing: None,
            is_stopping: false,
        }
    }

    /// Runs until the shard is stopped. A panic ends one client, or all clients of the shard if it did not concern a
    /// single client.
    pub(crate) fn run(mut self) {
        self.mailbox.attach();
        let counters = self.context.counters.clone();
        while contain("a writer shard", &counters, || self.work()).is_none() {
            self.recover();
        }
        self.clients.mark_all();
        self.remove_marked();
    }

    fn work(&mut self) {
        while !self.is_stopping {
            self.round();
            if self.queue.is_empty() && !self.is_stopping {
                self.end_batch();
                self.mailbox.sleep_unless(self.rest(), || {
                    self.cursor.has_next()
                        || !self.replaying.is_empty()
                        || !self.arrivals.is_empty()
                });
            }
        }
    }

    fn round(&mut self) {
        // Publications after a command must not be sent before the command is carried out.
        let published = self.context.log.last_seq();
        self.carry_out_all();
        self.take_publications(published);
        self.serve_round();
        self.arrivals_round();
        self.replay_round();
        self.remove_marked();
        self.count();
    }

    /// Chooses how to wait: lightly while connections may wait for the next publication.
    fn rest(&self) -> Idle {
        if self.clients.is_empty() {
            let room = self.context.settings().publish_queue_bytes / UNNOTED_SHARE;
            Idle::Parked(self.cursor.taken_bytes() + room)
        } else {
            Idle::Light
        }
    }

    /// Carries out all commands that may not wait for publications. After a panic, it begins with those left over,
    /// except the one that panicked.
    fn carry_out_all(&mut self) {
        if self.commands.is_empty() {
            self.mailbox.take(&mut self.commands);
            self.commands.reverse();
        }
        while let Some(command) = self.commands.pop() {
            if let Some(command) = self.arrivals.sort(command) {
                self.carry_out(command);
                self.remove_marked();
            }
        }
    }

    /// Opens and removes some connections. Before the shard stops, it does all of it.
    fn arrivals_round(&mut self) {
        let (mut left, taken) = if self.is_stopping {
            (usize::MAX, Seq::MAX)
        } else {
            (ARRIVALS, self.seq)
        };
        while left > 0
            && let Some(commands) = self.arrivals.next(taken)
        {
            left -= 1;
            self.commands.extend(commands.into_iter().rev());
            while let Some(command) = self.commands.pop() {
                self.carry_out(command);
                self.remove_marked();
            }
        }
    }

    /// Takes publications up to a sequence number, or some of them, and queues the connections of their subscribers.
    fn take_publications(&mut self, last: Seq) {
        let turn = std::mem::replace(&mut self.turn, Turn::Matching);
        let settings = self.context.settings();
        self.send_buffer_limit = size(settings.send_buffer_bytes);
        self.compressor.min = settings.compression_min();
        let most = self.compressor.most_at_once();
        let end = self.batch.bytes().saturating_add(most);
        while self.seq < last
            && !self.batch.is_full()
            && self.batch.bytes() < end
            && let Some(publication) = self.cursor.next()
        {
            self.seq = publication.seq();
            panic_point!("shard::take");
            self.registry.list(&publication);
            if let Some(recent) = &mut self.recent
                && !publication.is_edge()
            {
                for topic in publication.topics() {
                    recent.published(topic, &self.context.topics);
                }
            }
            self.batch.push(publication);
        }
        self.replaying.extend(self.ahead.drain(..));
        self.turn = Turn::Shard;
        let (batch, compressor) = (&self.batch, &mut self.compressor);
        compressor.is_behind = batch.is_full();
        let tell = |index, entry| {
            // A connection in a replay reads the log itself.
            let client = self
                .clients
                .get_mut(index)
                .filter(|client| client.replay.is_none())?;
            if !client.is_queued {
                client.is_queued = true;
                self.queue.push_back(index);
            }
            client.activate(entry);
            client.is_compressed.then_some(client.format)
        };
        let counters = &self.context.counters;
        self.registry.tell_touched(tell, |seqs, wanted| {
            for seq in seqs {
                compressor.compress(batch.get(*seq), wanted, counters);
            }
        });
        self.turn = turn;
    }

    /// Takes all publications up to a sequence number. If they exceed a batch, it first sends the rest of the current
    /// one.
    fn catch_up(&mut self, last: Seq) {
        while self.seq < last {
            if self.batch.is_full() {
                while !self.queue.is_empty() {
                    self.serve_round();
                }
                self.end_batch();
            }
            self.take_publications(last);
        }
    }

    fn serve_round(&mut self) {
        let turn = self.turn;
        for _ in 0..ROUND {
            let Some(index) = self.queue.pop_front() else {
                break;
            };
            self.turn = Turn::Client(index);
            self.serve(index);
        }
        self.turn = turn;
    }

    /// Sends a connection its publications of the batch.
    fn serve(&mut self, index: ConnectionIndex) {
        let Some(client) = self
            .clients
            .get_mut(index)
            .filter(|client| client.is_queued)
        else {
            return;
        };
        client.is_queued = false;
        panic_point!("shard::serve");
        let is_plain = client.selection.is_plain();
        let frames = match client.active.as_slice() {
            [entry] if is_plain && client.slots.is_none() => {
                self.registry
                    .frames_after(*entry, client.served, client.form(), &self.batch)
            }
            active if is_plain => {
                self.registry.merge(active, client.served, &mut self.merged);
                spare_slots(client, &self.batch, &mut self.merged);
                Frames::scattered(&self.merged)
            }
            active => {
                let (templates, topics): (Vec<_>, Vec<_>) = active
                    .iter()
                    .partition(|entry| client.selection.templates.contains(entry));
                self.registry
                    .merge(&templates, client.served, &mut self.merged);
                if !client.selection.topics.is_empty() {
                    let mut of_topics = Vec::new();
                    self.registry.merge(&topics, client.served, &mut of_topics);
                    self.merged
                        .retain(|seq| of_topics.binary_search(seq).is_ok());
                }
                spare_slots(client, &self.batch, &mut self.merged);
                Frames::scattered(&self.merged)
            }
        };
        let result = client.deliver(
            &self.batch,
            frames,
            self.send_buffer_limit,
            &mut self.sent,
            &self.context,
        );
        client.active.clear();
        client.served = self.seq;
        if result.is_err() {
            self.clients.mark(index);
        }
    }

    /// Ends the batch after all connections were served.
    fn end_batch(&mut self) {
        if !self.batch.is_empty() {
            self.measure();
            self.registry.end_batch();
            self.batch.end();
            self.cursor.finish();
            if let Some(stream) = &self.context.stream {
                stream.made_room();
            }
            // If this shard was the slowest one, it has made room, so the log can append a pending gap.
            if self.context.log.settle() {
                self.context.wake_shards();
            }
            if self.recent.is_some() {
                self.context.buffers.put(self.context.log.trim());
                self.context.buffers.restock();
            }
        }
    }

    /// Records the histograms of a batch from which publications were delivered.
    fn measure(&mut self) {
        let delivered = std::mem::take(&mut self.delivered);
        if delivered > 0 && self.context.active.load().is_measured {
            let histograms = &self.context.counters.histograms;
            histograms.batch.record(self.batch.len() as u64);
            let now = now_nanos();
            // The clock may have been set back.
            let delays = self.batch.cast_times().map(|at| now.saturating_sub(at));
            histograms.cast_to_socket.record_all(delays);
        }
    }

    fn count(&mut self) {
        self.delivered += self.sent.publications;
        self.context.gauges[self.number]
            .subscriptions
            .store(self.subscriptions, Ordering::Relaxed);
        let sent = std::mem::take(&mut self.sent);
        self.owed = self
            .owed
            .wrapping_add(sent.matched)
            .wrapping_sub(sent.settled());
        let counters = &self.context.counters;
        counters.deliveries_expected.add(sent.matched);
        counters.deliveries.add(sent.publications);
        counters.dropped_slow.add(sent.dropped_slow);
        counters.dropped_disconnected.add(sent.dropped_disconnected);
        counters.bytes_sent.add(sent.bytes);
        counters.writes.add(sent.writes);
        counters.compression_saved_bytes.add(sent.saved_bytes);
    }

    /// Removes the clients that were marked during the last turn.
    fn remove_marked(&mut self) {
        while let Some((index, client)) = self.clients.first_marked() {
            let selection = std::mem::take(&mut client.selection);
            for entry in selection.entries() {
                self.subscriptions -= 1;
                self.registry
                    .unsubscribe(entry, index, &self.context.topics);
            }
            if let Some(client) = self.clients.remove_marked() {
                self.sent.dropped_disconnected += client.waiting_publications();
                // The counts must be complete before the connection ends.
                self.count();
                self.context.access.expiry.forget(client.state.id);
                client.state.end();
            }
        }
    }
}

/// Removes the publications that a slot replay sends to the client instead.
fn spare_slots(client: &Client, batch: &Batch, seqs: &mut Vec<Seq>) {
    if let Some(slots) = &client.slots {
        seqs.retain(|seq| slots.passes(batch.get(*seq)));
    }
}

#[cfg(test)]
mod arrivals_tests;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod slot_seam_tests;
#[cfg(test)]
mod stream_seam_tests;
#[cfg(test)]
mod tests;
