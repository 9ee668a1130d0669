//! Event counters since the start of the program. All servers of the program share them, so a restart keeps them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::access::TokenError;
use crate::telemetry::histograms::Histograms;
use crate::wire::close::Disconnect;

macro_rules! counters {
    ($( $(#[doc = $doc:literal])+ $name:ident, )*) => {
        /// The counters, one field per name.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $(#[doc = $doc])+ pub $name: Counter, )*
            pub(crate) histograms: Histograms,
            pub(crate) tails: Tails,
            pub(crate) refusals: Refusals,
        }

        impl Counters {
            /// Returns every counter's name and value.
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
    /// Publications without a topic; only subscribers of everything receive them.
    publications_without_topic,
    /// Messages dropped because they were larger than `max_message_bytes`.
    dropped_too_large,
    /// Messages dropped because `publish_queue_bytes` were already waiting.
    dropped_overload,
    /// Messages dropped because no client was connected and no history is kept.
    dropped_no_audience,
    /// Messages dropped because the server was not running.
    dropped_not_running,
    /// Results of a process dropped because their slot, or a later one, was already published.
    dropped_repeated,
    /// Messages dropped because the node's policy does not allow publishing them.
    dropped_refused,
    /// Messages dropped because the result was unreadable or the text was not JSON.
    dropped_malformed,
    /// Messages dropped because the stream refused them, such as those above the engine's own limit.
    engine_refused,
    /// Times that the stream was away for longer than `engine_timeout`.
    engine_away,
    /// Times that the stream was made anew, or had lost its end.
    engine_epochs,
    /// Records of the stream that were gone before the server received them.
    engine_missing,
    /// Records that were read from the stream again, for clients whose cursor is older than the history.
    engine_records_read,
    /// Records of the stream that the server could not read.
    engine_unreadable,
    /// Slots of processes that were published completely.
    results_published,
    /// Slots reported missing because the node's cache did not have them.
    slot_gaps_not_cached,
    /// Slots reported missing because they did not pass the node's checks.
    slot_gaps_withheld,
    /// Slots reported missing because no client was subscribed when they were computed.
    slot_gaps_not_followed,
    /// Processes that were not followed because of the limit on followed processes.
    tails_limit,
    /// Hints that a process may have a new slot.
    hints,
    /// Hints dropped because too many were waiting.
    hints_dropped,
    /// Exceptions contained in the Erlang part of the device.
    exceptions,
    /// Reads of the cache that looked for a new slot.
    tail_probes,
    /// Slots that could not be read from the cache; each read is retried.
    tail_read_failures,
    /// Slots held back because they did not pass the node's checks; each check is retried.
    withheld,
    /// Slots that the node computed for subscribers.
    follow_slots,
    /// Computations for subscribers that failed; each is tried again.
    follow_failures,
    /// Topics of messages dropped because they exceeded `max_topics_per_message`.
    topics_excess,
    /// Topics of messages dropped because they are reserved for the node.
    topics_reserved,
    /// Topics of messages dropped because they are not valid topic names.
    topics_invalid,
    /// Matched publications, counted for each connection. At rest this is the sum of `deliveries`, `dropped_slow` and
    /// `dropped_disconnected`.
    deliveries_expected,
    /// Publications handed completely to the operating system, counted for each connection.
    deliveries,
    /// Bytes handed to the operating system.
    bytes_sent,
    /// Publications that were compressed.
    compressed,
    /// Publications sent without compression because they would not become a tenth smaller.
    compression_not_smaller,
    /// Publications sent without compression because their shard was behind.
    compression_skipped,
    /// Bytes that compression saved, counted for each connection.
    compression_saved_bytes,
    /// Write calls to the operating system.
    writes,
    /// Publications dropped for a slow consumer and reported in its `gap` frame.
    dropped_slow,
    /// Publications that were still queued for a connection when it ended, or were matched while it was closing.
    dropped_disconnected,
    /// Publications that replays omitted because matching panicked, counted for each connection.
    replays_skipped,
    /// Slots that replays sent again, counted for each connection.
    slots_replayed,
    /// Slots that replays reported missing, counted for each connection.
    slots_not_replayed,
    /// Connections upgraded to WebSocket.
    connections_opened,
    /// Connections that ended after their upgrade. The `closed_` counters give the reasons.
    connections_closed,
    /// Connections that the client closed with a close frame.
    closed_by_client,
    /// Connections that ended because the client vanished or the socket failed.
    closed_gone,
    /// Connections closed with 1001: the server stopped.
    closed_stopping,
    /// Connections closed with 1012: the server restarted.
    closed_restarting,
    /// Connections closed with 1013: the client was a slow consumer.
    closed_slow,
    /// Connections closed with 1008: the client did not answer two pings.
    closed_no_pong,
    /// Connections closed with 1008: the client sent more messages than `max_inbound_rate`.
    closed_rate,
    /// Connections closed with 1009: the client sent a message larger than `max_inbound_bytes`.
    closed_too_large,
    /// Connections closed with 1002: the client violated the protocol.
    closed_protocol,
    /// Connections closed with 1007: the client sent text that is not UTF-8.
    closed_invalid_text,
    /// Connections closed with 1007: the client sent compressed data that cannot be inflated.
    closed_invalid_data,
    /// Connections closed with 1008: the operator disconnected the client.
    closed_operator,
    /// Connections closed with 3000: the token expired, or none came in time.
    closed_unauthorized,
    /// Connections closed with 3003: the token was revoked.
    closed_revoked,
    /// Connections closed with 1008: a raw connection sent a message that its token does not allow.
    closed_forbidden,
    /// Connections closed with 1011: the server panicked.
    closed_fault,
    /// Requests refused before the upgrade.
    requests_refused,
    /// Requests refused with 403, or with an error frame, because the token does not allow them.
    requests_forbidden,
    /// Tokens that were accepted.
    tokens_accepted,
    /// Requests refused because they had no token.
    tokens_missing,
    /// Requests refused because they had more than one token.
    tokens_repeated,
    /// Requests refused because their URL had a token.
    tokens_in_url,
    /// Requests refused because others could have read their token.
    tokens_insecure,
    /// Tokens refused because they were longer than `max_token_bytes`.
    tokens_size,
    /// Tokens refused because they were not signed JWTs of the type `at+jwt`.
    tokens_malformed,
    /// Tokens refused because of their algorithm or a header that is not supported.
    tokens_algorithm,
    /// Tokens refused because the server has no key of their `kid`.
    tokens_key,
    /// Tokens refused because their signature did not verify.
    tokens_signature,
    /// Tokens refused because a claim was missing or had the wrong type.
    tokens_claims,
    /// Tokens refused because their key does not speak for their issuer.
    tokens_issuer,
    /// Tokens refused because they were made for another audience.
    tokens_audience,
    /// Tokens refused because they were expired, not valid yet, or valid too long.
    tokens_time,
    /// Tokens refused because a grant was malformed.
    tokens_grants,
    /// Tokens refused because they were revoked.
    tokens_revoked,
    /// Tokens refused because they were another subject's than the connection's first token.
    tokens_subject,
    /// Tokens refused because `max_logins` were verified in the same second.
    tokens_busy,
    /// Connections evicted by newer ones before their request arrived.
    handshakes_dropped,
    /// Connections closed because they did not begin with a PROXY protocol header.
    proxy_headers_refused,
    /// TLS handshakes that failed or exceeded `handshake_timeout`.
    tls_handshakes_failed,
    /// Failed `accept()` calls, for example without free file descriptors.
    accept_failures,
    /// Messages read from clients.
    inbound_messages,
    /// Messages of clients delivered to the listener.
    inbound_delivered,
    /// Direct messages to one connection that were accepted.
    direct_messages,
    /// Error frames sent to clients.
    error_frames,
    /// Panics inside the engine that were contained.
    panics,
    /// Events handed to the log.
    log_events,
    /// Log events lost because the queue was full, or because their reader was killed.
    log_events_dropped,
}

/// Refused requests by the code of the answer. The codes are those of the server, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, u64>>);

impl Refusals {
    /// Counts a refused request.
    pub(crate) fn add(&self, code: &str) {
        let mut counts = self.0.lock();
        match counts.get_mut(code) {
            Some(count) => *count += 1,
            None => {
                counts.insert(code.to_owned(), 1);
            }
        }
    }

    /// Returns the codes in their order, and their counts.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock();
        counts
            .iter()
            .map(|(code, count)| (code.clone(), *count))
            .collect()
    }
}

/// The number of followed processes, which the embedder sets.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    pub(crate) running: AtomicU64,
    pub(crate) waiting: AtomicU64,
    source: AtomicU8,
}

/// The source of process results.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ResultsSource {
    /// The program is not a node, or no node has been found yet.
    #[default]
    NoNode,
    /// The node stores nothing on this machine.
    NoLocalStore,
    /// The node's own cache.
    Cache,
    /// The setting `follow` is `off`.
    Off,
}

