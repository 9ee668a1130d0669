//! The log of publications: where casts are put in order, and what every reader reads from.
//!
//! One lock gives each publication its number and its place; readers take no lock. The log is a chain of segments, and
//! a writer shard is a [`Cursor`] that walks it. What lies behind the slowest shard lives on as history while it fits
//! into its bytes. So the ingress queue, the fan-out to shards and the history are one structure and one copy.

use std::collections::VecDeque;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::error::Rejected;
use crate::publication::Publication;
use crate::publication::draft::Draft;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock};

/// Publications of one segment at the most; small enough that an almost idle log holds little.
const SEGMENT_SLOTS: usize = 128;

/// Bytes after which a segment takes no more, so that history is cut finely.
const SEGMENT_BYTES: usize = 128 * 1024;

/// What part of the ingress limit may be taken on top of it by what tells of lost messages.
const LOSS_SHARE: u64 = 8;

/// The log. One per server; numbers start at 1.
#[derive(Debug)]
pub(crate) struct Log {
    head: Mutex<Head>,
    /// What each reader has finished, in bytes since the start, for the bound on what waits.
    finished: Box<[Arc<AtomicU64>]>,
    /// Bytes of all publications since the start, and the number of the last one; written under the lock, read without.
    appended_bytes: AtomicU64,
    last_seq: AtomicU64,
}

#[derive(Debug)]
struct Head {
    next_seq: u64,
    segment: Arc<Segment>,
    used: usize,
    segment_bytes: usize,
    history: VecDeque<(Arc<Segment>, usize)>,
    history_bytes: usize,
    /// Messages that found no room, and for which there was no room to say so either.
    untold_losses: u64,
}

/// What a reader of past publications finds.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Publications one after the other.
    pub(crate) publications: Vec<Arc<Publication>>,
    /// The number of the oldest that is kept; that of the next one when none is.
    pub(crate) oldest: u64,
}

#[derive(Debug)]
struct Segment {
    slots: Box<[OnceLock<Arc<Publication>>]>,
    next: OnceLock<Arc<Segment>>,
}

/// A reader's place in the log.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: Arc<Segment>,
    index: usize,
    taken_bytes: u64,
    finished: Arc<AtomicU64>,
}

impl Log {
    /// An empty log and its readers.
    pub(crate) fn new(readers: usize) -> (Self, Vec<Cursor>) {
        let segment = Segment::new();
        let finished: Box<[_]> = (0..readers).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let cursors = finished
            .iter()
            .map(|finished| Cursor {
                segment: segment.clone(),
                index: 0,
                taken_bytes: 0,
                finished: finished.clone(),
            })
            .collect();
        let head = Head {
            next_seq: 1,
            segment,
            used: 0,
            segment_bytes: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            untold_losses: 0,
        };
        (
            Self {
                head: Mutex::new(head),
                finished,
                appended_bytes: AtomicU64::new(0),
                last_seq: AtomicU64::new(0),
            },
            cursors,
        )
    }

    /// Puts a message behind all others. It never waits: the lock is held for a number and a pointer.
    ///
    /// # Errors
    /// [`Rejected::Overload`] when more than `ingress_limit` bytes would wait for the slowest reader. Then a loss stands
    /// in the message's place, for which a little more may wait.
    pub(crate) fn append(&self, draft: Draft, ingress_limit: u64) -> Result<u64, Rejected> {
        self.append_locked(&mut self.head.lock(), draft, ingress_limit)
    }

    /// Puts messages behind all others, with nothing between them. Each is taken or lost as in [`Self::append`].
    pub(crate) fn append_all(
        &self,
        drafts: Vec<Draft>,
        ingress_limit: u64,
    ) -> Vec<Result<u64, Rejected>> {
        let mut head = self.head.lock();
        let append = |draft| self.append_locked(&mut head, draft, ingress_limit);
        drafts.into_iter().map(append).collect()
    }

    /// Puts messages behind all others, with nothing between them, or none of them.
    ///
    /// # Errors
    /// [`Rejected::Overload`] when something waits and more than `ingress_limit` bytes would. Nothing is lost then.
    pub(crate) fn append_or_none(
        &self,
        drafts: Vec<Draft>,
        ingress_limit: u64,
    ) -> Result<(), Rejected> {
        let bytes: u64 = drafts.iter().map(|draft| draft.footprint() as u64).sum();
        let mut head = self.head.lock();
        let waiting = self.waiting_bytes();
        if waiting > 0 && waiting + bytes > ingress_limit {
            return Err(Rejected::Overload);
        }
        self.tell_losses(&mut head);
        for draft in drafts {
            self.put(&mut head, draft);
        }
        Ok(())
    }

