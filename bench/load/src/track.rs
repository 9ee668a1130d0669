//! Lost, duplicated and reordered frames of one stream at one connection.

const WINDOW: u64 = 4096;
type Bits = [u64; (WINDOW / 64) as usize];

/// What has come of one stream. Costs nothing per frame while frames come in order; the first gap allocates a window
/// of bits that tells a late frame from a doubled one.
#[derive(Default)]
pub struct Track {
    started: bool,
    base: u64,
    next: u64,
    distinct: u64,
    seen: Option<Box<Bits>>,
}

/// What one more frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// In order (perhaps after a gap, which counts as lost until it is filled).
    Fresh,
    /// New, but a later one came before it.
    Reordered,
    /// Had come already.
    Duplicate,
}

impl Track {
    /// A stream that must start at 0: what is missing before the first frame that came counts as lost.
    pub fn from_zero() -> Self {
        Self {
            started: true,
            ..Self::default()
        }
    }

    /// Takes note of a frame.
    #[inline]
    pub fn arrive(&mut self, seq: u64) -> Arrival {
        if seq == self.next && self.started && self.seen.is_none() {
            self.next += 1;
            self.distinct += 1;
            return Arrival::Fresh;
        }
        self.arrive_slow(seq)
    }

    #[cold]
    fn arrive_slow(&mut self, seq: u64) -> Arrival {
        if !self.started {
            *self = Self {
                started: true,
                base: seq,
                next: seq + 1,
                distinct: 1,
                seen: None,
            };
            return Arrival::Fresh;
        }
        if seq >= self.next {
            self.advance(seq);
            self.distinct += 1;
            return Arrival::Fresh;
        }
        if seq < self.base {
            // Before the first frame that this connection ever saw, where nothing tells late from doubled.
            return Arrival::Reordered;
        }
        let Some(bits) = self.seen.as_deref_mut() else {
            return Arrival::Duplicate; // never a gap, so it had come
        };
        if self.next - seq > WINDOW {
            self.distinct += 1;
            return Arrival::Reordered; // too old to know better
        }
        if get(bits, seq) {
            return Arrival::Duplicate;
        }
        set(bits, seq, true);
        self.distinct += 1;
        Arrival::Reordered
    }

    /// Moves on to `seq`, which comes after a gap or while a window is kept.
    fn advance(&mut self, seq: u64) {
        let (base, next) = (self.base, self.next);
        let bits = self.seen.get_or_insert_with(|| {
            let mut bits = Box::new([0; (WINDOW / 64) as usize]);
            // All before the first gap had come.
            (base.max(next.saturating_sub(WINDOW))..next).for_each(|old| set(&mut bits, old, true));
            bits
        });
        if seq - next >= WINDOW {
            bits.fill(0);
        } else {
            (next..seq).for_each(|missing| set(bits, missing, false));
        }
        set(bits, seq, true);
        self.next = seq + 1;
    }

    /// Different frames that came.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Frames that did not come although a later one did.
    pub fn missing(&self) -> u64 {
        (self.next - self.base).saturating_sub(self.distinct)
    }
}

fn get(bits: &Bits, seq: u64) -> bool {
    bits[((seq % WINDOW) / 64) as usize] >> (seq % 64) & 1 == 1
}

fn set(bits: &mut Bits, seq: u64, value: bool) {
    let word = &mut bits[((seq % WINDOW) / 64) as usize];
    *word = (*word & !(1 << (seq % 64))) | (u64::from(value) << (seq % 64));
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Duplicate, Fresh, Reordered};
    use super::*;

    fn run(track: &mut Track, seqs: &[u64]) -> Vec<Arrival> {
        seqs.iter().map(|seq| track.arrive(*seq)).collect()
    }

    #[test]
    fn in_order() {
        let mut track = Track::from_zero();
        assert!((0..10_000).all(|seq| track.arrive(seq) == Fresh));
        assert_eq!((track.distinct(), track.missing()), (10_000, 0));
        assert_eq!(track.arrive(9_999), Duplicate);
    }

    #[test]
    fn a_gap_is_lost_until_it_is_filled() {
        let mut track = Track::from_zero();
        assert_eq!(
            run(&mut track, &[0, 1, 5, 3, 3, 5, 1, 6]),
            [
                Fresh, Fresh, Fresh, Reordered, Duplicate, Duplicate, Duplicate, Fresh
            ]
        );
        assert_eq!((track.distinct(), track.missing()), (5, 2));
        assert_eq!(
            run(&mut track, &[2, 4, 4]),
            [Reordered, Reordered, Duplicate]
        );
        assert_eq!((track.distinct(), track.missing()), (7, 0));
    }

    #[test]
    fn missing_at_the_start_counts_only_when_the_start_is_known() {
        let mut track = Track::from_zero();
        track.arrive(7);
        assert_eq!(track.missing(), 7);
        let mut track = Track::default();
        assert_eq!(
            run(&mut track, &[7, 8, 10, 6]),
            [Fresh, Fresh, Fresh, Reordered]
        );
        assert_eq!((track.distinct(), track.missing()), (3, 1));
    }

    #[test]
    fn far_jumps_and_very_old_frames() {
        let mut track = Track::from_zero();
        assert_eq!(
            run(
                &mut track,
                &[0, 2 * WINDOW, WINDOW, WINDOW + 1, WINDOW + 1, 1]
            ),
            [Fresh, Fresh, Reordered, Reordered, Duplicate, Reordered]
        );
        assert_eq!(track.missing(), 2 * WINDOW + 1 - 5);
        assert_eq!(track.arrive(3 * WINDOW), Fresh);
        assert_eq!(track.arrive(2 * WINDOW + 1), Reordered);
    }
}
