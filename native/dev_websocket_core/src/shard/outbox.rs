//! What one connection is still to be sent, and how it gets onto the socket.
//!
//! While the socket takes everything, nothing is kept here: the publications of a batch go out in one vectored write.
//! What the socket does not take waits, up to a number of bytes; beyond that the slow policy decides. Only whole frames
//! are ever dropped, and replies, pongs and gap frames never are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::batch::Batch;
use super::command::Format;
use super::registry::Seq;
use crate::protocol::{GapReason, Reply};
use crate::publication::Publication;

/// Buffers of one vectored write; the system takes no more (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Entries whose memory is kept when nothing waits any more.
const KEPT_ENTRIES: usize = 32;

type Slices<'s> = ArrayVec<IoSlice<'s>, MAX_SLICES>;

/// The frames that wait for one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are on the socket already.
    written: usize,
    /// Bytes of the publications that wait.
    waiting: usize,
    format: Format,
    /// The socket took less than it was given; it will say when it takes more.
    blocked: bool,
}

#[derive(Debug)]
enum Entry {
    Publication(Arc<Publication>),
    Control(Bytes),
    Gap(Gap),
}

/// Publications that were dropped in one place.
#[derive(Debug, Clone, Copy)]
struct Gap {
    dropped: u64,
    first: u64,
    last: u64,
}

/// What a write came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Publications that are on the socket whole.
    pub(crate) publications: u64,
    /// Bytes that the socket took.
    pub(crate) bytes: u64,
    /// Control bytes among them.
    pub(crate) control_bytes: usize,
    /// System calls.
    pub(crate) writes: u64,
}

impl Sent {
    pub(crate) fn add(&mut self, other: Sent) {
        self.publications += other.publications;
        self.bytes += other.bytes;
        self.control_bytes += other.control_bytes;
        self.writes += other.writes;
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

    /// How many publications wait.
    pub(crate) fn publications(&self) -> u64 {
        self.entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Publication(_)))
            .count() as u64
    }

    /// Puts a control frame behind what waits.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        self.entries.push_back(Entry::Control(frame));
    }

    /// Puts a publication behind what waits.
    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        self.waiting += self.length(&publication);
        self.entries.push_back(Entry::Publication(publication));
    }

    /// Sends publications of a batch at once; what the socket does not take waits.
    ///
    /// To be called only while nothing waits.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn send(
        &mut self,
        batch: &Batch,
        seqs: &[Seq],
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Sent> {
        debug_assert!(self.entries.is_empty());
        let mut sent = Sent::default();
        let mut rest = seqs;
        while !rest.is_empty() {
            let mut slices = Slices::new();
            let mut chunk = 0;
            let mut bytes = 0;
            for seq in rest.iter().take(MAX_SLICES / 2) {
                bytes += push_slices(&mut slices, batch.get(*seq), self.format);
                chunk += 1;
            }
            let taken = write_slices(&slices, &mut write)?;
            sent.writes += 1;
            sent.bytes += taken as u64;
            if taken == bytes {
                sent.publications += chunk as u64;
                rest = &rest[chunk..];
                continue;
            }
            // The first frames may be complete; the others wait, the one that is cut at their head.
            let mut left = taken;
            for seq in rest {
                let publication = batch.get(*seq);
                let length = self.length(publication);
                if self.entries.is_empty() && left >= length {
                    left -= length;
                    sent.publications += 1;
                } else {
                    self.push(publication.clone());
                }
            }
            self.written = left;
            sent.add(self.flush(&mut write)?);
            break;
        }
        Ok(sent)
    }

    /// Sends what waits until the socket takes no more.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Sent> {
        let mut sent = Sent::default();
        self.blocked = false;
        while !self.entries.is_empty() {
            self.encode_gaps();
            let (asked, taken) = self.write_front(&mut write)?;
            sent.writes += 1;
            sent.bytes += taken as u64;
            self.forget(taken, &mut sent);
            if taken == 0 && asked > 0 {
                self.blocked = true;
                break;
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            self.entries = VecDeque::new();
        }
        Ok(sent)
    }

    /// One write of what is first in line. Gives the bytes that were asked for and those that were taken.
    fn write_front(
        &self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<(usize, usize)> {
        let mut slices = Slices::new();
        let mut bytes = 0;
        for entry in self.entries.iter().take(MAX_SLICES / 2) {
            match entry {
                Entry::Publication(publication) => {
                    bytes += push_slices(&mut slices, publication, self.format);
                }
                Entry::Control(frame) => {
                    slices.push(IoSlice::new(frame));
                    bytes += frame.len();
                }
                Entry::Gap(_) => break,
            }
        }
        let mut remaining = slices.as_mut_slice();
        IoSlice::advance_slices(&mut remaining, self.written);
        Ok((bytes - self.written, write_slices(remaining, write)?))
    }

    /// Removes what the socket took.
    fn forget(&mut self, taken: usize, sent: &mut Sent) {
        self.written += taken;
        while let Some(entry) = self.entries.front() {
            let length = match entry {
                Entry::Publication(publication) => self.length(publication),
                Entry::Control(frame) => frame.len(),
                Entry::Gap(_) => break,
            };
            if self.written < length {
                break;
            }
            self.written -= length;
            match self.entries.pop_front() {
                Some(Entry::Publication(_)) => {
                    self.waiting -= length;
                    sent.publications += 1;
                }
                _ => sent.control_bytes += length,
            }
        }
    }

    /// Drops the oldest publications until at most `limit` bytes wait; a gap takes their place. Says how many.
    pub(crate) fn drop_oldest(&mut self, limit: usize) -> u64 {
        let mut dropped = 0;
        // A frame that is partly on the socket must be finished.
        let mut place = usize::from(self.written > 0);
        while self.waiting > limit && place < self.entries.len() {
            let Entry::Publication(publication) = &self.entries[place] else {
                place += 1;
                continue;
            };
            let (seq, length) = (publication.seq(), self.length(publication));
            self.waiting -= length;
            dropped += 1;
            match place
                .checked_sub(1)
                .and_then(|before| self.entries.get_mut(before))
            {
                Some(Entry::Gap(gap)) => {
                    gap.dropped += 1;
                    gap.last = seq;
                    self.entries.remove(place);
                }
                _ => {
                    self.entries[place] = Entry::Gap(Gap {
                        dropped: 1,
                        first: seq,
                        last: seq,
                    });
                    place += 1;
                }
            }
        }
        dropped
    }

    /// Drops every publication that is not partly on the socket. Says how many.
    pub(crate) fn drop_all(&mut self) -> u64 {
        let mut partial = self.written > 0;
        let before = self.entries.len();
        self.entries.retain(|entry| {
            std::mem::take(&mut partial) || !matches!(entry, Entry::Publication(_))
        });
        self.waiting = match self.entries.front() {
            Some(Entry::Publication(publication)) => self.length(publication),
            _ => 0,
        };
        (before - self.entries.len()) as u64
    }

    /// Turns the gaps that are about to be sent into frames.
    fn encode_gaps(&mut self) {
        for place in 0..self.entries.len().min(MAX_SLICES / 2) {
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
                self.entries[place] = Entry::Control(reply.encode());
            }
        }
    }

    fn length(&self, publication: &Publication) -> usize {
        match self.format {
            Format::Json => publication.json_frame().len(),
            Format::Raw => {
                let (header, data) = publication.raw_frame();
                header.len() + data.len()
            }
        }
    }
}

