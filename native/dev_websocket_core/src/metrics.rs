//! Everything that is counted and measured, as Prometheus reads it.
//!
//! The numbers are those of `stats`, under names that say their unit, and with what is counted apart as a label.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::histogram::Snapshot;
use crate::shared::Shared;

/// What Prometheus asks for.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text";

/// Content types of the two texts: OpenMetrics 1.0, and the older one, which every reader knows.
const OPEN_METRICS_CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What each name begins with.
const PREFIX: &str = "dev_websocket";

/// Counts: the name, what it counts, a label that tells them apart, and the names of the counts in `stats` with their
/// labels. One without a label has an empty one.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const COUNTERS: &[Family] = &[
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
            ("dropped_untrusted", "untrusted"),
            ("dropped_refused", "refused"),
            ("dropped_malformed", "malformed"),
        ],
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

const GAUGES: &[Family] = &[
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
        "expressions",
        "Different regular expressions that clients hold",
        "",
        &[("expressions", "")],
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

/// The document and its content type.
pub(crate) fn document(shared: &Arc<Shared>, is_open_metrics: bool) -> (&'static str, String) {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Reading(shared.clone())));
    let mut text = String::new();
    // Text written to memory cannot fail.
    let _ = encode(&mut text, &registry);
    if is_open_metrics {
        (OPEN_METRICS_CONTENT, text)
    } else {
        (TEXT_CONTENT, older(&text))
    }
}

/// The older text differs in the name of a counter's family, which is that of its samples, and has no end mark.
fn older(text: &str) -> String {
    let is_counter = |name: &str| COUNTERS.iter().any(|(counter, ..)| *counter == name);
    let mut older = String::with_capacity(text.len() + 1024);
    for line in text.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|kind| {
            let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
            let counter = name.strip_prefix(PREFIX)?.strip_prefix('_')?;
            is_counter(counter).then(|| format!("{kind}{name}_total {rest}"))
        });
        older.push_str(described.as_deref().unwrap_or(line));
        older.push('\n');
    }
    older
}

/// The server as it is when it is asked.
#[derive(Debug)]
struct Reading(Arc<Shared>);

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let stats = self.0.stats();
        let value = |name: &str| {
            let found = stats.iter().find(|(known, _)| *known == name);
            found.map_or(0, |(_, value)| *value)
        };
        for (families, kind) in [(COUNTERS, MetricType::Counter), (GAUGES, MetricType::Gauge)] {
            for (name, help, label, counts) in families {
                let mut family = encoder.encode_descriptor(name, help, None, kind)?;
                for (stat, of) in *counts {
                    if label.is_empty() {
                        encode_value(&mut family, kind, value(stat))?;
                    } else {
                        encode_value(
                            &mut family.encode_family(&[(*label, *of)])?,
                            kind,
                            value(stat),
                        )?;
                    }
                }
            }
        }
        let measures = &self.0.counters.measures;
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        for (name, help, histogram, unit) in [
            (
                "cast_to_socket_seconds",
                "From the cast of a publication until a shard has served everybody who was to get it",
                &measures.cast_to_socket,
                seconds as fn(u64) -> f64,
            ),
            (
                "encode_seconds",
                "Finding topics and writing JSON, of one message in 16",
                &measures.encode,
                seconds,
            ),
            (
                "shard_batch_publications",
                "Publications that a shard served together",
                &measures.batch,
                |count| count as f64,
            ),
        ] {
            encode_histogram(&mut encoder, name, help, &histogram.snapshot(), unit)?;
        }
        Ok(())
    }
}

fn encode_value(metric: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> Result<(), Error> {
    match kind {
        MetricType::Counter => {
            metric.encode_counter(&value, None::<&Exemplar<[(&str, &str); 0], u64>>)
        }
        _ => metric.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    snapshot: &Snapshot,
    unit: fn(u64) -> f64,
) -> Result<(), Error> {
    let buckets: Vec<_> = snapshot
        .buckets
        .iter()
        .map(|(bound, count)| (bound.map_or(f64::INFINITY, unit), *count))
        .collect();
    encoder
        .encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<[(&str, &str); 0]>(unit(snapshot.sum), snapshot.count(), &buckets, None)
}
