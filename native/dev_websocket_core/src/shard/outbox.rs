//! What one connection is still to be sent, and how it gets onto the socket.
//!
//! While the socket takes everything, nothing is kept here: the publications of a batch go out in one vectored write.
//! What the socket does not take waits, up to a number of bytes; beyond that the slow policy decides. Only whole frames
//! are ever dropped, and only publications: all other frames are bounded where they are made.

mod send_counts;

use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;

use arrayvec::ArrayVec;
use bytes::Bytes;

pub(crate) use self::send_counts::{Dropped, SendCounts};
use super::batch::Batch;
use super::frames::{Frames, length, parts, parts_per_frame};
use crate::log::publication::Publication;
use crate::message::topic::{PrecomputedHash, Topic};
use crate::wire::control::{GapReason, Reply};
use crate::wire::format::Format;
use crate::wire::sse;

/// Buffers of one vectored write; the system takes no more (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Entries whose memory is kept when nothing waits any more.
const KEPT_ENTRIES: usize = 32;

/// What a waiting publication costs beside its bytes, which are context: with many slow clients this is the larger part.
const PLACE: usize = size_of::<Entry>();

type Slices<'s> = ArrayVec<IoSlice<'s>, MAX_SLICES>;

/// The frames that wait for one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are on the socket already.
    written: usize,
    /// Bytes of the publications that wait, with their places in the queue.
    waiting: usize,
    format: Format,
    /// The socket took less than it was given; it will say when it takes more.
    blocked: bool,
    /// Entries that were looked at to drop some.
    #[cfg(test)]
    steps: usize,
}

#[derive(Debug)]
enum Entry {
    Publication(Arc<Publication>),
    Control(Bytes),
    /// A frame for this connection alone.
    Direct(Bytes),
    Gap(Gap),
    /// A gap as it goes out. Nobody asked for it, so it does not count as control bytes.
    GapFrame(Bytes),
}

impl Entry {
    /// One if it is a publication, and not what tells of lost messages.
    fn messages(&self) -> u64 {
        match self {
            Self::Publication(publication) => u64::from(publication.is_message()),
            _ => 0,
        }
    }
}

/// Publications that were dropped in one place.
#[derive(Debug, Clone, Copy)]
struct Gap {
    dropped: u64,
    first: u64,
    last: u64,
}

impl Gap {
    fn of(publication: &Publication) -> Self {
        Self {
            // One that tells of lost messages stands for them.
            dropped: publication.lost_messages().max(1),
            first: publication.seq(),
            last: publication.seq(),
        }
    }

    fn extend(&mut self, next: Gap) {
        self.dropped += next.dropped;
        self.last = next.last;
    }
}

