//! Frames for many connections, copied side by side into one piece of memory.
//!
//! Each slice of a vectored write costs the system as much as copying some hundred bytes. Each publication that is read
//! may be a cache miss. Therefore the frames of a subscription with several subscribers are copied into one run per
//! batch, and each connection gets a single slice.

use super::batch::Batch;
use super::frames::{Frames, length, parts, saved};
use super::ids::{EntryIndex, Seq};
use crate::wire::format::{Form, Format};

/// Limit on the runs of one batch. Further subscriptions are served without a run, only slower.
const MOST_RUNS: usize = 16;

/// Limit on the bytes of one run, so that it stays in a core's own cache from one socket to the next.
const MAX_BYTES: usize = 256 * 1024;

/// Smallest number of subscribers for a run: with fewer, the copy costs as much as it saves.
const FEWEST_SUBSCRIBERS: usize = 4;

/// Smallest number of frames that is worth the look-up of a run.
const FEWEST_FRAMES: usize = 4;

/// The runs of the current batch.
#[derive(Debug, Default)]
pub(crate) struct FrameRuns {
    runs: Vec<FrameRun>,
    /// Memory kept for the next batch.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct FrameRun {
    entry: EntryIndex,
    form: Form,
    /// Index of the first frame in the entry's list.
    first: usize,
    /// End of each frame in `bytes`.
    ends: Vec<usize>,
    /// Bytes that compression saves up to each frame; empty without compression.
    saved: Vec<usize>,
    bytes: Vec<u8>,
}

impl FrameRuns {
    /// Returns the frames of an entry's list from index `start` on, as many as possible in one piece.
    pub(crate) fn join<'r>(
        &'r mut self,
        (entry, subscribers): (EntryIndex, usize),
        seqs: &'r [Seq],
        start: usize,
        form: impl Into<Form>,
        batch: &Batch,
    ) -> Frames<'r> {
        let form = form.into();
        let scattered = Frames::scattered(&seqs[start..]);
        if scattered.seqs.len() < FEWEST_FRAMES
            || subscribers < FEWEST_SUBSCRIBERS
            || form.format == Format::Events
        {
            return scattered;
        }
        let Some(run) = self.run(entry, form) else {
            return scattered;
        };
        // Connections are served in turn, so frames before `start` that no connection has needed are not needed later.
        if start >= run.first + run.ends.len() {
            run.start_at(start);
        }
        let Some(skipped) = start.checked_sub(run.first) else {
            return scattered;
        };
        run.extend(seqs, batch);
        let offset = skipped.checked_sub(1).map_or(0, |last| run.ends[last]);
        Frames {
            joined: &run.bytes[offset..],
            joined_count: run.ends.len() - skipped,
            joined_saved: run.saved_after(skipped),
            ..scattered
        }
    }

    fn run(&mut self, entry: EntryIndex, form: Form) -> Option<&mut FrameRun> {
        let is_it = |run: &FrameRun| run.entry == entry && run.form == form;
        let place = match self.runs.iter().position(is_it) {
            Some(place) => place,
            None if self.runs.len() < MOST_RUNS => {
                self.runs.push(FrameRun {
                    entry,
                    form,
                    first: 0,
                    ends: Vec::new(),
                    saved: Vec::new(),
                    bytes: std::mem::take(&mut self.spare),
                });
                self.runs.len() - 1
            }
            None => return None,
        };
        self.runs.get_mut(place)
    }

    /// Forgets the run of a removed entry, because another entry may reuse its index.
    pub(crate) fn forget(&mut self, entry: EntryIndex) {
        self.runs.retain(|run| run.entry != entry);
    }

    /// Forgets all runs. A panic may have left one of them half copied.
    pub(crate) fn end_batch(&mut self) {
        if let Some(run) = self.runs.pop() {
            self.spare = run.bytes;
            self.spare.clear();
        }
        self.runs.clear();
    }
}

impl FrameRun {
    fn start_at(&mut self, first: usize) {
        self.first = first;
        self.ends.clear();
        self.saved.clear();
        self.bytes.clear();
    }

    /// Copies the following frames of the list while there is room.
    fn extend(&mut self, seqs: &[Seq], batch: &Batch) {
        for seq in &seqs[self.first + self.ends.len()..] {
            let publication = batch.get(*seq);
            if self.bytes.len() + length(publication, self.form) > MAX_BYTES {
                break;
            }
            for part in parts(publication, self.form) {
                self.bytes.extend_from_slice(part);
            }
            self.ends.push(self.bytes.len());
            if self.form.is_compressed {
                let before = self.saved.last().copied().unwrap_or(0);
                self.saved.push(before + saved(publication, self.form));
            }
        }
    }

