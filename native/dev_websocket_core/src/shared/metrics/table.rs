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
        "Messages that became publications",
        "",
        &[("publications", "")],
    ),
    (
        "messages_dropped",
        "Messages that did not become publications",
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
        "Slots of processes that were published whole",
        "",
        &[("results_published", "")],
    ),
    (
        "result_slots_missing",
        "Slots of processes that subscribers were told are missing",
        "reason",
        &[
            ("slot_gaps_not_cached", "not_cached"),
            ("slot_gaps_withheld", "withheld"),
            ("slot_gaps_not_followed", "not_followed"),
        ],
    ),
    (
        "results_withheld",
        "Times that a slot did not pass the node's checks and was held back",
        "",
        &[("withheld", "")],
    ),
    (
        "tails_refused",
        "Processes that were not followed because too many were",
        "",
        &[("tails_limit", "")],
    ),
    (
        "tail_probes",
        "Looks into the cache for a new slot",
        "",
        &[("tail_probes", "")],
    ),
    (
        "tail_read_failures",
        "Slots that could not be read from the cache and are tried again",
        "",
        &[("tail_read_failures", "")],
    ),
    (
        "hints",
        "Hints that a process may have a new slot",
        "",
        &[("hints", "")],
    ),
    (
        "hints_dropped",
        "Hints that were dropped because too many waited",
        "",
        &[("hints_dropped", "")],
    ),
    (
        "message_topics_dropped",
        "Topics that messages did not get",
        "reason",
        &[
            ("topics_excess", "excess"),
            ("topics_reserved", "reserved"),
            ("topics_invalid", "invalid"),
        ],
    ),
    (
        "matched",
        "Publications that a connection was to get, counted for each",
        "",
        &[("matched", "")],
    ),
    (
        "deliveries",
        "Publications handed to the system for a connection",
        "",
        &[("deliveries", "")],
    ),
    (
        "deliveries_dropped",
        "Publications that a connection was to get and did not",
        "reason",
        &[
            ("dropped_slow", "slow"),
            ("dropped_disconnected", "disconnected"),
        ],
    ),
    (
        "replays_skipped",
        "Publications that replays left out because matching failed",
        "",
        &[("replays_skipped", "")],
    ),
    (
        "sent_bytes",
        "Bytes handed to the system",
        "",
        &[("bytes_sent", "")],
    ),
    (
        "writes",
        "Writes asked of the system",
        "",
        &[("writes", "")],
    ),
    (
        "connections_opened",
        "Connections that were served",
        "",
        &[("connections_opened", "")],
    ),
    (
        "connections_closed",
        "Connections that ended",
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
        "Requests that were refused",
        "",
        &[("requests_refused", "")],
    ),
    (
        "handshakes_dropped",
        "Connections that lost their place before their request had come",
        "",
        &[("handshakes_dropped", "")],
    ),
    (
        "accept_failures",
        "Times that the system gave no connection",
        "",
        &[("accept_failures", "")],
    ),
    (
        "inbound_messages",
        "Messages read from clients",
        "",
        &[("inbound_messages", "")],
    ),
    (
        "inbound_delivered",
        "Messages of clients handed to the listener",
        "",
        &[("inbound_delivered", "")],
    ),
    (
        "direct_messages",
        "Messages to one connection",
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
        "faults",
        "Faults inside the server that were contained",
        "",
        &[("faults", "")],
    ),
    (
        "log_events",
        "Lines for the log",
        "outcome",
        &[("log_events", "written"), ("log_events_dropped", "dropped")],
    ),
];

pub(super) const GAUGES: &[Row] = &[
    (
        "connections",
        "Connections that are served",
        "format",
        &[
            ("connections_json", "json"),
            ("connections_raw", "raw"),
            ("connections_events", "events"),
        ],
    ),
    (
        "handshakes",
        "Connections whose request has not come yet",
        "",
        &[("handshakes", "")],
    ),
    (
        "subscriptions",
        "Subscriptions of all connections",
        "",
        &[("subscriptions", "")],
    ),
    ("topics", "Topics that are known", "", &[("topics", "")]),
    (
        "tails",
        "Processes that are followed",
        "state",
        &[("tails", "running"), ("tails_waiting", "waiting")],
    ),
    (
        "expressions",
        "Different regular expressions that clients hold",
        "",
        &[("expressions", "")],
    ),
    (
        "globs",
        "Different globs that clients hold",
        "",
        &[("globs", "")],
    ),
    (
        "templates",
        "Different templates that clients hold",
        "",
        &[("templates", "")],
    ),
    (
        "unindexed_patterns",
        "Different globs, expressions and templates that no literal finds",
        "",
        &[("unindexed_patterns", "")],
    ),
    (
        "last_sequence",
        "The number of the newest publication",
        "",
        &[("seq", "")],
    ),
    (
        "ingress_waiting_bytes",
        "Bytes of publications that wait for the writer shards",
        "",
        &[("ingress_waiting_bytes", "")],
    ),
    (
        "pending_bytes",
        "Bytes of publications that wait for slow connections",
        "",
        &[("pending_bytes", "")],
    ),
    (
        "history_bytes",
        "Bytes of past publications",
        "",
        &[("history_kept_bytes", "")],
    ),
];