    fn append_locked(
        &self,
        head: &mut Head,
        draft: Draft,
        ingress_limit: u64,
    ) -> Result<u64, Rejected> {
        let waiting = self.appended_bytes().saturating_sub(self.slowest());
        if waiting + draft.footprint() as u64 <= ingress_limit {
            self.tell_losses(head);
            return Ok(self.put(head, draft));
        }
        let loss = draft.into_loss();
        if waiting + loss.footprint() as u64 <= ingress_limit + ingress_limit / LOSS_SHARE {
            self.tell_losses(head);
            self.put(head, loss);
        } else {
            head.untold_losses += 1;
        }
        Err(Rejected::Overload)
    }

    /// Puts in what tells of messages that were lost without a word, if there are any. To be called by a reader that has
    /// made room, because nobody may publish any more.
    pub(crate) fn settle(&self) -> bool {
        self.tell_losses(&mut self.head.lock())
    }

    fn tell_losses(&self, head: &mut Head) -> bool {
        let losses = std::mem::take(&mut head.untold_losses);
        if losses > 0 {
            self.put(head, Draft::of_lost_messages(losses));
        }
        losses > 0
    }

    fn put(&self, head: &mut Head, draft: Draft) -> u64 {
        let size = draft.footprint();
        let seq = head.next_seq;
        head.next_seq += 1;
        head.segment_bytes += size;
        // Only this place sets slots, under the lock, so the slot is free.
        let _ = head.segment.slots[head.used].set(draft.number(seq));
        head.used += 1;
        let appended = self.appended_bytes() + size as u64;
        self.appended_bytes.store(appended, Ordering::Relaxed);
        self.last_seq.store(seq, Ordering::Release);
        if head.used == SEGMENT_SLOTS || head.segment_bytes >= SEGMENT_BYTES {
            head.seal();
        }
        seq
    }

    /// Reads up to `count` publications from number `from` on, or from the oldest on if that one is forgotten.
    ///
    /// The reader comes again for more, rather than hold on to its place: a segment keeps all later ones alive.
    pub(crate) fn read(&self, from: u64, count: usize) -> Past {
        let head = self.head.lock();
        let oldest = head.oldest();
        let from = from.max(oldest);
        let place = head
            .history
            .partition_point(|(segment, _)| segment.first_seq().is_some_and(|seq| seq <= from));
        let segments: ArrayVec<Arc<Segment>, 4> = head
            .history
            .iter()
            .skip(place.saturating_sub(1))
            .map(|(segment, _)| segment)
            .chain([&head.segment])
            .take(4)
            .cloned()
            .collect();
        drop(head);
        let publications = segments
            .iter()
            .flat_map(|segment| segment.slots.iter().map_while(OnceLock::get))
            .skip_while(|publication| publication.seq() < from)
            .take(count)
            .cloned()
            .collect();
        Past {
            publications,
            oldest,
        }
    }

    /// Forgets the oldest publications until the history fits into its bytes, and gives those that no reader is at.
    ///
    /// This is for a reader to do, not for those who publish: giving up a segment takes as long as many casts.
    pub(crate) fn trim(&self, history_limit: usize) -> Vec<Arc<Publication>> {
        let mut forgotten = Vec::new();
        let mut head = self.head.lock();
        while head.history_bytes > history_limit
            && let Some((segment, bytes)) = head.history.pop_front()
        {
            head.history_bytes -= bytes;
            forgotten.push(segment);
        }
        drop(head);
        forgotten
            .into_iter()
            .filter_map(Arc::into_inner)
            .flat_map(|mut segment| std::mem::take(&mut segment.slots))
            .filter_map(|mut slot| slot.take())
            .collect()
    }