    /// Returns the bytes that compression saves of all frames but the first `skipped`.
    fn saved_after(&self, skipped: usize) -> usize {
        let up_to = |count: usize| count.checked_sub(1).and_then(|last| self.saved.get(last));
        let all = self.saved.last().copied().unwrap_or(0);
        all - up_to(skipped).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::publication::tests::publication;

    const MANY: usize = FEWEST_SUBSCRIBERS;

    fn batch(seqs: std::ops::RangeInclusive<Seq>, data: &str) -> (Vec<Seq>, Batch) {
        let mut batch = Batch::default();
        let seqs: Vec<_> = seqs.collect();
        seqs.iter()
            .for_each(|seq| batch.push(publication(*seq, &["t"], data)));
        (seqs, batch)
    }

    fn bytes(batch: &Batch, seqs: &[Seq], format: Format) -> Vec<u8> {
        seqs.iter()
            .map(|seq| parts(batch.get(*seq), format).concat())
            .collect::<Vec<_>>()
            .concat()
    }

    #[test]
    fn a_burst_is_one_piece_for_many_subscribers_in_every_format_of_websockets() {
        let (seqs, batch) = batch(1..=500, "x");
        let mut runs = FrameRuns::default();
        for format in [Format::Json, Format::Raw] {
            for start in [0, 0, 100, 496] {
                let frames = runs.join((7, MANY), &seqs, start, format, &batch);
                assert_eq!(frames.seqs, &seqs[start..]);
                assert_eq!(frames.joined_count, 500 - start);
                assert_eq!(frames.joined, bytes(&batch, &seqs[start..], format));
            }
        }
        let scattered = |frames: Frames<'_>| frames.joined_count == 0 && frames.joined.is_empty();
        assert!(scattered(runs.join(
            (7, MANY - 1),
            &seqs,
            0,
            Format::Json,
            &batch
        )));
        assert!(scattered(runs.join(
            (7, MANY),
            &seqs,
            497,
            Format::Json,
            &batch
        )));
        assert!(scattered(runs.join(
            (7, MANY),
            &seqs,
            0,
            Format::Events,
            &batch
        )));
    }

    #[test]
    fn an_entry_that_takes_the_place_of_another_gets_nothing_of_it() {
        let (seqs, batch) = batch(1..=100, "x");
        let mut runs = FrameRuns::default();
        runs.join((7, MANY), &seqs, 0, Format::Json, &batch);
        runs.forget(7);
        let frames = runs.join((7, MANY), &seqs[50..], 0, Format::Json, &batch);
        assert_eq!(frames.joined, bytes(&batch, &seqs[50..], Format::Json));
    }

    #[test]
    fn a_run_has_a_bound_and_goes_on_behind_it() {
        let (seqs, batch) = batch(1..=200, &"x".repeat(4000));
        let mut runs = FrameRuns::default();
        let join = |runs: &mut FrameRuns, start| {
            let frames = runs.join((7, MANY), &seqs, start, Format::Json, &batch);
            let count = frames.joined_count;
            assert_eq!(
                frames.joined,
                bytes(&batch, &seqs[start..start + count], Format::Json)
            );
            assert!(frames.joined.len() <= MAX_BYTES);
            count
        };
        let first = join(&mut runs, 0);
        assert!(first > 50);
        assert_eq!(join(&mut runs, first - 1), 1);
        assert_eq!(join(&mut runs, first), first);
        // A single late connection.
        assert_eq!(join(&mut runs, 0), 0);
    }

    #[test]
    fn few_runs_are_made_and_the_memory_of_one_is_kept() {
        let (seqs, batch) = batch(1..=500, "x");
        let mut runs = FrameRuns::default();
        for entry in 0..100 {
            let frames = runs.join((entry, MANY), &seqs, 0, Format::Json, &batch);
            assert_eq!(frames.joined_count > 0, entry < MOST_RUNS as EntryIndex);
        }
        runs.end_batch();
        assert!(runs.runs.is_empty() && runs.spare.is_empty());
        assert!((1..=2 * MAX_BYTES).contains(&runs.spare.capacity()));
    }

    proptest! {
        /// Checks that the piece equals the entry's list for any growth of lists and any order of connections.
        #[test]
        fn a_run_is_what_stands_in_the_list(
            steps in prop::collection::vec((0_u32..3, any::<bool>(), 0_usize..30, 0_usize..100, 0_usize..5000), 1..25),
        ) {
            let mut runs = FrameRuns::default();
            let mut batch = Batch::default();
            let (mut lists, mut next) = (vec![Vec::new(); 3], 1);
            for (entry, is_raw, count, percent, size) in steps {
                let list: &mut Vec<Seq> = &mut lists[entry as usize];
                for _ in 0..count {
                    batch.push(publication(next, &["t"], &"x".repeat(size)));
                    list.push(next);
                    next += 1;
                }
                let format = if is_raw { Format::Raw } else { Format::Json };
                let start = list.len() * percent / 100;
                let frames = runs.join((entry, MANY), list, start, format, &batch);
                prop_assert_eq!(frames.seqs, &list[start..]);
                let joined = &frames.seqs[..frames.joined_count];
                prop_assert_eq!(frames.joined, bytes(&batch, joined, format));
            }
        }
    }
}
