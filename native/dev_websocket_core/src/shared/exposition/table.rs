//! The names that counts and gauges of `stats` have as metrics.

/// Counts: the name, what it counts, a label that tells them apart, and the names of the counts in `stats` with their
/// labels. One without a label has an empty one.
pub(super) type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

pub(super) const COUNTERS: &[Row] = &[
    (
        "publications",
        "Messages published",
        "",
        &[("publications", "")],
    ),
    (
        "messages_dropped",
        "Messages dropped before publication, by reason",
        "reason",
        &[
            ("dropped_too_large", "too_large"),
            ("dropped_overload", "overload"),
            ("dropped_no_audience", "no_audience"),
            ("dropped_not_running", "not_running"),
            ("dropped_repeated", "repeated"),
            ("dropped_refused", "refused"),
            ("dropped_malformed", "malformed"),
        ],
    ),
    (
        "results_published",
        "Process slots published whole",
        "",
        &[("results_published", "")],
    ),
    (
        "result_slots_missing",
        "Process slots reported missing in gap frames, by reason",
        "reason",
        &[
            ("slot_gaps_not_cached", "not_cached"),
            ("slot_gaps_withheld", "withheld"),
            ("slot_gaps_not_followed", "not_followed"),
        ],
    ),
    (
        "results_withheld",
        "Slots withheld because they failed the node's checks",
        "",
        &[("withheld", "")],
    ),
    (
        "tails_refused",
        "Processes not followed because of the limit max_tails",
        "",
        &[("tails_limit", "")],
    ),
    (
        "tail_probes",
        "Cache lookups for a new slot",
        "",
        &[("tail_probes", "")],
    ),
    (
        "tail_read_failures",
        "Failed reads of a slot from the cache, each retried",
        "",
        &[("tail_read_failures", "")],
    ),
    ("hints", "Hints of a new slot", "", &[("hints", "")]),
    (
        "hints_dropped",
        "Hints dropped because the queue was full",
        "",
        &[("hints_dropped", "")],
    ),
    (
        "message_topics_dropped",
        "Topics dropped from messages, by reason",
        "reason",
        &[
            ("topics_excess", "excess"),
            ("topics_reserved", "reserved"),
            ("topics_invalid", "invalid"),
        ],
    ),
    (
        "deliveries_expected",
        "Publications matched to a connection, counted per connection",
        "",
        &[("deliveries_expected", "")],
    ),
    (
        "deliveries",
        "Publications written to a socket, counted per connection",
        "",
        &[("deliveries", "")],
    ),
    (
        "deliveries_dropped",
        "Matched publications dropped before delivery, by reason",
        "reason",
        &[
            ("dropped_slow", "slow"),
            ("dropped_disconnected", "disconnected"),
        ],
    ),
    (
        "replays_skipped",
        "Publications skipped in replays because matching panicked",
        "",
        &[("replays_skipped", "")],
    ),
    (
        "sent_bytes",
        "Bytes written to sockets",
        "",
        &[("bytes_sent", "")],
    ),
    (
        "writes",
        "System calls that write to sockets",
        "",
        &[("writes", "")],
    ),
    (
        "connections_opened",
        "Connections opened",
        "",
        &[("connections_opened", "")],
    ),
    (
        "connections_closed",
        "Connections closed, by reason",
        "reason",
        &[
            ("closed_by_client", "client"),
            ("closed_gone", "gone"),
            ("closed_stopping", "stopping"),
            ("closed_restarting", "restarting"),
            ("closed_slow", "slow"),
            ("closed_no_pong", "no_pong"),
            ("closed_rate", "rate"),
            ("closed_too_large", "too_large"),
            ("closed_protocol", "protocol"),
            ("closed_invalid_text", "invalid_text"),
            ("closed_operator", "operator"),
            ("closed_fault", "fault"),
        ],
    ),
    (
        "requests_refused",
        "HTTP requests refused",
        "",
        &[("requests_refused", "")],
    ),
    (
        "handshakes_dropped",
        "Handshakes evicted because the limit max_handshakes was reached",
        "",
        &[("handshakes_dropped", "")],
    ),
    (
        "accept_failures",
        "Failed accept() calls",
        "",
        &[("accept_failures", "")],
    ),
    (
        "inbound_messages",
        "Messages received from clients",
        "",
        &[("inbound_messages", "")],
    ),
    (
        "inbound_delivered",
        "Client messages delivered to the listener",
        "",
        &[("inbound_delivered", "")],
    ),
    (
        "direct_messages",
        "Messages sent to a single connection",
        "",
        &[("direct_messages", "")],
    ),
    (
        "error_frames",
        "Error frames sent to clients",
        "",
        &[("error_frames", "")],
    ),
    (
        "panics",
        "Panics contained in the engine",
        "",
        &[("panics", "")],
    ),
    (
        "log_events",
        "Log events, by outcome",
        "outcome",
        &[("log_events", "written"), ("log_events_dropped", "dropped")],
    ),
];

pub(super) const GAUGES: &[Row] = &[
    (
        "connections",
        "Open connections, by format",
        "format",
        &[
            ("connections_json", "json"),
            ("connections_raw", "raw"),
            ("connections_events", "events"),
        ],
    ),
    (
        "handshakes",
        "Open connections in the handshake",
        "",
        &[("handshakes", "")],
    ),
    (
        "subscriptions",
        "Subscriptions held by all connections",
        "",
        &[("subscriptions", "")],
    ),
    (
        "topics",
        "Known topics: with subscribers, or published recently",
        "",
        &[("topics", "")],
    ),
    (
        "tails",
        "Followed processes, by state",
        "state",
        &[("tails", "running"), ("tails_waiting", "waiting")],
    ),
    (
        "regexes",
        "Distinct regular expressions held by clients",
        "",
        &[("regexes", "")],
    ),
    (
        "globs",
        "Distinct globs held by clients",
        "",
        &[("globs", "")],
    ),
    (
        "templates",
        "Distinct templates held by clients",
        "",
        &[("templates", "")],
    ),
    (
        "unindexed_patterns",
        "Distinct globs, regular expressions and templates without an indexed literal",
        "",
        &[("unindexed_patterns", "")],
    ),
    (
        "last_sequence",
        "Sequence number of the newest publication",
        "",
        &[("seq", "")],
    ),
    (
        "publish_queued_bytes",
        "Bytes queued for the writer shards",
        "",
        &[("publish_queued_bytes", "")],
    ),
    (
        "send_buffer_bytes",
        "Bytes in the send buffers of all connections",
        "",
        &[("send_buffer_bytes", "")],
    ),
    (
        "history_bytes",
        "Bytes of publications kept as history",
        "",
        &[("history_kept_bytes", "")],
    ),
];