impl ResultsSource {
    /// Returns the name that `info` shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNode => "no_node",
            Self::NoLocalStore => "no_local_store",
            Self::Cache => "cache",
            Self::Off => "off",
        }
    }
}

impl Counters {
    /// Stores the number of followed processes, the number of those that wait for a reader, and the source of their
    /// results.
    pub fn set_tails(&self, running: u64, waiting: u64, source: ResultsSource) {
        self.tails.running.store(running, Ordering::Relaxed);
        self.tails.waiting.store(waiting, Ordering::Relaxed);
        self.tails.source.store(source as u8, Ordering::Relaxed);
    }

    /// Returns the source of results.
    pub(crate) fn results_source(&self) -> ResultsSource {
        let source = self.tails.source.load(Ordering::Relaxed);
        [
            ResultsSource::NoLocalStore,
            ResultsSource::Cache,
            ResultsSource::Off,
        ]
        .into_iter()
        .find(|known| *known as u8 == source)
        .unwrap_or_default()
    }

    /// Returns the counter of tokens refused for this reason.
    pub(crate) fn token_refused(&self, error: &TokenError) -> &Counter {
        match error {
            TokenError::Missing => &self.tokens_missing,
            TokenError::Repeated(_) => &self.tokens_repeated,
            TokenError::InUrl => &self.tokens_in_url,
            TokenError::Insecure => &self.tokens_insecure,
            TokenError::TooLong(_) => &self.tokens_size,
            TokenError::Malformed(_) | TokenError::Type => &self.tokens_malformed,
            TokenError::Header(_) | TokenError::Algorithm => &self.tokens_algorithm,
            TokenError::Key => &self.tokens_key,
            TokenError::Signature => &self.tokens_signature,
            TokenError::Claims(_) => &self.tokens_claims,
            TokenError::Issuer => &self.tokens_issuer,
            TokenError::Audience => &self.tokens_audience,
            TokenError::Expired | TokenError::Early | TokenError::Life(_) => &self.tokens_time,
            TokenError::Grants(_) => &self.tokens_grants,
            TokenError::Revoked => &self.tokens_revoked,
            TokenError::Subject => &self.tokens_subject,
            TokenError::Busy => &self.tokens_busy,
        }
    }

    /// Returns the counter of connections closed for this reason.
    pub(crate) fn closed(&self, reason: Disconnect) -> &Counter {
        match reason {
            Disconnect::Stopping => &self.closed_stopping,
            Disconnect::Restarting => &self.closed_restarting,
            Disconnect::Slow => &self.closed_slow,
            Disconnect::NoPong => &self.closed_no_pong,
            Disconnect::TooManyMessages => &self.closed_rate,
            Disconnect::TooLarge => &self.closed_too_large,
            Disconnect::Protocol => &self.closed_protocol,
            Disconnect::InvalidData => &self.closed_invalid_data,
            Disconnect::InvalidText => &self.closed_invalid_text,
            Disconnect::Operator => &self.closed_operator,
            Disconnect::TokenExpired | Disconnect::Unauthorized => &self.closed_unauthorized,
            Disconnect::Revoked => &self.closed_revoked,
            Disconnect::Forbidden => &self.closed_forbidden,
            Disconnect::Panic => &self.closed_fault,
        }
    }
}

/// A monotone counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount` to the counter.
    pub fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
