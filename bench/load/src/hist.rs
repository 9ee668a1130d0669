//! A histogram of nanoseconds that never allocates after it is made: 64 steps per power of two, so a value is known
//! to 1.6 %.

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
const SLOTS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Counts per bucket, and the exact largest value.
pub struct Hist {
    slots: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Hist {
    fn default() -> Self {
        Self {
            slots: vec![0; SLOTS].into_boxed_slice(),
            count: 0,
            max: 0,
        }
    }
}

impl Hist {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.slots[slot(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.count = 0;
        self.max = 0;
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value below or at which `share` (0 to 1) of all values lie; 0 when there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.slots.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(index).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn slot(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (shift as usize + 1) * STEPS + ((value >> shift) as usize - STEPS)
}

fn upper_bound(slot: usize) -> u64 {
    if slot < STEPS {
        return slot as u64;
    }
    let shift = slot / STEPS - 1;
    let base = (slot % STEPS + STEPS) as u64;
    // The last slot's bound is 2^64 - 1, which needs the wider type on the way.
    u64::try_from((u128::from(base + 1) << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_slot() {
        for value in (0..64)
            .flat_map(|bit| [1u64 << bit, (1 << bit) - 1, (1 << bit) | (1 << (bit / 2))])
            .chain([u64::MAX])
        {
            let index = slot(value);
            assert!(value <= upper_bound(index), "{value}");
            assert!(index == 0 || value > upper_bound(index - 1), "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_plain_row() {
        let mut hist = Hist::default();
        (1..=1000).for_each(|value| hist.record(value * 1000));
        for (share, wanted) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let got = hist.quantile(share) as f64;
            assert!((got / wanted - 1.0).abs() < 0.02, "{share}: {got}");
        }
        assert_eq!(hist.quantile(1.0), 1_000_000);
        hist.clear();
        assert_eq!((hist.quantile(0.5), hist.max()), (0, 0));
    }
}
