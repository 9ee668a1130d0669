//! What happened since the program started, counted. Shared by all servers of the program, so a restart loses nothing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::telemetry::histograms::Histograms;
use crate::wire::close::Disconnect;

macro_rules! counters {
    ($( $(#[doc = $doc:literal])+ $name:ident, )*) => {
        /// Counts by name.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $(#[doc = $doc])+ pub $name: Counter, )*
            pub(crate) histograms: Histograms,
            pub(crate) tails: Tails,
        }

        impl Counters {
            /// Every count with its name.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$( (stringify!($name), self.$name.get()), )*]
            }
        }
    };
}

counters! {
    /// Messages that became publications.
    publications,
    /// Publications that had no topic: only subscribers of everything get them.
    publications_without_topic,
    /// Messages dropped: larger than `max_message_bytes`.
    dropped_too_large,
    /// Messages dropped: `publish_queue_bytes` were waiting.
    dropped_overload,
    /// Messages dropped: nobody was connected and no history is kept.
    dropped_no_audience,
    /// Messages dropped: the server was not running.
    dropped_not_running,
    /// Results of a process dropped: their slot, or a later one, was published.
    dropped_repeated,
    /// Casts dropped: the node's policy does not allow them.
    dropped_refused,
    /// Messages dropped: a result that cannot be read, or text that is no JSON.
    dropped_malformed,
    /// Slots of processes that were published whole.
    results_published,
    /// Slots told missing: the node's cache did not have them.
    slot_gaps_not_cached,
    /// Slots told missing: they did not pass the node's checks.
    slot_gaps_withheld,
    /// Slots told missing: nobody was subscribed when they were computed.
    slot_gaps_not_followed,
    /// Processes that were not followed because too many were.
    tails_limit,
    /// Hints that a process may have a new slot.
    hints,
    /// Hints dropped: too many waited.
    hints_dropped,
    /// Looks into the cache for a new slot.
    tail_probes,
    /// Slots that could not be read from the cache; each is tried again.
    tail_read_failures,
    /// Slots held back because they did not pass the node's checks; each is looked at again.
    withheld,
    /// Topics of messages dropped: beyond `max_topics_per_message`.
    topics_excess,
    /// Topics of messages dropped: reserved for the node.
    topics_reserved,
    /// Topics of messages dropped: not a topic name.
    topics_invalid,
    /// Publications that a connection was to get, counted for each. At rest it is the sum of `deliveries`, `dropped_slow`
    /// and `dropped_disconnected`.
    deliveries_expected,
    /// Publications handed to the system for a connection, whole.
    deliveries,
    /// Bytes handed to the system.
    bytes_sent,
    /// Writes asked of the system.
    writes,
    /// Publications dropped for a slow connection and told in its `gap` frame.
    dropped_slow,
    /// Publications that were still waiting for a connection when it ended, or came while it was being closed.
    dropped_disconnected,
    /// Publications that replays left out because matching failed, counted for each connection.
    replays_skipped,
    /// Connections upgraded to WebSocket.
    connections_opened,
    /// Connections that ended after their upgrade. Why is counted below.
    connections_closed,
    /// The client said goodbye.
    closed_by_client,
    /// The client vanished, or its socket broke.
    closed_gone,
    /// 1001: the server stopped.
    closed_stopping,
    /// 1012: the server started anew.
    closed_restarting,
    /// 1013: the client was too slow.
    closed_slow,
    /// 1008: no answer to two pings.
    closed_no_pong,
    /// 1008: more messages than `max_inbound_rate`.
    closed_rate,
    /// 1009: a message larger than `max_inbound_bytes`.
    closed_too_large,
    /// 1002: the client broke the protocol.
    closed_protocol,
    /// 1007: text that is not UTF-8.
    closed_invalid_text,
    /// 1008: the operator ended it.
    closed_operator,
    /// 1011: a fault inside the server.
    closed_fault,
    /// Requests refused before the upgrade.
    requests_refused,
    /// Connections that lost their place to others before their request had come.
    handshakes_dropped,
    /// Times that the system gave no connection, as when it has no more file descriptors.
    accept_failures,
    /// Messages read from clients.
    inbound_messages,
    /// Messages of clients handed to the listener.
    inbound_delivered,
    /// Messages to one connection that were taken on.
    direct_messages,
    /// Error frames sent to clients.
    error_frames,
    /// Faults inside the engine that were contained.
    panics,
    /// Events told to the log.
    log_events,
    /// Events that were lost on their way to the log: more waited than there is room for, or who had them was killed.
    log_events_dropped,
}

/// How many processes are followed. The embedder sets it.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    pub(crate) running: AtomicU64,
    pub(crate) waiting: AtomicU64,
    source: AtomicU8,
}

/// Where results of processes come from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ResultsSource {
    /// The program is no node, or none has been found yet.
    #[default]
    NoNode,
    /// The node keeps nothing on this machine.
    NoLocalStore,
    /// The node's own cache.
    Cache,
}

impl ResultsSource {
    /// Its name, as `info` tells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNode => "no_node",
            Self::NoLocalStore => "no_local_store",
            Self::Cache => "cache",
        }
    }
}

impl Counters {
    /// Takes how many processes are followed now, how many of them wait for a reader, and where their results come from.
    pub fn set_tails(&self, running: u64, waiting: u64, source: ResultsSource) {
        self.tails.running.store(running, Ordering::Relaxed);
        self.tails.waiting.store(waiting, Ordering::Relaxed);
        self.tails.source.store(source as u8, Ordering::Relaxed);
    }

    /// Where results come from.
    pub(crate) fn results_source(&self) -> ResultsSource {
        let source = self.tails.source.load(Ordering::Relaxed);
        [ResultsSource::NoLocalStore, ResultsSource::Cache]
            .into_iter()
            .find(|known| *known as u8 == source)
            .unwrap_or_default()
    }

    /// The count of connections that were closed for this reason.
    pub(crate) fn closed(&self, reason: Disconnect) -> &Counter {
        match reason {
            Disconnect::Stopping => &self.closed_stopping,
            Disconnect::Restarting => &self.closed_restarting,
            Disconnect::Slow => &self.closed_slow,
            Disconnect::NoPong => &self.closed_no_pong,
            Disconnect::TooManyMessages => &self.closed_rate,
            Disconnect::TooLarge => &self.closed_too_large,
            Disconnect::Protocol => &self.closed_protocol,
            Disconnect::InvalidText => &self.closed_invalid_text,
            Disconnect::Operator => &self.closed_operator,
            Disconnect::RequestError => &self.closed_fault,
        }
    }
}

/// One count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count.
    pub fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
