//! A replay: past publications for one client, block by block, until the client has caught up with its shard.
//!
//! It knows neither sockets nor the shard: [`Replay::step`] reads the log by sequence numbers and returns the next
//! block. Each publication is examined once, in order, during any number of new publications, so none is lost or
//! doubled at the seam. A replay reserves no place in the log: publications evicted before it reaches them become an
//! `expired` gap.

mod choice;
#[cfg(test)]
mod model_tests;
mod past;

use std::collections::VecDeque;
use std::sync::Arc;

use self::choice::Scan;
pub(crate) use self::choice::{Budget, Choice};
pub(crate) use self::past::Past;
use super::ids::Seq;
use crate::log::eras::Eras;
use crate::log::publication::Publication;
use crate::log::publication::stream_break::StreamBreak;
use crate::log::publication_log::Log;
use crate::telemetry::counters::Counters;
use crate::telemetry::panics::{contain, panic_point};
use crate::wire::control::{GapReason, Request, RequestError, RequestId};
use crate::wire::cursor::{From, Since};

/// Limit on the publications read from the log at once.
const BLOCK: usize = 128;
/// Limit on the bytes of a block; one publication may exceed it.
const BLOCK_BYTES: usize = 128 * 1024;

/// The state of one connection's replay.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Sequence number of the next publication to examine.
    next: Seq,
    /// Number of matching publications to find going back from `next`, before the replay goes forward.
    looking_back: Option<usize>,
    /// Publications up to this sequence number were not requested by number.
    unnumbered_until: Seq,
    /// True after the first block: publications evicted from now on are missing.
    has_begun: bool,
    choice: Choice,
    /// Sequence number up to which the connection has received everything that matches `had`.
    had_until: Seq,
    had: Choice,
    /// The number of a cursor that is ahead of the shard, as clients see it; 0 if it is not. Up to there only what
    /// matches `had` is for the connection, and it is not live.
    ahead_until: u64,
    /// The part that is read from the stream, while the log does not have it.
    pub(crate) past: Option<Past>,
    /// Progress of the match in hand: its publication, the position, and whether it is against `had`.
    scanned: Seq,
    scan: Scan,
    is_chosen: bool,
    /// True while the connection stands in the shard's queue of replays.
    pub(crate) is_queued: bool,
    /// Id of the request for this replay, which its `live` frame repeats.
    pub(crate) id: RequestId,
    /// Requests that change the subscriptions. They wait until the connection is live.
    pub(crate) deferred: VecDeque<Deferred>,
}

/// A request that waits until its connection is live, with the size of its text in bytes.
pub(crate) type Deferred = (usize, Result<Request, RequestError>);

/// Result of matching a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Chosen,
    NotChosen,
    /// Matching panicked, now or when the publication was new.
    Failed,
}

/// A range of publications that the client does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) reason: GapReason,
    pub(crate) first: Seq,
    pub(crate) next: Seq,
}

impl Missing {
    /// Returns the notice for the range, in the numbers that clients see. If another epoch begins in it, the client is
    /// told which.
    pub(crate) fn gap(self, eras: &Eras) -> StreamBreak {
        let (before, next) = (eras.at(self.first - 1), eras.at(self.next));
        let is_other = before.epoch != next.epoch;
        StreamBreak {
            reason: if is_other {
                GapReason::Epoch
            } else {
                self.reason
            },
            after: if is_other { 0 } else { before.number },
            next: if is_other {
                next.number
            } else {
                eras.next_number(self.next)
            },
            epoch: is_other.then_some(next.epoch),
        }
    }
}

/// A block of a replay: the gap comes first, then the publications.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) missing: Option<Missing>,
    pub(crate) publications: Vec<Arc<Publication>>,
    /// True if the connection has caught up with the shard; the block is empty then.
    pub(crate) is_live: bool,
    /// True if the cursor comes from another shard that is ahead of this one.
    pub(crate) is_ahead: bool,
}

impl Replay {
    /// Creates a replay from a cursor. `present` is the last publication that the shard has taken.
    pub(crate) fn new(from: From, present: Seq, choice: Choice) -> Self {
        let (next, looking_back) = match from {
            From::Since(Since { seq, .. }) => (seq.saturating_add(1), None),
            From::Last(count) => (present + 1, Some(count)),
        };
        Self {
            next,
            looking_back,
            unnumbered_until: if looking_back.is_some() { present } else { 0 },
            has_begun: false,
            choice,
            had_until: 0,
            had: Choice::default(),
            ahead_until: 0,
            past: None,
            scanned: 0,
            scan: Scan::default(),
            is_chosen: false,
            is_queued: false,
            id: None,
            deferred: VecDeque::new(),
        }
    }

    /// Creates a replay for a live connection that has received everything of `had` up to `present`.
    pub(crate) fn of_subscribe(
        seq: Seq,
        present: Seq,
        (choice, had): (Choice, Choice),
        id: RequestId,
    ) -> Self {
        Self {
            had_until: present,
            had,
            id,
            ..Self::new(From::Since(Since { epoch: None, seq }), present, choice)
        }
    }

    /// Returns the sequence number that a client may use as its cursor, because it has received everything up to there.
    /// Returns 0 until the beginning of the newest publications is known.
    pub(crate) fn position(&self) -> Seq {
        if self.unnumbered_until > 0 && !self.has_begun {
            0
        } else {
            self.next.saturating_sub(1)
        }
    }

    /// Returns the sequence number up to which the connection had received publications before its request.
    pub(crate) fn had_until(&self) -> Seq {
        self.had_until
    }

