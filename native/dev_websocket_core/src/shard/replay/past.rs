//! The part of a replay that only the stream has: records that the log has forgotten or never had.
//!
//! Records come in chunks and are examined like publications of the log, within the same budget. As soon as the log has
//! what follows, the replay goes on there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{BLOCK_BYTES, Budget, Replay, Verdict};
use crate::cluster::record::Record;
use crate::log::buffer_pool::BufferPool;
use crate::log::publication::Publication;
use crate::log::publication::stream_break::StreamBreak;
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::ids::Seq;
use crate::shard::stream_reads::{Chunk, ReadPermit};
use crate::telemetry::counters::Counters;
use crate::wire::control::GapReason;
use crate::wire::cursor::Since;

/// The progress of a replay in the stream. Numbers are those that clients see.
#[derive(Debug)]
pub(crate) struct Past {
    permit: ReadPermit,
    pub(crate) epoch: Arc<str>,
    /// Number of the next record to examine.
    next: u64,
    /// Records up to this number were sent if they match what the connection had before its request.
    had_until: u64,
    records: VecDeque<(u64, Bytes)>,
    /// The first of the records, read, while the budget interrupts its match.
    in_hand: Option<Arc<Publication>>,
    /// True while the engine fetches the next chunk.
    is_asked: bool,
    /// The number after the last one that the log had when the engine was asked.
    known: u64,
    /// True if the stream had no record from the next number on.
    is_at_end: bool,
}

/// The next publications of the stream, or a gap.
#[derive(Debug, Default)]
pub(crate) struct PastBlock {
    pub(crate) gap: Option<StreamBreak>,
    pub(crate) publications: Vec<Arc<Publication>>,
    /// True if there are no more records here, or the log has what follows. The block is empty then.
    pub(crate) is_over: bool,
}

impl Past {
    /// Begins after a number. `had_until` is the last number of what the connection had before its request.
    pub(crate) fn new(permit: ReadPermit, epoch: Arc<str>, after: u64, had_until: u64) -> Self {
        Self {
            permit,
            epoch,
            next: after.saturating_add(1),
            had_until,
            records: VecDeque::new(),
            in_hand: None,
            is_asked: false,
            known: 0,
            is_at_end: false,
        }
    }

    /// Returns whether the engine fetches a chunk.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_asked
    }

    /// Skips the numbers that the stream has forgotten, if it had no record from the next one on. Records that came
    /// after the question are not skipped. `oldest` is the oldest number of the log.
    pub(crate) fn skip_forgotten(&mut self, oldest: u64) -> Option<StreamBreak> {
        let next = self.known.min(oldest);
        if !std::mem::take(&mut self.is_at_end) || next <= self.next {
            return None;
        }
        let gap = StreamBreak {
            reason: GapReason::Expired,
            after: self.next - 1,
            next,
            epoch: None,
        };
        self.next = next;
        Some(gap)
    }

    /// Returns the cursor of a client that has taken everything so far.
    pub(crate) fn cursor(&self) -> Since {
        Since {
            epoch: Some(self.epoch.to_string()),
            seq: self.next.saturating_sub(1),
        }
    }

    /// Asks the engine for the next chunk. `last` is the last number that the log has.
    pub(crate) fn ask(&mut self, connection: ConnectionHandle, last: u64) {
        self.is_asked = true;
        self.known = last.saturating_add(1);
        self.permit.ask(connection, &self.epoch, self.next);
    }

    /// Takes a chunk, if it is for this read.
    pub(crate) fn take(&mut self, read: u64, chunk: Chunk) -> bool {
        let is_for_this = self.is_asked && self.permit.id == read;
        if is_for_this {
            self.is_asked = false;
            self.is_at_end = chunk.is_empty();
            self.records = chunk.into();
        }
        is_for_this
    }

    /// Returns the first record as a publication, under its number.
    fn first(&mut self, buffers: &BufferPool, budget: &mut Budget) -> Option<Arc<Publication>> {
        if let Some(publication) = self.in_hand.take() {
            return Some(publication);
        }
        let (number, record) = self.records.front()?;
        budget.spend_bytes(record.len());
        let draft = match Record::read(record) {
            Ok(record) => record.content.draft(buffers),
            Err(unreadable) => unreadable.notice(*number),
        };
        Some(draft.number(*number, *number))
    }
}

impl Replay {
    /// Continues in the stream. `had_until` is the number of the last publication that the connection had before.
    pub(crate) fn begin_past(&mut self, permit: ReadPermit, cursor: (Arc<str>, u64), had: u64) {
        let (epoch, after) = cursor;
        self.has_begun = true;
        self.past = Some(Past::new(permit, epoch, after, had));
    }

    /// Continues in the log, from a place on.
    pub(crate) fn end_past(&mut self, next: Seq) {
        self.past = None;
        self.next = next;
    }

    /// Returns true if a publication of the stream is none that the connection had before its request.
    pub(super) fn is_new(&self, publication: &Publication) -> bool {
        match &self.past {
            Some(past) => publication.shown_number() > past.had_until,
            None => publication.seq() > self.had_until,
        }
    }

    /// Returns the next records that match. `oldest` is the number of the oldest publication of the log in the epoch of
    /// the records; none if the epoch is over. Repeated numbers are passed over. The step does no more work than the budget allows, except that one
    /// evaluation is always done.
    pub(crate) fn step_past(
        &mut self,
        oldest: Option<u64>,
        is_repeated: impl Fn(u64) -> bool,
        buffers: &BufferPool,
        budget: &mut Budget,
        counters: &Counters,
    ) -> PastBlock {
        budget.spend(1);
        let mut block = PastBlock::default();
        let mut bytes = 0;
        while let Some(past) = &mut self.past {
            let next = past.next;
            let oldest = oldest.unwrap_or(0);
            while past
                .records
                .front()
                .is_some_and(|(number, _)| *number < next)
            {
                past.records.pop_front();
            }
            let number = match past.records.front() {
                Some((number, _)) if next < oldest => *number,
                _ => {
                    block.is_over = block.publications.is_empty();
                    break;
                }
            };
            if number > next {
                // A gap stands at the beginning of a block.
                if block.publications.is_empty() {
                    past.next = number.min(oldest);
                    block.gap = Some(StreamBreak {
                        reason: GapReason::Expired,
                        after: next - 1,
                        next: past.next,
                        epoch: None,
                    });
                }
                break;
            }
            if past.in_hand.is_none() && is_repeated(number) {
                past.records.pop_front();
                past.next = next + 1;
                continue;
            }
            let Some(publication) = past.first(buffers, budget) else {
                break;
            };
            let verdict = self.is_for(&publication, budget, counters);
            let Some(past) = &mut self.past else { break };
            match verdict {
                None => {
                    past.in_hand = Some(publication);
                    break;
                }
                Some(Verdict::Chosen) => {
                    bytes += publication.footprint();
                    block.publications.push(publication);
                }
                Some(Verdict::NotChosen) => {}
                Some(Verdict::Failed) if block.publications.is_empty() => {
                    counters.replays_skipped.add(1);
                    block.gap = Some(StreamBreak {
                        reason: GapReason::Panic,
                        after: next - 1,
                        next: next + 1,
                        epoch: None,
                    });
                }
                Some(Verdict::Failed) => break,
            }
            past.records.pop_front();
            past.next = next + 1;
            if block.gap.is_some() || bytes >= BLOCK_BYTES || budget.is_spent() {
                break;
            }
        }
        block
    }
}
