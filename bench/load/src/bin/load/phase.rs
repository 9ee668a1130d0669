//! What is counted between `expect` and its result.

use crate::churn::Tally;
use crate::control::Expect;
use serde::Serialize;
use std::time::Instant;
use wsbench::hist::Hist;
use wsbench::marker::Marker;
use wsbench::track::{Arrival, Track};

/// Frames by what they turned out to be, of one kind of connection.
#[derive(Default, Serialize)]
pub(crate) struct Counts {
    /// Measured frames, doubled ones included.
    pub(crate) deliveries: u64,
    /// Came after a later one.
    pub(crate) reordered: u64,
    /// Came again.
    pub(crate) duplicated: u64,
}

impl Counts {
    #[inline]
    fn add(&mut self, arrival: Arrival) {
        self.deliveries += 1;
        match arrival {
            Arrival::Fresh => {}
            Arrival::Reordered => self.reordered += 1,
            Arrival::Duplicate => self.duplicated += 1,
        }
    }
}

/// The measured connections' account.
pub(crate) struct Phase {
    expect: Expect,
    /// For each reading connection, its streams.
    tracks: Vec<Track>,
    distinct: u64,
    expected: u64,
    counts: Counts,
    churned: Counts,
    latency: Hist,
    begun: Instant,
    /// When the last frame came, to know when nothing more comes.
    progress: Instant,
    first_sent_ns: u64,
    first_received_ns: u64,
    last_received_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
    pub(crate) other: u64,
    pub(crate) gaps: u64,
    pub(crate) pings: u64,
    pub(crate) closed: u64,
    /// Measured frames of another phase.
    stale: u64,
}

/// One JSON line.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    event: &'static str,
    complete: bool,
    expected: u64,
    #[serde(flatten)]
    counts: &'a Counts,
    lost: u64,
    stale: u64,
    other: u64,
    gaps: u64,
    pings: u64,
    closed: u64,
    bytes: u64,
    reads: u64,
    first_sent_ns: u64,
    first_received_ns: u64,
    last_received_ns: u64,
    elapsed_ns: u64,
    latency_ns: Latency,
    churned: &'a Counts,
    storm: &'a Tally,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Phase {
    pub(crate) fn new(expect: Expect, conns: usize, now: Instant) -> Self {
        let streams = usize::from(expect.streams.max(1));
        Self {
            tracks: (0..conns * streams).map(|_| Track::from_zero()).collect(),
            expected: expect.per_conn * conns as u64,
            expect,
            distinct: 0,
            counts: Counts::default(),
            churned: Counts::default(),
            latency: Hist::default(),
            begun: now,
            progress: now,
            first_sent_ns: u64::MAX,
            first_received_ns: 0,
            last_received_ns: 0,
            bytes: 0,
            reads: 0,
            other: 0,
            gaps: 0,
            pings: 0,
            closed: 0,
            stale: 0,
        }
    }

    /// A measured frame at reading connection `conn`.
    #[inline]
    pub(crate) fn message(&mut self, conn: usize, marker: Marker, now_ns: u64) {
        let stream = marker.stream.wrapping_sub(self.expect.stream);
        if stream >= self.expect.streams {
            self.stale += 1;
            return;
        }
        let arrival = self.tracks[conn * usize::from(self.expect.streams) + usize::from(stream)]
            .arrive(marker.seq);
        self.distinct += u64::from(arrival != Arrival::Duplicate);
        self.counts.add(arrival);
        self.latency.record(now_ns.saturating_sub(marker.sent_ns));
        self.first_sent_ns = self.first_sent_ns.min(marker.sent_ns);
        if self.first_received_ns == 0 {
            self.first_received_ns = now_ns;
        }
        self.last_received_ns = now_ns;
    }

    /// A measured frame at a connection of the storm.
    pub(crate) fn churn_message(&mut self, track: &mut Track, marker: Marker) {
        if marker.stream == self.expect.stream {
            self.churned.add(track.arrive(marker.seq));
        }
    }

    /// After a read.
    #[inline]
    pub(crate) fn note_read(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        self.reads += 1;
        self.progress = now;
    }

    /// Whether all came that was expected.
    fn complete(&self) -> bool {
        self.expected > 0 && self.distinct >= self.expected
    }

    /// When this phase ends, as things stand.
    pub(crate) fn ends(&self) -> Instant {
        let patience = if self.complete() {
            self.expect.settle()
        } else {
            self.expect.idle()
        };
        (self.progress + patience).min(self.begun + self.expect.max())
    }

    /// The result as it stands.
    pub(crate) fn report<'a>(&'a self, storm: &'a Tally) -> Report<'a> {
        let seen_gaps = self.tracks.iter().map(Track::missing).sum();
        let lost = if self.expected > 0 {
            self.expected.saturating_sub(self.distinct)
        } else {
            seen_gaps
        };
        let quantile = |share| self.latency.quantile(share);
        Report {
            event: "result",
            complete: self.complete(),
            expected: self.expected,
            counts: &self.counts,
            lost,
            stale: self.stale,
            other: self.other,
            gaps: self.gaps,
            pings: self.pings,
            closed: self.closed,
            bytes: self.bytes,
            reads: self.reads,
            first_sent_ns: if self.first_sent_ns == u64::MAX {
                0
            } else {
                self.first_sent_ns
            },
            first_received_ns: self.first_received_ns,
            last_received_ns: self.last_received_ns,
            elapsed_ns: self.last_received_ns.saturating_sub(self.first_sent_ns),
            latency_ns: Latency {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                max: self.latency.max(),
            },
            churned: &self.churned,
            storm,
        }
    }
}
