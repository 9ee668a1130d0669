//! The description and statistics of the server, for the program that embeds it and for clients.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;

use crate::settings::active::ActiveSettings;
use crate::settings::{Settings, size};
use crate::shared::{Shared, VERSION, WEBSOCKET_PATH};
use crate::telemetry::counters::ResultsSource;
use crate::wire::control::{Limits, PROTOCOL};
use crate::wire::format::Format;

/// The reply of `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// URL for clients: the setting `public_uri`, or `ws://host:port/ws`, or `wss://` with TLS.
    pub uri: String,
    /// Topics with subscribers or recent publications, sorted, at most `max_known_topics`.
    pub topics: Vec<String>,
}

/// The data that a client needs before it connects.
#[derive(Debug)]
#[non_exhaustive]
pub struct Description {
    /// The URL for clients, and the topics.
    pub info: Info,
    /// JSON object with `uri`, `topics`, `protocol`, `version`, `epoch`, `results`, and the same `limits` as in the first frame.
    pub json: serde_json::Value,
    /// The same JSON as text. Cloning it is cheap.
    pub document: Bytes,
    /// The same text without the names of topics, for clients that may not read them.
    pub(crate) without_topics: Bytes,
}

impl Description {
    /// Returns the JSON and its text without the names of topics, for readers that may not see them.
    #[must_use]
    pub fn without_topics(&self) -> (serde_json::Value, Bytes) {
        let mut json = self.json.clone();
        json["topics"] = json!([]);
        (json, self.without_topics.clone())
    }
}

/// Number of topics up to which a changed list is renewed at once.
const FREE_TOPICS: usize = 100;

/// Time for which a longer list is reused, for each of its topics: 10,000 topics are listed at most once a second.
const REST_OF_A_TOPIC: Duration = Duration::from_micros(100);

/// The last description. All callers get it as long as it is correct, or as long as a new one would cost too much.
#[derive(Debug, Default)]
pub(crate) struct Descriptions {
    latest: ArcSwapOption<Described>,
    making: Mutex<()>,
}

#[derive(Debug)]
struct Described {
    description: Arc<Description>,
    /// Time at which its creation began, and the versions of its sources.
    at: Instant,
    generation: u64,
    active: Arc<ActiveSettings>,
    address: Arc<SocketAddr>,
    results: ResultsSource,
    epoch: Arc<str>,
    away_since: Option<u64>,
    small_payload: Option<u64>,
}

impl Described {
    /// Returns true if the description may be reused. Settings, address and the source of results change only by the
    /// operator, so they always renew it. Strangers can change the topics at will, so those are limited.
    fn holds(&self, shared: &Shared, now: Instant) -> bool {
        Arc::ptr_eq(&self.active, &shared.context.active.load())
            && Arc::ptr_eq(&self.address, &shared.address.load())
            && self.results == shared.context.counters.results_source()
            && self.epoch == shared.context.eras.epoch()
            && self.away_since == shared.away_since()
            && self.small_payload == shared.small_payload()
            && (self.generation == shared.context.topics.generation()
                || now < self.at + self.rest())
    }

    /// Returns the time for which the description is reused although topics have changed.
    fn rest(&self) -> Duration {
        match u32::try_from(self.description.info.topics.len()) {
            Ok(topics) if topics as usize <= FREE_TOPICS => Duration::ZERO,
            topics => REST_OF_A_TOPIC * topics.unwrap_or(u32::MAX),
        }
    }
}

impl Shared {
    /// Returns the URL for clients and the topics. All callers get the same description until it is out of date, so
    /// frequent calls cost the server no more.
    pub(crate) fn describe(&self) -> Arc<Description> {
        self.describe_at(Instant::now())
    }

    fn describe_at(&self, now: Instant) -> Arc<Description> {
        let latest = || {
            let latest = self.descriptions.latest.load();
            let holds = latest.as_ref().filter(|latest| latest.holds(self, now));
            holds.map(|latest| latest.description.clone())
        };
        if let Some(description) = latest() {
            return description;
        }
        let _making = self.descriptions.making.lock();
        // Another thread may have made one meanwhile.
        if let Some(description) = latest() {
            return description;
        }
        // The versions are read first, so that a later change makes the description out of date.
        let generation = self.context.topics.generation();
        let (active, address) = (self.context.active.load_full(), self.address.load_full());
        let results = self.context.counters.results_source();
        let (epoch, away_since) = (self.context.eras.epoch(), self.away_since());
        let small_payload = self.small_payload();
        let description = Arc::new(self.new_description(&active.settings, *address, results));
        self.descriptions.latest.store(Some(Arc::new(Described {
            description: description.clone(),
            at: now,
            generation,
            active,
            address,
            results,
            epoch,
            away_since,
            small_payload,
        })));
        description
    }

