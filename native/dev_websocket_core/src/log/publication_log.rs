//! The publication log orders messages, and all shards read from it.
//!
//! One lock gives each publication its sequence number and its slot; readers take no lock. The log is a chain of
//! segments, and a writer shard walks it with a [`Cursor`]. The newest publications are the history, limited by its
//! bytes. The publish queue, the fan-out to shards and the history are therefore one structure and one copy.

use std::collections::VecDeque;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::error::Rejected;
use crate::log::publication::Publication;
use crate::log::publication::draft::Draft;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock};

/// The maximum number of publications per segment; it is small so that an almost idle log holds little memory.
const SEGMENT_SLOTS: usize = if cfg!(loom) { 2 } else { 128 };

/// The bytes after which a segment is full, so that the history is trimmed in small steps.
const SEGMENT_BYTES: u64 = 128 * 1024;

/// The maximum number of segments per read. The oldest segment may hold only forgotten publications; the next one
/// holds some that are kept.
const READ_SEGMENTS: usize = 4;

/// The divisor for the extra room of gap notices: a full queue accepts this share of its limit on top.
const LOSS_SHARE: u64 = 8;

/// The publication log of one server; sequence numbers start at 1.
#[derive(Debug)]
pub(crate) struct Log {
    head: Mutex<Head>,
    /// The bytes since the start that each reader has finished; they bound the publish queue.
    finished: Box<[Arc<AtomicU64>]>,
    /// The bytes of all publications since the start. This field and `last_seq` are written under the lock and read
    /// without it.
    appended_bytes: AtomicU64,
    last_seq: AtomicU64,
}

#[derive(Debug)]
struct Head {
    next_seq: u64,
    /// The difference between the numbers that clients see and the places in the log, wrapping.
    offset: u64,
    /// The open segment; `used` counts its occupied slots.
    segment: Arc<Segment>,
    used: usize,
    /// The bytes of all publications before the open segment.
    segment_start: u64,
    /// The next segment, which a reader allocates ahead.
    next_segment: Option<Arc<Segment>>,
    history: VecDeque<Sealed>,
    /// The maximum number of bytes in the history.
    history_limit: u64,
    /// The limit of forgetting: publications that begin before this many bytes since the start are gone for good.
    cut: u64,
    /// The number of lost messages for which the queue had no room for a gap notice either.
    untold_losses: u64,
}

/// A full segment. Its search keys are stored here so that a search does not touch the segment.
#[derive(Debug)]
struct Sealed {
    first_seq: u64,
    /// The bytes of all publications before this segment.
    start: u64,
    segment: Arc<Segment>,
}

/// Past publications, in the order of the request.
#[derive(Debug, Default)]
pub(crate) struct PastPublications {
    pub(crate) publications: Vec<Arc<Publication>>,
    /// The requested sequence number, or that of the oldest publication if greater; publications between them are
    /// forgotten.
    pub(crate) first: u64,
}

/// The segments of one read.
struct Window {
    segments: ArrayVec<Arc<Segment>, READ_SEGMENTS>,
    cut: u64,
    next_seq: u64,
}

#[derive(Debug)]
struct Segment {
    slots: Box<[OnceLock<Slot>]>,
    next: OnceLock<Arc<Segment>>,
}

#[derive(Debug)]
struct Slot {
    /// The bytes of all publications before this one.
    start: u64,
    publication: Arc<Publication>,
}

/// A reader's position in the log.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: Arc<Segment>,
    index: usize,
    taken_bytes: u64,
    finished: Arc<AtomicU64>,
}

impl Log {
    /// Makes an empty log and its readers.
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
            offset: 0,
            segment,
            used: 0,
            segment_start: 0,
            next_segment: None,
            history: VecDeque::new(),
            history_limit: u64::MAX,
            cut: 0,
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

    /// Appends a message. Publishing never blocks on readers: the lock is held for a number and a pointer.
    ///
    /// # Errors
    /// The call returns [`Rejected::Overload`] when more than `queue_limit` bytes would wait for the slowest reader. A
    /// gap notice then replaces the message; notices may exceed the limit a little.
    pub(crate) fn append(&self, draft: Draft, queue_limit: u64) -> Result<u64, Rejected> {
        self.append_locked(&mut self.head.lock(), draft, queue_limit)
    }

    /// Appends messages without others between them, or appends none.
    ///
    /// # Errors
    /// The call returns [`Rejected::Overload`] when bytes already wait and more than `queue_limit` would. No message
    /// is then lost.
    pub(crate) fn append_or_none(
        &self,
        drafts: Vec<Draft>,
        queue_limit: u64,
    ) -> Result<(), Rejected> {
        let bytes: u64 = drafts.iter().map(|draft| draft.footprint() as u64).sum();
        let mut head = self.head.lock();
        let waiting = self.waiting_bytes();
        if waiting > 0 && waiting + bytes > queue_limit {
            return Err(Rejected::Overload);
        }
        self.flush_gaps(&mut head);
        for draft in drafts {
            self.put(&mut head, draft);
        }
        Ok(())
    }

