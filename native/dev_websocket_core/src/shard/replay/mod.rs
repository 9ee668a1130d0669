//! A replay: past publications for one client, a block at a time, until it has come to where its shard is.
//!
//! It knows neither sockets nor the shard: [`Replay::step`] reads the log by numbers and says what comes next. Each
//! publication is looked at once, in order, whatever is cast meanwhile, so nothing is lost or doubled at the seam. It
//! holds no place in the log: what is forgotten before it gets there is an `expired` gap.

mod choice;
#[cfg(test)]
mod model_tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::choice::Scan;
pub(crate) use self::choice::{Budget, Choice};
use super::ids::Seq;
use crate::log::publication::Publication;
use crate::log::publication_log::Log;
use crate::telemetry::counters::Counters;
use crate::telemetry::panics::{contain, panic_point};
use crate::wire::control::{GapReason, Reply, Request, RequestError, RequestId};
use crate::wire::cursor::{From, Since};

/// Publications that are taken from the log in one go.
const BLOCK: usize = 128;
/// Bytes that are sent in one go, and one publication more.
const BLOCK_BYTES: usize = 128 * 1024;

/// The state of one connection's replay.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The next publication to look at.
    next: Seq,
    /// How many matching ones are still to be found going back from `next`, before it goes forward.
    looking_back: Option<usize>,
    /// Up to here nothing was asked for by number.
    unnumbered_until: Seq,
    /// The first block is out: what is forgotten from now on is missing.
    has_begun: bool,
    choice: Choice,
    /// What the connection has had already: everything of `had` up to this number.
    had_until: Seq,
    had: Choice,
    /// The publication that is being matched, how far, and whether that is against `had`.
    scanned: Seq,
    scan: Scan,
    is_chosen: bool,
    /// It waits for its turn, in the queue of the shard.
    pub(crate) is_queued: bool,
    /// The request that asked for it, for its `live` frame.
    pub(crate) id: RequestId,
    /// Requests that change what the connection is subscribed to wait until it is live.
    pub(crate) deferred: VecDeque<Deferred>,
}

/// A request that waits until its connection is live, and the bytes that it was written in.
pub(crate) type Deferred = (usize, Result<Request, RequestError>);

/// How a publication matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Chosen,
    NotChosen,
    /// Matching failed, now or when the publication was new.
    Failed,
}

/// Publications that the client does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) reason: GapReason,
    pub(crate) first: Seq,
    pub(crate) next: Seq,
}

impl Missing {
    /// The frame that tells of them.
    pub(crate) fn reply(self) -> Reply<'static> {
        let Self {
            reason,
            first,
            next,
        } = self;
        Reply::Gap {
            reason,
            dropped: next - first,
            after: first - 1,
            next,
        }
    }
}

/// A block: the gap first, then the publications.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) missing: Option<Missing>,
    pub(crate) publications: Vec<Arc<Publication>>,
    /// The connection has come to where the shard is, and nothing is in the block.
    pub(crate) is_live: bool,
    /// The cursor comes from another shard, which is ahead of this one.
    pub(crate) is_ahead: bool,
}

impl Replay {
    /// One that begins there; `present` is the last publication that the shard has taken.
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
            scanned: 0,
            scan: Scan::default(),
            is_chosen: false,
            is_queued: false,
            id: None,
            deferred: VecDeque::new(),
        }
    }

    /// One for a live connection, which has had everything of `had` up to `present`.
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

    /// Begins with the oldest publication that is kept, because the cursor is of another epoch.
    pub(crate) fn begin_anew(&mut self, log: &Log) -> Missing {
        self.next = log.read(1, 0).first;
        Missing {
            reason: GapReason::Epoch,
            first: 1,
            next: self.next,
        }
    }

    /// The number that a client may take for its cursor: it has had everything up to there. 0 while it is not known
    /// where the newest begin.
    pub(crate) fn position(&self) -> Seq {
        if self.unnumbered_until > 0 && !self.has_begun {
            0
        } else {
            self.next.saturating_sub(1)
        }
    }

    /// Whether there is nothing to replay.
    pub(crate) fn is_live(&self, present: Seq) -> bool {
        self.looking_back.is_none_or(|wanted| wanted == 0) && self.next == present + 1
    }

    /// The next block, of no more work than the budget allows and one evaluation, which is always done.
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
            // What comes after the present is the client's live.
            let next = past.first.min(present + 1);
            let first = self.next.max(asked_from + 1);
            self.next = next;
            block.missing = (next > first).then_some(Missing {
                reason: GapReason::Expired,
                first,
                next,
            });
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
                        reason: GapReason::RequestError,
                        first: seq,
                        next: seq + 1,
                    });
                }
                // A gap stands at the beginning of a block.
                Some(Verdict::Failed) => break,
            }
            self.next = seq + 1;
            if bytes >= BLOCK_BYTES || budget.is_spent() {
                break;
            }
        }
        block
    }

    /// Whether a publication is for the connection; none when the budget is spent before that is known. A panic is the
    /// fault of this publication and this client, and costs the client the publication alone.
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
        if !self.is_chosen {
            if !self.choice.chooses(publication, &mut self.scan, budget)? {
                return Some(Verdict::NotChosen);
            }
            if publication.seq() > self.had_until {
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