    /// Returns the time since which the stream is away, if there is one.
    fn away_since(&self) -> Option<u64> {
        self.context.stream.as_ref()?.away_since()
    }

    /// Returns the largest record of the engine, if it is too small for some messages.
    fn small_payload(&self) -> Option<u64> {
        self.context.stream.as_ref()?.small_payload()
    }

    fn new_description(
        &self,
        settings: &Settings,
        address: SocketAddr,
        results: ResultsSource,
    ) -> Description {
        let info = Info {
            uri: uri(settings, address),
            topics: self.context.topics.names(size(settings.max_known_topics)),
        };
        let mut json = json!({
            "uri": info.uri,
            "topics": info.topics,
            "protocol": PROTOCOL,
            "version": VERSION,
            "epoch": &*self.context.eras.epoch(),
            "results": results.name(),
            "limits": Limits::of(settings),
        });
        if self.context.stream.is_some() {
            json["engine"] = match self.away_since() {
                None => json!({"state": "present"}),
                Some(since) => json!({"state": "away", "since": since}),
            };
            if let Some(bytes) = self.small_payload() {
                json["engine"]["max_payload"] = bytes.into();
            }
        }
        let document = json.to_string().into();
        let topics = std::mem::replace(&mut json["topics"], json!([]));
        let without_topics = json.to_string().into();
        json["topics"] = topics;
        Description {
            info,
            document,
            without_topics,
            json,
        }
    }

    /// Returns gauges and counts by name.
    pub(crate) fn stats(&self) -> Vec<(&'static str, u64)> {
        let formats = Format::ALL.map(|format| self.admission.connections_of(format));
        let [json, raw, events, edges] = formats;
        let subscriptions = self
            .context
            .gauges
            .iter()
            .map(|gauges| &gauges.subscriptions);
        let histograms = &self.context.counters.histograms;
        let (latency, encoding) = (
            histograms.cast_to_socket.snapshot(),
            histograms.encode.snapshot(),
        );
        let filters = self.filters.counts();
        let stream = self.context.stream.as_deref();
        let mut stats = self.context.counters.list();
        stats.extend([
            ("connections", self.admission.connections()),
            ("connections_json", json),
            ("connections_raw", raw),
            ("connections_events", events),
            ("connections_edges", edges),
            ("handshakes", self.handshakes.len() as u64),
            (
                "subscriptions",
                subscriptions
                    .map(|count| count.load(Ordering::Relaxed))
                    .sum(),
            ),
            ("regexes", filters.expressions as u64),
            ("globs", filters.globs as u64),
            ("templates", filters.templates as u64),
            ("unindexed_patterns", filters.unindexed as u64),
            ("topics", self.context.topics.len() as u64),
            (
                "tails",
                self.context.counters.tails.running.load(Ordering::Relaxed),
            ),
            (
                "tails_waiting",
                self.context.counters.tails.waiting.load(Ordering::Relaxed),
            ),
            (
                "engine_queued_bytes",
                stream.map_or(0, |stream| stream.outgoing.bytes()),
            ),
            (
                "engine_present",
                u64::from(stream.is_some_and(|stream| stream.away_since().is_none())),
            ),
            ("engine_reads", self.context.reads.len()),
            ("slot_replays", self.context.replays.len()),
            ("seq", self.context.eras.number(self.context.log.last_seq())),
            ("publish_queued_bytes", self.context.log.waiting_bytes()),
            (
                "send_buffer_bytes",
                self.send_buffer_bytes.load(Ordering::Relaxed) as u64,
            ),
            ("history_kept_bytes", self.context.log.history_bytes()),
            ("cast_to_socket_p50_ns", latency.percentile(50)),
            ("cast_to_socket_p99_ns", latency.percentile(99)),
            ("encode_p50_ns", encoding.percentile(50)),
            ("encode_p99_ns", encoding.percentile(99)),
        ]);
        stats
    }
}