    /// The number of the newest publication, 0 before the first.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    /// Bytes of all publications since the start.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that wait for the slowest reader.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.appended_bytes().saturating_sub(self.slowest())
    }

    /// Bytes that the slowest reader has finished.
    fn slowest(&self) -> u64 {
        let finished = self.finished.iter();
        let bytes = finished.map(|bytes| bytes.load(Ordering::Relaxed));
        bytes.min().unwrap_or(0)
    }

    /// Bytes of history kept.
    pub(crate) fn history_bytes(&self) -> usize {
        self.head.lock().history_bytes
    }
}

impl Head {
    /// The number of the oldest publication that is kept.
    fn oldest(&self) -> u64 {
        let oldest = self.history.front().map(|(segment, _)| segment);
        let first = oldest.unwrap_or(&self.segment).first_seq();
        first.unwrap_or(self.next_seq)
    }

    /// Ends the segment and opens the next one.
    fn seal(&mut self) {
        let next = Segment::new();
        let _ = self.segment.next.set(next.clone());
        let full = std::mem::replace(&mut self.segment, next);
        let bytes = std::mem::take(&mut self.segment_bytes);
        self.used = 0;
        self.history.push_back((full, bytes));
        self.history_bytes += bytes;
    }
}

impl Segment {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: (0..SEGMENT_SLOTS).map(|_| OnceLock::new()).collect(),
            next: OnceLock::new(),
        })
    }
}

impl Segment {
    fn first_seq(&self) -> Option<u64> {
        let first = self.slots.first().and_then(OnceLock::get);
        first.map(|publication| publication.seq())
    }
}

impl Drop for Segment {
    /// Unlinks the chain in a loop: dropping it link by link would need a stack as deep as the chain is long.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut segment) = next.and_then(Arc::into_inner) {
            next = segment.next.take();
        }
    }
}

impl Cursor {
    /// The next publication, if there is one yet. Never waits.
    pub(crate) fn next(&mut self) -> Option<Arc<Publication>> {
        loop {
            if let Some(publication) = self.segment.slots.get(self.index).and_then(OnceLock::get) {
                self.index += 1;
                self.taken_bytes += publication.footprint() as u64;
                return Some(publication.clone());
            }
            let next = self.segment.next.get()?;
            // The segment was ended early, or between the two looks: slots are set before the link is.
            if self
                .segment
                .slots
                .get(self.index)
                .is_some_and(|slot| slot.get().is_some())
            {
                continue;
            }
            self.segment = next.clone();
            self.index = 0;
        }
    }

    /// Whether [`Self::next`] would give something.
    pub(crate) fn has_next(&self) -> bool {
        self.segment
            .slots
            .get(self.index)
            .is_some_and(|slot| slot.get().is_some())
            || self.segment.next.get().is_some()
    }

