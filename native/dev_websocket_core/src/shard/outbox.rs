//! The send buffer of one connection, and the writes to its socket.
//!
//! While the socket takes everything, nothing is kept here: the publications of a batch go out in one vectored write.
//! The rest is queued up to a number of bytes; beyond that the slow policy decides. Only complete frames are dropped,
//! and only publications: all other frames are bounded where they are created.

mod gap;
mod queued;
mod send_counts;

use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;

use arrayvec::ArrayVec;
use bytes::Bytes;

use self::gap::Gap;
use self::queued::Queued;
pub(crate) use self::send_counts::{Dropped, SendCounts};
use super::batch::Batch;
use super::frames::{Frames, Parts, length, parts, parts_per_frame, saved};
use crate::log::publication::Publication;
use crate::message::topic::{PrecomputedHash, Topic};
use crate::wire::control::{GapReason, Reply};
use crate::wire::format::{Form, Format};
use crate::wire::gzip;
use crate::wire::sse;

/// Limit on the slices of one vectored write; the system takes no more (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Number of entries whose memory is kept when the send buffer is empty.
const KEPT_ENTRIES: usize = 32;

/// Memory of a queued publication besides its bytes, which are shared. With many slow clients this is the larger part.
const PLACE: usize = size_of::<Entry>();

type Slices<'s> = ArrayVec<IoSlice<'s>, MAX_SLICES>;

/// The frames queued for one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are on the socket already.
    written: usize,
    /// Bytes of the queued publications, including their entries in the queue.
    waiting: usize,
    /// Number of queued frames of a slot replay.
    replayed: usize,
    form: Form,
    /// True if the socket took less than it was given. It reports when it takes more.
    blocked: bool,
    /// Entries visited in order to drop some.
    #[cfg(test)]
    steps: usize,
}

#[derive(Debug)]
enum Entry {
    Publication(Queued),
    /// A frame of a slot replay. It is not dropped, because a replay waits for its client.
    Replayed(Bytes),
    Control(Bytes),
    /// A frame for this connection alone.
    Direct(Bytes),
    Gap(Gap),
    /// An encoded gap. The client did not request it, so it does not count as control bytes.
    GapFrame(Bytes),
}

impl Entry {
    /// Returns 1 for a message, and 0 for anything else, such as a report of lost messages.
    fn messages(&self) -> u64 {
        match self {
            Self::Publication(publication) => u64::from(publication.is_message()),
            _ => 0,
        }
    }
}

impl Outbox {
    pub(crate) fn new(form: impl Into<Form>) -> Self {
        Self {
            form: form.into(),
            ..Self::default()
        }
    }