fn uri(settings: &Settings, address: SocketAddr) -> String {
    if let Some(uri) = settings.public_uri_with(WEBSOCKET_PATH) {
        return uri;
    }
    let host = match (settings.public_host.as_str(), address.ip()) {
        ("", ip) if ip.is_unspecified() => "localhost".to_owned(),
        ("", IpAddr::V6(ip)) => format!("[{ip}]"),
        ("", ip) => ip.to_string(),
        (host, _) => host.to_owned(),
    };
    let scheme = if settings.tls_cert.is_empty() {
        "ws"
    } else {
        "wss"
    };
    format!("{scheme}://{host}:{}{WEBSOCKET_PATH}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::publication_log::Log;
    use crate::message::topic::Topic;
    use crate::shared::Persistent;

    fn shared() -> Arc<Shared> {
        let (log, _cursors) = Log::new(1);
        let lasting = Persistent::default();
        let address = ([127, 0, 0, 1], 1).into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let reading = runtime.handle().clone();
        Shared::new(Settings::default(), address, 1, log, lasting, reading)
    }

    fn subscribe(shared: &Shared, number: usize) {
        let topic = Topic::new(&format!("t{number:05}")).unwrap();
        shared.context.topics.subscribed(&topic);
    }

    #[test]
    fn a_short_list_is_true_at_once_and_made_only_when_it_changes() {
        let shared = shared();
        let now = Instant::now();
        for number in 0..=FREE_TOPICS {
            subscribe(&shared, number);
            let description = shared.describe_at(now);
            assert_eq!(description.info.topics.len(), number + 1);
            assert!(Arc::ptr_eq(&description, &shared.describe_at(now)));
        }
    }

    #[test]
    fn a_long_list_serves_everybody_for_as_long_as_it_is_long() {
        let shared = shared();
        for number in 0..10_000 {
            subscribe(&shared, number);
        }
        let start = Instant::now();
        let first = shared.describe_at(start);
        let second = Duration::from_secs(1);
        for number in 10_000..10_300 {
            subscribe(&shared, number);
            let millis = Duration::from_millis(3) * (number - 10_000) as u32;
            assert!(Arc::ptr_eq(&first, &shared.describe_at(start + millis)));
        }
        // The limit bounds the visited topics, not only the listed ones.
        assert_eq!(
            shared.context.topics.visited.load(Ordering::Relaxed),
            10_000
        );
        let last = start + second - Duration::from_nanos(1);
        assert!(Arc::ptr_eq(&first, &shared.describe_at(last)));
        let next = shared.describe_at(start + second);
        assert!(!Arc::ptr_eq(&first, &next));
        assert_eq!(next.info.topics.len(), 10_000);
        // Without a change, the same description is reused for ever.
        let later = shared.describe_at(start + second * 3600);
        assert!(Arc::ptr_eq(&next, &later));
    }

    #[test]
    fn new_settings_a_new_address_and_another_source_of_results_are_told_at_once() {
        let shared = shared();
        for number in 0..1000 {
            subscribe(&shared, number);
        }
        let now = Instant::now();
        let _old = shared.describe_at(now);
        shared.context.active.store(ActiveSettings::new(Settings {
            max_known_topics: 500,
            max_last: 7,
            ..Settings::default()
        }));
        let new = shared.describe_at(now);
        assert_eq!(new.info.topics.len(), 500);
        assert_eq!(new.json["limits"]["max_last"], 7);
        shared.address.store(Arc::new(([127, 0, 0, 1], 2).into()));
        let moved = shared.describe_at(now);
        assert_eq!(moved.info.uri, "ws://127.0.0.1:2/ws");
        shared.context.active.store(ActiveSettings::new(Settings {
            public_host: "other.example".into(),
            public_uri: "wss://node.example".into(),
            ..Settings::default()
        }));
        assert_eq!(shared.describe_at(now).info.uri, "wss://node.example/ws");
        let text: serde_json::Value = serde_json::from_slice(&moved.document).unwrap();
        assert_eq!(text, moved.json);
        assert_eq!(moved.json["results"], "no_node");
        shared
            .context
            .counters
            .set_tails(0, 0, ResultsSource::Cache);
        assert_eq!(shared.describe_at(now).json["results"], "cache");
    }
}