    /// Bytes of all publications that were taken, or stood before its place, since the start.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Says that everything taken so far is dealt with, which makes room for new publications.
    pub(crate) fn finish(&self) {
        self.finished.store(self.taken_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::tests::draft;

    const NO_LIMIT: u64 = u64::MAX;

    #[test]
    fn each_reader_sees_every_publication_in_order() {
        let (log, mut cursors) = Log::new(3);
        for n in 1..=1000 {
            assert_eq!(log.append(draft(&["t"], &n.to_string()), NO_LIMIT), Ok(n));
        }
        for cursor in &mut cursors {
            for n in 1..=1000 {
                assert_eq!(cursor.next().unwrap().seq(), n);
            }
            assert!(!cursor.has_next());
            assert!(cursor.next().is_none());
        }
    }

    #[test]
    fn concurrent_writers_lose_nothing_and_keep_their_own_order() {
        let (log, mut cursors) = Log::new(1);
        let (writers, each) = (4, 5_000_u64);
        let mut cursor = cursors.pop().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..writers {
                let log = &log;
                scope.spawn(move || {
                    for n in 0..each {
                        log.append(draft(&[], &format!("{writer} {n}")), NO_LIMIT)
                            .unwrap();
                    }
                });
            }
            let mut next = vec![0; writers];
            let mut seen = 0;
            while seen < each * writers as u64 {
                let Some(publication) = cursor.next() else {
                    std::thread::yield_now();
                    continue;
                };
                seen += 1;
                assert_eq!(publication.seq(), seen);
                let (_, data) = publication.raw_frame();
                let text: String = serde_json::from_slice(data).unwrap();
                let (writer, n) = text.split_once(' ').unwrap();
                let writer: usize = writer.parse().unwrap();
                assert_eq!(n.parse::<u64>().unwrap(), next[writer]);
                next[writer] += 1;
            }
        });
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_until_the_slowest_reader_is_done() {
        let (log, mut cursors) = Log::new(2);
        let message = || draft(&["t"], &"x".repeat(1000));
        let size = message().footprint() as u64;
        let loss = message().into_loss().footprint() as u64;
        let limit = size * 8;
        let append = || log.append(message(), limit);
        for n in 1..=8 {
            assert_eq!(append(), Ok(n));
        }
        // An eighth more may wait for those who are told of losses.
        let told = limit / LOSS_SHARE / loss;
        assert!(told > 1);
        for _ in 0..told + 5 {
            assert_eq!(append(), Err(Rejected::Overload));
        }
        assert_eq!(log.waiting_bytes(), limit + told * loss);
        let mut slow = cursors.pop().unwrap();
        let mut fast = cursors.pop().unwrap();
        while fast.next().is_some() {}
        fast.finish();
        assert_eq!(append(), Err(Rejected::Overload));
        for _ in 0..3 {
            slow.next().unwrap();
        }
        slow.finish();
        // The others are told of before anything else is said.
        assert_eq!(append(), Ok(8 + told + 2));
        let seen: Vec<_> = std::iter::from_fn(|| fast.next()).collect();
        assert_eq!(seen[0].lost_messages(), 6);
        assert!(seen[0].concerns_everybody());
        assert_eq!(seen[1].lost_messages(), 0);
        assert!(!log.settle());
    }

    #[test]
    fn losses_are_told_when_nobody_publishes_any_more() {
        let (log, mut cursors) = Log::new(1);
        assert_eq!(log.append(draft(&["t"], "x"), 1), Err(Rejected::Overload));
        assert!(cursors[0].next().is_none());
        assert!(log.settle());
        assert!(!log.settle());
        let loss = cursors[0].next().unwrap();
        assert_eq!((loss.seq(), loss.lost_messages()), (1, 1));
        let json: serde_json::Value = serde_json::from_slice(&loss.json_frame()[2..]).unwrap();
        let expected = serde_json::json!(
            {"type": "gap", "reason": "overload", "dropped": 1, "after": 0, "next": 2});
        assert_eq!(json, expected);
    }

    #[test]
    fn past_publications_are_read_by_number() {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        let seqs =
            |past: &Past| -> Vec<u64> { past.publications.iter().map(|p| p.seq()).collect() };
        assert_eq!(log.read(1, 9).oldest, 1);
        for _ in 0..1000 {
            log.append(draft(&["t"], &"x".repeat(1000)), NO_LIMIT)
                .unwrap();
        }
        for from in [1, 2, 100, 128, 129, 130, 500, 999, 1000] {
            let expected: Vec<u64> = (from..=1000).take(7).collect();
            assert_eq!(seqs(&log.read(from, 7)), expected);
        }
        assert!(log.read(1001, 7).publications.is_empty());
        let mut from = 1;
        while from <= 1000 {
            let past = log.read(from, 300);
            assert_eq!(past.publications[0].seq(), from);
            from = past.publications.last().unwrap().seq() + 1;
        }
        log.trim(256 * 1024);
        let past = log.read(1, 5);
        assert!(past.oldest > 1);
        assert_eq!(seqs(&past), (past.oldest..).take(5).collect::<Vec<_>>());
        log.trim(0);
        let past = log.read(1, 5000);
        assert_eq!(seqs(&past), (past.oldest..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn history_keeps_to_its_bytes() {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        for _ in 0..2000 {
            log.append(draft(&["t"], &"x".repeat(1000)), NO_LIMIT)
                .unwrap();
            log.trim(1 << 20);
            assert!(log.history_bytes() <= 1 << 20);
        }
        assert!(log.history_bytes() > (1 << 20) - 2 * SEGMENT_BYTES);
    }

    #[test]
    fn a_long_chain_is_dropped_without_a_deep_stack() {
        let (log, cursors) = Log::new(1);
        for _ in 0..SEGMENT_SLOTS * 20_000 / 128 {
            log.append(draft(&[], ""), NO_LIMIT).unwrap();
            log.head.lock().seal();
        }
        drop(log);
        drop(cursors);
    }
}
