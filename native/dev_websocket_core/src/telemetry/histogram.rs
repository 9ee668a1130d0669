//! Histograms with fixed buckets. Recording a value costs a few comparisons and two additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of values in each bucket and beyond the last bound.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// The state of a histogram at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The upper bound and the count of each bucket; the last bucket has no bound.
    pub(crate) buckets: Vec<(Option<u64>, u64)>,
    pub(crate) sum: u64,
}

impl Histogram {
    /// Makes a histogram with ascending bounds.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        self.record_all(std::iter::once(value));
    }

    /// Counts values. Neighbours of one bucket cost one addition together, because other threads read the counts.
    pub(crate) fn record_all(&self, values: impl Iterator<Item = u64>) {
        let (mut last, mut count, mut sum) = (0, 0, 0_u64);
        for value in values {
            let bucket = self.bucket_of(value);
            if bucket != last {
                self.add(last, count);
                (last, count) = (bucket, 0);
            }
            count += 1;
            sum = sum.wrapping_add(value);
        }
        self.add(last, count);
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    fn bucket_of(&self, value: u64) -> usize {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        bucket.unwrap_or(self.bounds.len())
    }

    fn add(&self, bucket: usize, count: u64) {
        if count > 0 {
            self.counts[bucket].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns the current counts.
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
    /// Returns the number of values.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Returns the bound below which `percent` percent of the values are. It is the last bound for larger values, and
    /// 0 without values.
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
        let together = Histogram::new(&[10, 100]);
        together.record_all([0, 11, 10, 5000, 101, 100].into_iter());
        together.record_all(std::iter::empty());
        assert_eq!(together.snapshot(), snapshot);
        assert_eq!(
            [33, 34, 66, 99].map(|percent| snapshot.percentile(percent)),
            [10, 100, 100, 100]
        );
    }
}
