//! How values are spread, counted in buckets. To record one costs a look at a few bounds and two additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of values up to each bound, and beyond the last.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The bound and the count of each bucket; the last one has none.
    pub(crate) buckets: Vec<(Option<u64>, u64)>,
    pub(crate) sum: u64,
}

impl Histogram {
    /// Bounds go up.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        let bucket = bucket.unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        Snapshot {
            buckets: bounds.zip(counts).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Snapshot {
    /// How many values there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The bound below which so many percent of the values are; the last bound for what is beyond it, 0 without any.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count() * percent).div_ceil(100);
        let (mut seen, mut last) = (0, 0);
        for (bound, count) in &self.buckets {
            last = bound.unwrap_or(last);
            seen += count;
            if seen >= wanted {
                break;
            }
        }
        if wanted == 0 { 0 } else { last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_their_bounds() {
        let histogram = Histogram::new(&[10, 100]);
        assert_eq!(histogram.snapshot().percentile(99), 0);
        for value in [0, 10, 11, 100, 101, 5000] {
            histogram.record(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets, [(Some(10), 2), (Some(100), 2), (None, 2)]);
        assert_eq!((snapshot.sum, snapshot.count()), (5222, 6));
        assert_eq!(
            [33, 34, 66, 99].map(|percent| snapshot.percentile(percent)),
            [10, 100, 100, 100]
        );
    }
}