impl Outbox {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }

    /// Whether the socket is to say when it takes more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether everything is on the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether more than `limit` bytes of publications wait.
    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.waiting > limit
    }

    /// Bytes of publications that wait, with their places in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How much waits, of whatever kind.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many publications wait, without what tells of lost messages.
    pub(crate) fn publications(&self) -> u64 {
        self.entries.iter().map(Entry::messages).sum()
    }

    /// Puts a control frame behind what waits.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        self.entries.push_back(Entry::Control(frame));
    }

    /// Puts a frame for this connection alone behind what waits.
    pub(crate) fn push_direct(&mut self, frame: Bytes) {
        self.entries.push_back(Entry::Direct(frame));
    }

    /// Puts a publication behind what waits.
    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        self.waiting += self.length(&publication) + PLACE;
        self.entries.push_back(Entry::Publication(publication));
    }

    /// Sends publications of a batch at once; what the socket does not take waits.
    ///
    /// To be called only while nothing waits.
    ///
    /// # Errors
    /// When the socket is broken. What was not sent waits then too, so that it can be counted.
    pub(crate) fn send(
        &mut self,
        batch: &Batch,
        frames: Frames<'_>,
        sent: &mut SendCounts,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        debug_assert!(self.entries.is_empty());
        let mut rest = frames.seqs;
        let (mut joined, mut chunk) = (frames.joined, frames.joined_count);
        while !rest.is_empty() {
            let mut slices = Slices::new();
            let mut bytes = joined.len();
            if chunk > 0 {
                slices.push(IoSlice::new(joined));
            }
            for seq in rest[chunk..].iter().take(self.per_write()) {
                bytes += push_slices(&mut slices, batch.get(*seq), self.format);
                chunk += 1;
            }
            let result = write_slices(&slices, sent, &mut write);
            if result.as_ref().is_ok_and(|taken| *taken == bytes) {
                sent.publications += batch.messages(&rest[..chunk]);
                rest = &rest[chunk..];
                (joined, chunk) = (&[], 0);
                continue;
            }
            // The first frames may be complete; the others wait, the one that is cut at their head.
            let mut left = result.as_ref().map_or(0, |taken| *taken);
            for seq in rest {
                let publication = batch.get(*seq);
                let length = self.length(publication);
                if self.entries.is_empty() && left >= length {
                    left -= length;
                    sent.publications += u64::from(publication.is_message());
                } else {
                    self.push(publication.clone());
                }
            }
            self.written = left;
            result?;
            return self.flush(sent, &mut write);
        }
        Ok(())
    }

    /// Sends what waits until the socket takes no more.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn flush(
        &mut self,
        sent: &mut SendCounts,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.blocked = false;
        while !self.entries.is_empty() {
            self.encode_gaps();
            let taken = self.write_front(sent, &mut write)?;
            self.forget(taken, sent);
            if taken == 0 {
                self.blocked = true;
                break;
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            self.entries = VecDeque::new();
        }
        Ok(())
    }

    /// One write of what is first in line, and how many bytes of it were taken.
    fn write_front(
        &self,
        sent: &mut SendCounts,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut slices = Slices::new();
        for entry in self.entries.iter().take(self.per_write()) {
            match entry {
                Entry::Publication(publication) => {
                    push_slices(&mut slices, publication, self.format);
                }
                Entry::Control(frame) | Entry::Direct(frame) | Entry::GapFrame(frame) => {
                    slices.push(IoSlice::new(frame))
                }
                Entry::Gap(_) => break,
            }
        }
        let mut remaining = slices.as_mut_slice();
        IoSlice::advance_slices(&mut remaining, self.written);
        write_slices(remaining, sent, write)
    }

    /// Removes what the socket took.
    fn forget(&mut self, taken: usize, sent: &mut SendCounts) {
        self.written += taken;
        while let Some(entry) = self.entries.front() {
            let length = match entry {
                Entry::Publication(publication) => self.length(publication),
                Entry::Control(frame) | Entry::Direct(frame) | Entry::GapFrame(frame) => {
                    frame.len()
                }
                Entry::Gap(_) => break,
            };
            if self.written < length {
                break;
            }
            self.written -= length;
            match self.entries.pop_front() {
                Some(Entry::Publication(publication)) => {
                    self.waiting -= length + PLACE;
                    sent.publications += u64::from(publication.is_message());
                }
                Some(Entry::Control(_)) => sent.control_bytes += length,
                Some(Entry::Direct(_)) => sent.direct_bytes += length,
                _ => {}
            }
        }
    }

    /// Drops the oldest publications until at most `limit` bytes wait; a gap takes their place. Says how many.
    pub(crate) fn drop_oldest(&mut self, limit: usize) -> u64 {
        self.drop_oldest_but_one(limit, limit)
    }

    /// The same, but the last publication is dropped only when more than `limit` bytes wait.
    fn drop_oldest_but_one(&mut self, low: usize, limit: usize) -> u64 {
        let mut dropped = 0;
        // A frame that is partly on the socket must be finished.
        let mut place = usize::from(self.written > 0);
        while self.waiting > low && place < self.entries.len() {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            let Entry::Publication(publication) = &self.entries[place] else {
                place += 1;
                continue;
            };
            let is_publication = |entry: &Entry| matches!(entry, Entry::Publication(_));
            if self.waiting <= limit && !self.entries.range(place + 1..).any(is_publication) {
                break;
            }
            let gap = Gap::of(publication);
            self.waiting -= self.length(publication) + PLACE;
            dropped += u64::from(publication.is_message());
            match place
                .checked_sub(1)
                .and_then(|before| self.entries.get_mut(before))
            {
                Some(Entry::Gap(before)) => {
                    before.extend(gap);
                    self.entries.remove(place);
                }
                _ => {
                    self.entries[place] = Entry::Gap(gap);
                    place += 1;
                }
            }
        }
        dropped
    }

    /// Drops what matters least to a client that wants the latest, when more than `limit` bytes wait: first publications
    /// that a newer one of the same topic follows, then the oldest. Says how many.
    ///
    /// It makes room for a quarter of the limit, so that a look at everything is paid for by the bytes that come until the
    /// next one. The newest stays as long as it fits.
    pub(crate) fn drop_for_latest(&mut self, limit: usize) -> u64 {
        let low = limit - limit / 4;
        self.drop_superseded(low) + self.drop_oldest_but_one(low, limit)
    }

    /// Drops publications that a newer one of the same topic follows, the oldest first, until at most `limit` bytes
    /// wait; gaps take their places. Says how many.
    fn drop_superseded(&mut self, limit: usize) -> u64 {
        // A frame that is partly on the socket must be finished.
        let partial = usize::from(self.written > 0);
        let mut newer: HashSet<&Topic, PrecomputedHash> = HashSet::default();
        let mut superseded = vec![false; self.entries.len()];
        #[cfg(test)]
        {
            self.steps += self.entries.len();
        }
        for (place, entry) in self.entries.iter().enumerate().skip(partial).rev() {
            if let Entry::Publication(publication) = entry
                && let Some(topic) = publication.topics().first()
            {
                // What tells of a missing message is no newer value of its topic.
                superseded[place] = if publication.is_message() {
                    !newer.insert(topic)
                } else {
                    newer.contains(&topic)
                };
            }
        }
        let mut dropped = 0;
        let mut kept: VecDeque<Entry> = VecDeque::with_capacity(self.entries.len());
        for (entry, superseded) in std::mem::take(&mut self.entries)
            .into_iter()
            .zip(superseded)
        {
            let gap = match entry {
                Entry::Publication(publication) if superseded && self.waiting > limit => {
                    self.waiting -= self.length(&publication) + PLACE;
                    dropped += u64::from(publication.is_message());
                    Gap::of(&publication)
                }
                Entry::Gap(gap) => gap,
                entry => {
                    kept.push_back(entry);
                    continue;
                }
            };
            match kept.back_mut() {
                Some(Entry::Gap(before)) => before.extend(gap),
                _ => kept.push_back(Entry::Gap(gap)),
            }
        }
        self.entries = kept;
        dropped
    }

    /// Drops every publication that is not partly on the socket, for a connection that is being closed. What stands behind
    /// the first of them goes too: it would say that they have come.
    pub(crate) fn drop_all(&mut self) -> Dropped {
        let partial = usize::from(self.written > 0);
        let is_publication = |entry: &Entry| matches!(entry, Entry::Publication(_));
        let place = self.entries.iter().skip(partial).position(is_publication);
        let mut dropped = Dropped::default();
        if let Some(place) = place {
            for entry in self.entries.drain(partial + place..) {
                match entry {
                    Entry::Publication(publication) => {
                        dropped.publications += u64::from(publication.is_message());
                    }
                    Entry::Control(frame) => dropped.control_bytes += frame.len(),
                    Entry::Direct(frame) => dropped.direct_bytes += frame.len(),
                    Entry::Gap(_) | Entry::GapFrame(_) => {}
                }
            }
        }
        self.waiting = match self.entries.front() {
            Some(Entry::Publication(publication)) => self.length(publication) + PLACE,
            _ => 0,
        };
        dropped
    }

    /// Turns the gaps that are about to be sent into frames.
    fn encode_gaps(&mut self) {
        for place in 0..self.entries.len().min(self.per_write()) {
            if let Entry::Gap(gap) = self.entries[place] {
                let next = self.entries.range(place..).find_map(|entry| match entry {
                    Entry::Publication(publication) => Some(publication.seq()),
                    _ => None,
                });
                let reply = Reply::Gap {
                    reason: GapReason::Slow,
                    dropped: gap.dropped,
                    after: gap.first - 1,
                    next: next.unwrap_or(gap.last + 1),
                };
                let frame = reply.encode();
                self.entries[place] = Entry::GapFrame(match self.format {
                    Format::Events => sse::of(&frame, sse::END),
                    Format::Json | Format::Raw => frame,
                });
            }
        }
    }

    fn length(&self, publication: &Publication) -> usize {
        length(publication, self.format)
    }

    /// Publications that fit into one write beside one slice.
    fn per_write(&self) -> usize {
        (MAX_SLICES - 1) / parts_per_frame(self.format)
    }
}

fn push_slices<'s>(slices: &mut Slices<'s>, publication: &'s Publication, format: Format) -> usize {
    let parts = parts(publication, format);
    slices.extend(parts.iter().map(|part| IoSlice::new(part)));
    parts.iter().map(|part| part.len()).sum()
}

/// One write; 0 when the socket takes nothing now.
fn write_slices(
    slices: &[IoSlice<'_>],
    sent: &mut SendCounts,
    write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        sent.writes += 1;
        match write(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                sent.bytes += taken as u64;
                return Ok(taken);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