    /// Returns true if there is nothing to replay.
    pub(crate) fn is_live(&self, present: Seq) -> bool {
        self.looking_back.is_none_or(|wanted| wanted == 0)
            && self.next == present + 1
            && self.ahead_until == 0
    }

    /// Waits until the shard has come to the number of a cursor, as clients see it. The publications of the connection's
    /// earlier subscriptions go on meanwhile.
    pub(crate) fn wait_until(&mut self, number: u64) {
        self.ahead_until = number;
    }

    /// Returns the number of the cursor that the shard has not come to; 0 if there is none.
    pub(crate) fn ahead_until(&self) -> u64 {
        self.ahead_until
    }

    /// Returns the next block. It does no more work than the budget allows, except that one evaluation is always done.
    pub(crate) fn step(
        &mut self,
        log: &Log,
        present: Seq,
        budget: &mut Budget,
        counters: &Counters,
    ) -> Block {
        budget.spend(1);
        if let Some(wanted) = self.looking_back {
            self.look_back(wanted, log, budget, counters);
            return Block::default();
        }
        if self.next > present {
            let is_live = self.is_live(present);
            return Block {
                is_live,
                is_ahead: !is_live,
                ..Block::default()
            };
        }
        self.look_forward(log, present, budget, counters)
    }

    fn look_back(
        &mut self,
        mut wanted: usize,
        log: &Log,
        budget: &mut Budget,
        counters: &Counters,
    ) {
        while wanted > 0 {
            let past = log.read_back(self.next, BLOCK);
            if past.is_empty() {
                wanted = 0;
            }
            for publication in past {
                if wanted == 0 {
                    break;
                }
                let Some(is_for) = self.is_for(&publication, budget, counters) else {
                    self.looking_back = Some(wanted);
                    return;
                };
                self.next = publication.seq();
                wanted -= usize::from(is_for == Verdict::Chosen);
                if budget.is_spent() {
                    self.looking_back = Some(wanted);
                    return;
                }
            }
        }
        self.looking_back = None;
    }

    fn look_forward(
        &mut self,
        log: &Log,
        present: Seq,
        budget: &mut Budget,
        counters: &Counters,
    ) -> Block {
        let mut block = Block::default();
        let count = BLOCK.min((present + 1 - self.next) as usize);
        let past = log.read(self.next, count);
        let asked_from = if self.has_begun {
            0
        } else {
            self.unnumbered_until
        };
        self.has_begun = true;
        if past.first > self.next {
            // The client gets publications after the present one live.
            let next = past.first.min(present + 1);
            let first = self.next.max(asked_from + 1);
            self.next = next;
            block.missing = (next > first).then_some(Missing {
                reason: GapReason::Expired,
                first,
                next,
            });
            if block.missing.is_some() {
                // The stream may have them.
                return block;
            }
        }
        let mut bytes = 0;
        for publication in past.publications {
            let seq = publication.seq();
            if seq > present {
                break;
            }
            match self.is_for(&publication, budget, counters) {
                None => break,
                Some(Verdict::Chosen) => {
                    budget.spend_bytes(publication.footprint());
                    bytes += publication.footprint();
                    block.publications.push(publication);
                }
                Some(Verdict::NotChosen) => {}
                Some(Verdict::Failed) if seq <= self.unnumbered_until => {}
                Some(Verdict::Failed)
                    if block.publications.is_empty() && block.missing.is_none() =>
                {
                    counters.replays_skipped.add(1);
                    block.missing = Some(Missing {
                        reason: GapReason::Panic,
                        first: seq,
                        next: seq + 1,
                    });
                }
                // A gap must stand at the beginning of a block.
                Some(Verdict::Failed) => break,
            }
            self.next = seq + 1;
            if bytes >= BLOCK_BYTES || budget.is_spent() {
                break;
            }
        }
        block
    }

    /// Returns whether a publication is for the connection, or `None` if the budget is spent before that is known. A
    /// panic counts against this publication and this client, and costs the client this publication only.
    fn is_for(
        &mut self,
        publication: &Publication,
        budget: &mut Budget,
        counters: &Counters,
    ) -> Option<Verdict> {
        budget.spend(1);
        if publication.is_poisoned() {
            return Some(Verdict::Failed);
        }
        if self.scanned != publication.seq() {
            self.scanned = publication.seq();
            self.scan = Scan::default();
            self.is_chosen = false;
        }
        let verdict = contain("a replay's matching", counters, || {
            self.verdict(publication, budget)
        });
        let verdict = verdict.unwrap_or(Some(Verdict::Failed));
        if verdict.is_some() {
            self.scanned = 0;
        }
        verdict
    }

    fn verdict(&mut self, publication: &Publication, budget: &mut Budget) -> Option<Verdict> {
        panic_point!("replay::match");
        // Numbers of another epoch say nothing about the cursor.
        let ahead_until = if publication.begins_epoch() {
            0
        } else {
            self.ahead_until
        };
        if publication.shown_number() <= ahead_until {
            let is_chosen = self.had.chooses(publication, &mut self.scan, budget)?;
            if publication.shown_number() == ahead_until {
                self.ahead_until = 0;
            }
            return Some(if is_chosen {
                Verdict::Chosen
            } else {
                Verdict::NotChosen
            });
        }
        self.ahead_until = 0;
        if !self.is_chosen {
            if !self.choice.chooses(publication, &mut self.scan, budget)? {
                return Some(Verdict::NotChosen);
            }
            if self.is_new(publication) {
                return Some(Verdict::Chosen);
            }
            self.is_chosen = true;
            self.scan = Scan::default();
        }
        let has_had = self.had.chooses(publication, &mut self.scan, budget)?;
        Some(if has_had {
            Verdict::NotChosen
        } else {
            Verdict::Chosen
        })
    }
}