    fn append_locked(
        &self,
        head: &mut Head,
        draft: Draft,
        queue_limit: u64,
    ) -> Result<u64, Rejected> {
        let waiting = self.appended_bytes().saturating_sub(self.slowest());
        if waiting + draft.footprint() as u64 <= queue_limit {
            self.flush_gaps(head);
            return Ok(self.put(head, draft));
        }
        let loss = draft.into_loss();
        if waiting + loss.footprint() as u64 <= queue_limit + queue_limit / LOSS_SHARE {
            self.flush_gaps(head);
            self.put(head, loss);
        } else {
            head.untold_losses += 1;
        }
        Err(Rejected::Overload)
    }

    /// Appends a message or notice with a number that a stream gave it, and returns its place. The stream's receiver is
    /// the only appender, and waits for room itself.
    pub(crate) fn append_numbered(&self, draft: Draft, number: u64) -> u64 {
        let mut head = self.head.lock();
        head.offset = number.wrapping_sub(head.next_seq);
        self.put(&mut head, draft)
    }

    /// Appends the gap notice of losses that were not reported yet. A reader calls this after it has made room,
    /// because no later publication may come.
    pub(crate) fn settle(&self) -> bool {
        self.flush_gaps(&mut self.head.lock())
    }

    fn flush_gaps(&self, head: &mut Head) -> bool {
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
        let start = self.appended_bytes();
        let publication = draft.number(seq, seq.wrapping_add(head.offset));
        // Only this function sets slots, under the lock, so the slot is free.
        let _ = head.segment.slots[head.used].set(Slot { start, publication });
        head.used += 1;
        let appended = start + size as u64;
        self.appended_bytes.store(appended, Ordering::Relaxed);
        self.last_seq.store(seq, Ordering::Release);
        if head.used == SEGMENT_SLOTS || appended - head.segment_start >= SEGMENT_BYTES {
            head.seal(appended);
        }
        seq
    }

    /// Reads up to `count` publications from number `from` on, or from the oldest one if that number is forgotten.
    ///
    /// The reader calls again for more instead of holding a position, because a segment keeps all later ones alive.
    pub(crate) fn read(&self, from: u64, count: usize) -> PastPublications {
        let window = self.head.lock().window_from(from, self.appended_bytes());
        let mut kept = window
            .slots()
            .skip_while(|slot| slot.publication.seq() < from)
            .peekable();
        let oldest = kept
            .peek()
            .map_or(window.next_seq, |slot| slot.publication.seq());
        PastPublications {
            first: from.max(oldest),
            publications: kept
                .take(count)
                .map(|slot| slot.publication.clone())
                .collect(),
        }
    }

    /// Reads up to `count` publications before number `before`, newest first. The result is empty when all are
    /// forgotten.
    pub(crate) fn read_back(&self, before: u64, count: usize) -> Vec<Arc<Publication>> {
        let window = self
            .head
            .lock()
            .window_before(before, self.appended_bytes());
        let kept: Vec<_> = window
            .slots()
            .map(|slot| &slot.publication)
            .take_while(|publication| publication.seq() < before)
            .collect();
        kept.into_iter().rev().take(count).cloned().collect()
    }

    /// Sets the maximum number of bytes in the history. Publications beyond it are forgotten at once and for good.
    pub(crate) fn keep(&self, history_limit: u64) {
        let appended = self.appended_bytes();
        let mut head = self.head.lock();
        head.update_cut(appended);
        head.history_limit = history_limit;
        head.update_cut(appended);
    }

    /// Unlinks the segments of forgotten publications and returns the publications that no reader holds. Whole
    /// segments are unlinked, so the memory of one segment may stay.
    ///
    /// Readers call this instead of publishers, because unlinking a segment takes as long as publishing many messages.
    pub(crate) fn trim(&self) -> Vec<Arc<Publication>> {
        let mut forgotten = Vec::new();
        let mut head = self.head.lock();
        let appended = self.appended_bytes();
        let cut = head.update_cut(appended);
        if head.used > 0 && appended <= cut {
            head.seal_early(appended);
        }
        let end = |head: &Head| {
            head.history
                .get(1)
                .map_or(head.segment_start, |next| next.start)
        };
        while !head.history.is_empty() && end(&head) <= cut {
            forgotten.extend(head.history.pop_front());
        }
        let is_wanted = head.next_segment.is_none();
        drop(head);
        if is_wanted {
            let next = Segment::new();
            self.head.lock().next_segment = Some(next);
        }
        forgotten
            .into_iter()
            .filter_map(|sealed| Arc::into_inner(sealed.segment))
            .flat_map(|mut segment| std::mem::take(&mut segment.slots))
            .filter_map(|mut slot| slot.take())
            .map(|slot| slot.publication)
            .collect()
    }

