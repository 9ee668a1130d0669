//! The exposition of all counters, gauges and histograms for Prometheus.
//!
//! The values are those of `stats`. The names state the unit, and counts that differ in one aspect have it as a label.

mod about;
mod table;

use std::borrow::Cow;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use self::table::{COUNTERS, GAUGES, Row};
use crate::shared::Shared;
use crate::telemetry::histogram::Snapshot;

/// The content type that Prometheus requests.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text";

/// Content types of the two formats: OpenMetrics 1.0, and the older text format, which every reader supports.
const OPEN_METRICS_CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Prefix of each name.
const PREFIX: &str = "dev_websocket";

/// Returns the content type and the document.
pub(crate) fn document(shared: &Shared, is_open_metrics: bool) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Reading(families(shared))));
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _ = encode(&mut text, &registry);
    if is_open_metrics {
        (OPEN_METRICS_CONTENT, text)
    } else {
        (TEXT_CONTENT, older(&text))
    }
}

/// Converts the text to the older format. There, the family of a counter has the name of its samples, and there is no
/// end mark.
fn older(text: &str) -> String {
    let is_counter = |name: &str| {
        let mut rows = COUNTERS.iter().map(|(counter, ..)| counter);
        rows.any(|counter| *counter == name) || about::COUNTERS.contains(&name)
    };
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

/// All samples of one metric name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// Name with the prefix, without `_total`.
    pub name: String,
    /// Description for people: the quantity that the metric counts or measures.
    pub help: &'static str,
    /// The samples.
    pub samples: Samples,
}

/// The samples of a family, by metric type.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// Values that only grow.
    Counter(Vec<Sample>),
    /// Values that rise and fall.
    Gauge(Vec<Sample>),
    /// A distribution of values.
    Histogram {
        /// Upper bound of each bucket, the last one infinite, and the number of values in it and in no lower one.
        buckets: Vec<(f64, u64)>,
        /// Sum of all values.
        sum: f64,
        /// Number of values.
        count: u64,
    },
}

/// A value with the labels that distinguish it from the other samples of its family.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Label names and label values; empty if the family has only one sample.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: u64,
}

impl Sample {
    fn new(value: u64) -> Self {
        Self {
            labels: Vec::new(),
            value,
        }
    }

    fn with(mut self, label: &'static str, of: impl Into<Cow<'static, str>>) -> Self {
        self.labels.push((label, of.into()));
        self
    }
}

/// Returns all families with the server's present values.
pub(crate) fn families(shared: &Shared) -> Vec<Family> {
    let stats = shared.stats();
    let value = |name: &str| {
        let found = stats.iter().find(|(known, _)| *known == name);
        found.map_or(0, |(_, value)| *value)
    };
    let numbers = |families: &'static [Row], samples: fn(Vec<Sample>) -> Samples| {
        families
            .iter()
            .map(move |(name, help, label, counts)| Family {
                name: format!("{PREFIX}_{name}"),
                help,
                samples: samples(
                    counts
                        .iter()
                        .map(|(stat, of)| {
                            let sample = Sample::new(value(stat));
                            if label.is_empty() {
                                sample
                            } else {
                                sample.with(label, *of)
                            }
                        })
                        .collect(),
                ),
            })
    };
    let histograms = &shared.context.counters.histograms;
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    about::families(shared)
        .into_iter()
        .chain(numbers(COUNTERS, Samples::Counter))
        .chain(numbers(GAUGES, Samples::Gauge))
        .chain([
            histogram(
                "cast_to_socket_seconds",
                "Time from a cast until its shard has written the publication to all subscribers",
                &histograms.cast_to_socket.snapshot(),
                seconds,
            ),
            histogram(
                "encode_seconds",
                "Time to find the topics and encode the JSON of a message, sampled one in 16",
                &histograms.encode.snapshot(),
                seconds,
            ),
            histogram(
                "shard_batch_publications",
                "Publications in one batch of a shard",
                &histograms.batch.snapshot(),
                |count| count as f64,
            ),
        ])
        .collect()
}

fn histogram(name: &str, help: &'static str, snapshot: &Snapshot, unit: fn(u64) -> f64) -> Family {
    let buckets = snapshot.buckets.iter();
    let buckets = buckets.map(|(bound, count)| (bound.map_or(f64::INFINITY, unit), *count));
    Family {
        name: format!("{PREFIX}_{name}"),
        help,
        samples: Samples::Histogram {
            buckets: buckets.collect(),
            sum: unit(snapshot.sum),
            count: snapshot.count(),
        },
    }
}

/// The collector that the library encodes.
#[derive(Debug)]
struct Reading(Vec<Family>);

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for Family {
            name,
            help,
            samples,
        } in &self.0
        {
            let kind = match samples {
                Samples::Counter(_) => MetricType::Counter,
                Samples::Gauge(_) => MetricType::Gauge,
                Samples::Histogram { .. } => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            match samples {
                Samples::Counter(samples) | Samples::Gauge(samples) => {
                    for Sample { labels, value } in samples {
                        if labels.is_empty() {
                            encode_value(&mut family, kind, *value)?;
                        } else {
                            encode_value(&mut family.encode_family(labels)?, kind, *value)?;
                        }
                    }
                }
                Samples::Histogram {
                    buckets,
                    sum,
                    count,
                } => {
                    family.encode_histogram::<[(&str, &str); 0]>(*sum, *count, buckets, None)?;
                }
            }
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
