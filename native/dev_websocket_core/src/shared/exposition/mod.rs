//! Everything that is counted and measured, as Prometheus reads it.
//!
//! The numbers are those of `stats`, under names that say their unit, and with what is counted apart as a label.

mod table;

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

/// What Prometheus asks for.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text";

/// Content types of the two texts: OpenMetrics 1.0, and the older one, which every reader knows.
const OPEN_METRICS_CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What each name begins with.
const PREFIX: &str = "dev_websocket";

/// The document and its content type.
pub(crate) fn document(shared: &Shared, is_open_metrics: bool) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Reading(families(shared))));
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

/// Metrics of one name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// With the prefix, without `_total`.
    pub name: String,
    /// What it counts or measures, for people.
    pub help: &'static str,
    /// The numbers.
    pub samples: Samples,
}

/// The numbers of a family.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// What only grows.
    Counter(Vec<Sample>),
    /// What goes up and down.
    Gauge(Vec<Sample>),
    /// How values are spread.
    Histogram {
        /// The upper bound of each bucket, the last one infinite, and how many values are in it and in no lower one.
        buckets: Vec<(f64, u64)>,
        /// All values together.
        sum: f64,
        /// How many values.
        count: u64,
    },
}

/// A number, and what tells it from the others of its family: a label and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// None if it is the only one.
    pub label: Option<(&'static str, &'static str)>,
    /// The number.
    pub value: u64,
}

/// The server as it is now.
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
                        .map(|(stat, of)| Sample {
                            label: (!label.is_empty()).then_some((*label, *of)),
                            value: value(stat),
                        })
                        .collect(),
                ),
            })
    };
    let histograms = &shared.context.counters.histograms;
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    numbers(COUNTERS, Samples::Counter)
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

/// What the library writes down.
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
                    for Sample { label, value } in samples {
                        match label {
                            None => encode_value(&mut family, kind, *value)?,
                            Some(label) => {
                                encode_value(&mut family.encode_family(&[*label])?, kind, *value)?;
                            }
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