    /// Returns the sequence number of the newest publication; 0 before the first.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    /// Returns the bytes of all publications since the start.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes that wait for the slowest reader.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.appended_bytes().saturating_sub(self.slowest())
    }

    /// Returns the bytes that the slowest reader has finished.
    fn slowest(&self) -> u64 {
        let finished = self.finished.iter();
        let bytes = finished.map(|bytes| bytes.load(Ordering::Relaxed));
        bytes.min().unwrap_or(0)
    }

    /// Returns the bytes of the publications in the history.
    pub(crate) fn history_bytes(&self) -> u64 {
        let mut head = self.head.lock();
        let appended = self.appended_bytes();
        let window = head.window_from(0, appended);
        drop(head);
        window
            .slots()
            .next()
            .map_or(0, |oldest| appended - oldest.start)
    }
}

impl Head {
    /// Updates and returns the limit of forgetting, in bytes since the start.
    fn update_cut(&mut self, appended: u64) -> u64 {
        self.cut = self.cut.max(appended.saturating_sub(self.history_limit));
        self.cut
    }

    /// Returns the segments from that of number `from` on, or from the first one that may hold kept publications.
    fn window_from(&mut self, from: u64, appended: u64) -> Window {
        let cut = self.update_cut(appended);
        let oldest = self.place(|sealed| sealed.start <= cut);
        let first = oldest.max(self.place(|sealed| sealed.first_seq <= from));
        self.window(first, cut)
    }

    /// Returns the segments up to that of the publication before `before`, without those that hold only forgotten
    /// ones.
    fn window_before(&mut self, before: u64, appended: u64) -> Window {
        let cut = self.update_cut(appended);
        let oldest = self.place(|sealed| sealed.start <= cut);
        let is_open = before > self.next_seq - self.used as u64;
        let last = if is_open {
            self.history.len()
        } else {
            self.place(|sealed| sealed.first_seq < before)
        };
        self.window(oldest.max((last + 1).saturating_sub(READ_SEGMENTS)), cut)
    }

    /// Returns the last sealed segment for which the monotone condition holds, or 0 if it holds for none.
    fn place(&self, holds: impl FnMut(&Sealed) -> bool) -> usize {
        self.history.partition_point(holds).saturating_sub(1)
    }

    fn window(&self, first: usize, cut: u64) -> Window {
        let sealed = self.history.iter().skip(first);
        let segments = sealed.map(|sealed| &sealed.segment).chain([&self.segment]);
        Window {
            segments: segments.take(READ_SEGMENTS).cloned().collect(),
            cut,
            next_seq: self.next_seq,
        }
    }

    /// Seals the open segment and opens the next one.
    fn seal(&mut self, appended: u64) {
        let next = self.next_segment.take().unwrap_or_else(Segment::new);
        let _ = self.segment.next.set(next.clone());
        let segment = std::mem::replace(&mut self.segment, next);
        self.history.push_back(Sealed {
            first_seq: self.next_seq - self.used as u64,
            start: self.segment_start,
            segment,
        });
        self.used = 0;
        self.segment_start = appended;
    }

    /// Seals a segment that is not full but holds only forgotten publications.
    fn seal_early(&mut self, appended: u64) {
        self.seal(appended);
    }
}

impl Window {
    /// Returns the slots of kept publications.
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.segments
            .iter()
            .flat_map(|segment| segment.slots.iter().map_while(OnceLock::get))
            .skip_while(|slot| slot.start < self.cut)
    }
}

impl Segment {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: (0..SEGMENT_SLOTS).map(|_| OnceLock::new()).collect(),
            next: OnceLock::new(),
        })
    }

    fn has(&self, index: usize) -> bool {
        self.slots
            .get(index)
            .is_some_and(|slot| slot.get().is_some())
    }
}

impl Drop for Segment {
    /// Unlinks the chain in a loop, because a recursive drop would need a stack as deep as the chain is long.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut segment) = next.and_then(Arc::into_inner) {
            next = segment.next.take();
        }
    }
}

impl Cursor {
    /// Takes the next publication, if there is one. The call never blocks.
    pub(crate) fn next(&mut self) -> Option<Arc<Publication>> {
        loop {
            if let Some(slot) = self.segment.slots.get(self.index).and_then(OnceLock::get) {
                self.index += 1;
                self.taken_bytes += slot.publication.footprint() as u64;
                return Some(slot.publication.clone());
            }
            let next = self.segment.next.get()?;
            // The writer sealed the segment early, or sealed it between the two reads. Slots are set before the link
            // is.
            if self.segment.has(self.index) {
                continue;
            }
            self.segment = next.clone();
            self.index = 0;
        }
    }

    /// Returns whether [`Self::next`] would return a publication. The last publication of a full segment already has a
    /// next segment behind it, which is empty.
    pub(crate) fn has_next(&self) -> bool {
        self.segment.has(self.index) || self.segment.next.get().is_some_and(|next| next.has(0))
    }

    /// Returns the bytes of all publications up to this position, since the start.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Reports that everything taken so far is handled, which makes room for new publications.
    pub(crate) fn finish(&self) {
        self.finished.store(self.taken_bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
