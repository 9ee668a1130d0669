//! What the server tells about itself, to the program that it lives in and to clients.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::delivery::Format;
use crate::protocol::{Limits, PROTOCOL};
use crate::settings::size;
use crate::shared::{Shared, WEBSOCKET_PATH};

/// What `info` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Where clients connect: `ws://host:port/ws`.
    pub uri: String,
    /// Topics with subscribers or recent publications, sorted, at most `max_known_topics`.
    pub topics: Vec<String>,
}

impl Shared {
    /// Where clients connect, and what they can subscribe to.
    pub(crate) fn info(&self) -> Info {
        let known = size(self.settings().max_known_topics);
        Info {
            uri: self.uri(),
            topics: self.directory.names(known),
        }
    }

    /// See [`crate::Server::describe`].
    pub(crate) fn describe(&self) -> serde_json::Value {
        let Info { uri, topics } = self.info();
        json!({
            "uri": uri,
            "topics": topics,
            "protocol": PROTOCOL,
            "epoch": self.epoch,
            "results": self.counters.results_source().name(),
            "limits": Limits::of(&self.settings()),
        })
    }

    /// Gauges and counts by name.
    pub(crate) fn stats(&self) -> Vec<(&'static str, u64)> {
        let [json, raw, events] = Format::ALL.map(|format| self.admission.connections_of(format));
        let subscriptions = self.gauges.iter().map(|gauges| &gauges.subscriptions);
        let measures = &self.counters.measures;
        let (latency, encoding) = (
            measures.cast_to_socket.snapshot(),
            measures.encode.snapshot(),
        );
        let filters = self.filters.counts();
        let mut stats = self.counters.list();
        stats.extend([
            ("connections", self.admission.connections()),
            ("connections_json", json),
            ("connections_raw", raw),
            ("connections_events", events),
            ("handshakes", self.handshakes.len() as u64),
            (
                "subscriptions",
                subscriptions
                    .map(|count| count.load(Ordering::Relaxed))
                    .sum(),
            ),
            ("expressions", filters.expressions as u64),
            ("globs", filters.globs as u64),
            ("templates", filters.templates as u64),
            ("unindexed_patterns", filters.unindexed as u64),
            ("topics", self.directory.len() as u64),
            ("tails", self.counters.tails.running.load(Ordering::Relaxed)),
            (
                "tails_waiting",
                self.counters.tails.waiting.load(Ordering::Relaxed),
            ),
            ("seq", self.log.last_seq()),
            ("ingress_waiting_bytes", self.log.waiting_bytes()),
            ("pending_bytes", self.connections.pending_bytes()),
            ("history_kept_bytes", self.log.history_bytes()),
            ("cast_to_socket_p50_ns", latency.percentile(50)),
            ("cast_to_socket_p99_ns", latency.percentile(99)),
            ("encode_p50_ns", encoding.percentile(50)),
            ("encode_p99_ns", encoding.percentile(99)),
        ]);
        stats
    }

    fn uri(&self) -> String {
        let address = **self.address.load();
        let settings = self.settings();
        let host = match (settings.public_host.as_str(), address.ip()) {
            ("", ip) if ip.is_unspecified() => "localhost".to_owned(),
            ("", IpAddr::V6(ip)) => format!("[{ip}]"),
            ("", ip) => ip.to_string(),
            (host, _) => host.to_owned(),
        };
        format!("ws://{host}:{}{WEBSOCKET_PATH}", address.port())
    }
}