    /// Returns true if the socket has to report when it takes more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Returns true if everything is on the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns true if the queued publications exceed `limit` bytes.
    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.waiting > limit
    }

    /// Returns the bytes of queued publications, including their entries in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the number of queued entries of all kinds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of queued messages, without reports of lost messages.
    pub(crate) fn publications(&self) -> u64 {
        self.entries.iter().map(Entry::messages).sum()
    }

    /// Queues a control frame.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        self.entries.push_back(Entry::Control(frame));
    }

    /// Queues a frame for this connection alone.
    pub(crate) fn push_direct(&mut self, frame: Bytes) {
        self.entries.push_back(Entry::Direct(frame));
    }

    /// Queues a frame of a slot replay.
    pub(crate) fn push_replayed(&mut self, frame: Bytes) {
        self.replayed += 1;
        self.entries.push_back(Entry::Replayed(frame));
    }

    /// Returns true if frames of a slot replay are queued.
    pub(crate) fn has_replayed(&self) -> bool {
        self.replayed > 0
    }

    /// Queues a publication.
    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        self.push_with(publication, None);
    }

    /// Queues a publication, maybe with an end of its server-sent event that is the connection's own.
    pub(crate) fn push_with(&mut self, publication: Arc<Publication>, end: Option<Box<[u8]>>) {
        let queued = Queued::new(publication, end);
        self.waiting += queued.length(self.form) + PLACE;
        self.entries.push_back(Entry::Publication(queued));
    }

    /// Sends publications of a batch at once and queues those that the socket does not take.
    ///
    /// The send buffer must be empty.
    ///
    /// # Errors
    /// The socket is broken. Unsent publications are queued in this case too, so that they can be counted.
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
        let mut joined_saved = frames.joined_saved;
        while !rest.is_empty() {
            let mut slices = Slices::new();
            let mut bytes = joined.len();
            let mut saved_bytes = std::mem::take(&mut joined_saved);
            if chunk > 0 {
                slices.push(IoSlice::new(joined));
            }
            for seq in rest[chunk..].iter().take(self.per_write()) {
                let publication = batch.get(*seq);
                bytes += push_slices(&mut slices, publication, self.form);
                saved_bytes += saved(publication, self.form);
                chunk += 1;
            }
            let result = write_slices(&slices, sent, &mut write);
            if result.as_ref().is_ok_and(|taken| *taken == bytes) {
                sent.publications += batch.messages(&rest[..chunk]);
                sent.saved_bytes += saved_bytes as u64;
                rest = &rest[chunk..];
                (joined, chunk) = (&[], 0);
                continue;
            }
            // The first frames may be complete. The others are queued, beginning with the one that was cut.
            let mut left = result.as_ref().map_or(0, |taken| *taken);
            for seq in rest {
                let publication = batch.get(*seq);
                let length = self.length(publication);
                if self.entries.is_empty() && left >= length {
                    left -= length;
                    sent.publications += u64::from(publication.is_message());
                    sent.saved_bytes += saved(publication, self.form) as u64;
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

    /// Sends queued frames until the socket takes no more.
    ///
    /// # Errors
    /// The socket is broken.
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

    /// Writes the first entries once. Returns the number of bytes taken.
    fn write_front(
        &self,
        sent: &mut SendCounts,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut slices = Slices::new();
        for entry in self.entries.iter().take(self.per_write()) {
            match entry {
                Entry::Publication(queued) => {
                    push_parts(&mut slices, &queued.parts(self.form));
                }
                Entry::Replayed(frame)
                | Entry::Control(frame)
                | Entry::Direct(frame)
                | Entry::GapFrame(frame) => slices.push(IoSlice::new(frame)),
                Entry::Gap(_) => break,
            }
        }
        let mut remaining = slices.as_mut_slice();
        IoSlice::advance_slices(&mut remaining, self.written);
        write_slices(remaining, sent, write)
    }

    /// Removes the bytes that the socket took.
    fn forget(&mut self, taken: usize, sent: &mut SendCounts) {
        self.written += taken;
        while let Some(entry) = self.entries.front() {
            let length = match entry {
                Entry::Publication(queued) => queued.length(self.form),
                Entry::Replayed(frame)
                | Entry::Control(frame)
                | Entry::Direct(frame)
                | Entry::GapFrame(frame) => frame.len(),
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
                    sent.saved_bytes += saved(&publication, self.form) as u64;
                }
                Some(Entry::Replayed(_)) => self.replayed -= 1,
                Some(Entry::Control(_)) => sent.control_bytes += length,
                Some(Entry::Direct(_)) => sent.direct_bytes += length,
                _ => {}
            }
        }
    }

    /// Drops the oldest publications until at most `limit` bytes are queued. A gap takes their place. Returns the
    /// number of dropped messages.
    pub(crate) fn drop_oldest(&mut self, limit: usize) -> u64 {
        self.drop_oldest_but_one(limit, limit)
    }

    /// Drops the oldest publications until at most `low` bytes are queued, but the last one only above `limit` bytes.
    fn drop_oldest_but_one(&mut self, low: usize, limit: usize) -> u64 {
        let mut dropped = 0;
        // A frame that is partly on the socket must be finished.
        let mut place = usize::from(self.written > 0);
        while self.waiting > low && place < self.entries.len() {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            let publication = match &self.entries[place] {
                Entry::Publication(publication) if !publication.begins_epoch() => publication,
                _ => {
                    place += 1;
                    continue;
                }
            };
            let is_publication = |entry: &Entry| matches!(entry, Entry::Publication(_));
            if self.waiting <= limit && !self.entries.range(place + 1..).any(is_publication) {
                break;
            }
            let gap = Gap::of(publication);
            self.waiting -= publication.length(self.form) + PLACE;
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

    /// Drops publications of a client that wants the latest, if more than `limit` bytes are queued. Publications with a
    /// newer one of the same topic go first, then the oldest. Returns the number of dropped messages.
    ///
    /// It frees a quarter of the limit, so that the bytes until the next call pay for a scan of the whole queue. The
    /// newest publication stays as long as it fits.
    pub(crate) fn drop_for_latest(&mut self, limit: usize) -> u64 {
        let low = limit - limit / 4;
        self.drop_superseded(low) + self.drop_oldest_but_one(low, limit)
    }

    /// Drops publications with a newer one of the same topic, oldest first, until at most `limit` bytes are queued.
    /// Gaps take their places. Returns the number of dropped messages.
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
                // A report of a missing message is not a newer value of its topic.
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
                    self.waiting -= publication.length(self.form) + PLACE;
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

    /// Drops every publication that is not partly on the socket, for a connection that is being closed. Entries behind
    /// the first of them are dropped too: they would suggest that the publications have arrived.
    pub(crate) fn drop_all(&mut self) -> Dropped {
        let partial = usize::from(self.written > 0);
        let is_publication =
            |entry: &Entry| matches!(entry, Entry::Publication(_) | Entry::Replayed(_));
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
                    Entry::Replayed(_) => self.replayed -= 1,
                    Entry::Gap(_) | Entry::GapFrame(_) => {}
                }
            }
        }
        self.waiting = match self.entries.front() {
            Some(Entry::Publication(publication)) => publication.length(self.form) + PLACE,
            _ => 0,
        };
        dropped
    }

    /// Encodes the gaps that the next write sends.
    fn encode_gaps(&mut self) {
        for place in 0..self.entries.len().min(self.per_write()) {
            if let Entry::Gap(gap) = self.entries[place] {
                let next = self.entries.range(place..).find_map(|entry| match entry {
                    Entry::Publication(one) => {
                        Some((!one.begins_epoch()).then(|| one.first_number()))
                    }
                    _ => None,
                });
                let reply = Reply::Gap {
                    reason: GapReason::Slow,
                    dropped: gap.dropped,
                    after: gap.first - 1,
                    next: next.flatten().unwrap_or(gap.last + 1),
                    epoch: None,
                };
                let frame = reply.encode();
                self.entries[place] = Entry::GapFrame(match self.form.format {
                    Format::Events => gzip::of(sse::of(&frame, sse::END), self.form.is_compressed),
                    Format::Json | Format::Raw | Format::Edges => frame,
                });
            }
        }
    }

    fn length(&self, publication: &Publication) -> usize {
        length(publication, self.form)
    }

    /// Number of publications that fit into one write, besides one more slice.
    fn per_write(&self) -> usize {
        (MAX_SLICES - 1) / parts_per_frame(self.form.format)
    }
}

fn push_slices<'s>(slices: &mut Slices<'s>, publication: &'s Publication, form: Form) -> usize {
    push_parts(slices, &parts(publication, form))
}

fn push_parts<'s>(slices: &mut Slices<'s>, parts: &Parts<'s>) -> usize {
    slices.extend(parts.iter().map(|part| IoSlice::new(part)));
    parts.iter().map(|part| part.len()).sum()
}

/// Writes once. Returns 0 if the socket takes nothing now.
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