fn push_slices<'s>(slices: &mut Slices<'s>, publication: &'s Publication, format: Format) -> usize {
    match format {
        Format::Json => {
            let frame = publication.json_frame();
            slices.push(IoSlice::new(frame));
            frame.len()
        }
        Format::Raw => {
            let (header, data) = publication.raw_frame();
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(data));
            header.len() + data.len()
        }
    }
}

/// One write; 0 when the socket takes nothing now.
fn write_slices(
    slices: &[IoSlice<'_>],
    write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match write(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::tests::publication;
    use proptest::prelude::*;

    /// A socket that takes a given number of bytes, then blocks until it is given more room.
    #[derive(Default)]
    struct Socket {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Socket {
        fn with_room(room: usize) -> Self {
            Self {
                room,
                ..Self::default()
            }
        }

        fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let mut taken = 0;
            for slice in slices {
                let part = &slice[..slice.len().min(self.room)];
                self.bytes.extend_from_slice(part);
                self.room -= part.len();
                taken += part.len();
            }
            Ok(taken)
        }

        /// The JSON of each frame that arrived whole.
        fn frames(&self) -> Vec<serde_json::Value> {
            let mut rest = self.bytes.as_slice();
            let mut frames = Vec::new();
            while rest.len() > 1 {
                let (start, length) = match rest[1] {
                    126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                    short => (2, usize::from(short)),
                };
                if rest.len() < start + length {
                    break;
                }
                frames.push(serde_json::from_slice(&rest[start..start + length]).unwrap());
                rest = &rest[start + length..];
            }
            frames
        }

        fn numbers(&self) -> Vec<u64> {
            self.frames()
                .iter()
                .filter_map(|frame| frame["seq"].as_u64())
                .collect()
        }
    }

    fn batch(seqs: impl Iterator<Item = Seq>) -> Batch {
        let mut batch = Batch::default();
        seqs.for_each(|seq| batch.push(Arc::new(publication(seq, &["t"], "x"))));
        batch
    }

    fn seqs(range: std::ops::RangeInclusive<Seq>) -> Vec<Seq> {
        range.collect()
    }

    #[test]
    fn an_open_socket_takes_the_batch_in_one_write() {
        let batch = batch(1..=500);
        let mut socket = Socket::with_room(usize::MAX);
        let mut outbox = Outbox::new(Format::Json);
        let sent = outbox
            .send(&batch, &seqs(1..=500), |slices| socket.write(slices))
            .unwrap();
        assert_eq!((sent.publications, sent.writes), (500, 1));
        assert!(outbox.is_empty() && !outbox.is_blocked());
        assert_eq!(socket.numbers(), (1..=500).collect::<Vec<_>>());
    }

    #[test]
    fn dropped_publications_leave_one_exact_gap() {
        let batch = batch(1..=100);
        let length = batch.get(1).json_frame().len();
        let mut socket = Socket::with_room(length + 5);
        let mut outbox = Outbox::new(Format::Json);
        outbox
            .send(&batch, &seqs(1..=100), |slices| socket.write(slices))
            .unwrap();
        assert!(outbox.is_blocked());
        // Publication 1 is out and 2 is cut, so it stays; of the others the newest ten fit.
        let ten: usize = (91..=100)
            .map(|seq| batch.get(seq).json_frame().len())
            .sum();
        let kept = ten + batch.get(2).json_frame().len();
        assert_eq!(outbox.drop_oldest(kept), 88);
        assert_eq!(outbox.publications(), 11);
        socket.room = usize::MAX;
        let sent = outbox.flush(|slices| socket.write(slices)).unwrap();
        assert_eq!(sent.publications, 11);
        let frames = socket.frames();
        assert_eq!(frames.len(), 13);
        assert_eq!(
            frames[2],
            serde_json::json!({"type": "gap", "reason": "slow", "dropped": 88, "after": 2, "next": 91})
        );
        assert_eq!(
            socket.numbers(),
            [&[1, 2][..], &(91..=100).collect::<Vec<_>>()].concat()
        );
    }

    #[test]
    fn replies_are_never_dropped() {
        let mut outbox = Outbox::new(Format::Json);
        let mut socket = Socket::default();
        let batch = batch(1..=3);
        for seq in 1..=3 {
            outbox.push(batch.get(seq).clone());
            outbox.push_control(
                Reply::Pong {
                    id: &None,
                    timestamp: 0,
                    seq: 0,
                }
                .encode(),
            );
        }
        assert_eq!(outbox.drop_oldest(0), 3);
        socket.room = usize::MAX;
        outbox.flush(|slices| socket.write(slices)).unwrap();
        let kinds: Vec<_> = socket
            .frames()
            .iter()
            .map(|frame| frame["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["gap", "pong", "gap", "pong", "gap", "pong"]);
    }

    #[test]
    fn everything_unsent_can_be_dropped_but_a_frame_on_the_socket() {
        let batch = batch(1..=5);
        let mut socket = Socket::with_room(3);
        let mut outbox = Outbox::new(Format::Json);
        outbox
            .send(&batch, &seqs(1..=5), |slices| socket.write(slices))
            .unwrap();
        assert_eq!(outbox.drop_all(), 4);
        socket.room = usize::MAX;
        outbox.flush(|slices| socket.write(slices)).unwrap();
        assert_eq!(socket.numbers(), [1]);
    }

    #[test]
    fn a_raw_connection_gets_data_alone() {
        let batch = batch(1..=600);
        let mut socket = Socket::with_room(usize::MAX);
        let mut outbox = Outbox::new(Format::Raw);
        outbox
            .send(&batch, &seqs(1..=600), |slices| socket.write(slices))
            .unwrap();
        assert_eq!(socket.frames(), vec![serde_json::json!("x"); 600]);
    }

    #[test]
    fn a_broken_socket_is_an_error() {
        let batch = batch(1..=1);
        let mut outbox = Outbox::new(Format::Json);
        let broken = |_: &[IoSlice<'_>]| Err(io::ErrorKind::BrokenPipe.into());
        assert!(outbox.send(&batch, &[1], broken).is_err());
    }

    proptest! {
        /// However the socket cuts the stream, what arrives is whole frames in order, and each publication is
        /// delivered or counted in a gap.
        #[test]
        fn nothing_is_lost_unseen(steps in prop::collection::vec((0_usize..2000, 0_u64..20, 0_usize..4000), 1..40)) {
            let mut socket = Socket::default();
            let mut outbox = Outbox::new(Format::Json);
            let (mut next, mut delivered, mut dropped) = (1, 0, 0);
            for (room, count, limit) in steps {
                socket.room = room;
                let batch = batch(next..next + count);
                let range = seqs(next..=next + count - 1);
                next += count;
                if outbox.is_empty() {
                    delivered += outbox.send(&batch, &range, |slices| socket.write(slices)).unwrap().publications;
                } else {
                    range.iter().for_each(|seq| outbox.push(batch.get(*seq).clone()));
                    delivered += outbox.flush(|slices| socket.write(slices)).unwrap().publications;
                }
                dropped += outbox.drop_oldest(limit);
            }
            socket.room = usize::MAX;
            delivered += outbox.flush(|slices| socket.write(slices)).unwrap().publications;
            prop_assert!(outbox.is_empty());
            prop_assert_eq!(delivered + dropped, next - 1);
            let mut expected = 1;
            for frame in socket.frames() {
                if frame["type"] == "gap" {
                    prop_assert_eq!(frame["after"].as_u64(), Some(expected - 1));
                    expected += frame["dropped"].as_u64().unwrap();
                } else {
                    prop_assert_eq!(frame["seq"].as_u64(), Some(expected));
                    expected += 1;
                }
            }
            prop_assert_eq!(expected, next);
        }
    }
}
