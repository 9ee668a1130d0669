//! The slots of one process on a connection that has asked for a slot replay: those that it has, and those that come
//! live.
//!
//! During the replay all new slots of the process are held back, because the replay reads them again. Afterwards the
//! slots from one number on come live. Earlier ones come only if the replay has reported them missing.

use crate::log::publication::{Publication, Slots};
use crate::log::slot_marks::{MAX_HOLES, Mark, Position};
use crate::wire::slots::SlotStart;

/// Which slots of a process a connection gets live.
#[derive(Debug)]
pub(crate) struct HeldSlots {
    /// The next event that the client wants, as its cursor has it.
    cursor: SlotStart,
    /// The first slot that comes live. None during the replay.
    live_from: Option<u64>,
    /// Ranges of slots that the replay reported missing and that may still come.
    missing: Vec<(u64, u64)>,
}

/// The place at which a connection goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seam {
    /// The replay has to read further slots first.
    Behind,
    /// Slots from this one on come live.
    At(u64),
}

impl HeldSlots {
    pub(crate) fn new(start: SlotStart) -> Self {
        Self {
            cursor: start,
            live_from: None,
            missing: Vec::new(),
        }
    }

    /// Returns the next event that the client wants.
    pub(crate) fn cursor(&self) -> &SlotStart {
        &self.cursor
    }

    /// Returns true if the connection gets a publication that matches its subscriptions.
    pub(crate) fn passes(&self, publication: &Publication) -> bool {
        publication.slots().is_none_or(|slots| {
            slots.process != self.cursor.process
                || self.live_from.is_some_and(|first| slots.from >= first)
                // The replay has reported its own gaps.
                || (publication.is_message() && self.is_missing(slots.from))
        })
    }

    fn is_missing(&self, slot: u64) -> bool {
        self.missing
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&slot))
    }

    /// Notes that the client gets a publication.
    pub(crate) fn note(&mut self, publication: &Publication) {
        if let Some(Slots { process, next, .. }) = publication.slots()
            && process == self.cursor.process
            && self.live_from.is_some()
        {
            self.move_to(next);
        }
    }

    /// Notes that the client gets everything before an event. Late slots do not move the cursor back.
    pub(crate) fn move_to(&mut self, next: Position) {
        let Position { slot, part } = next;
        if (slot, part) > (self.cursor.slot, self.cursor.part) {
            self.cursor = SlotStart {
                slot,
                part,
                ..self.cursor
            };
        }
    }

    /// Notes slots that the replay has reported missing. The oldest of many ranges is forgotten, as in [`Mark`].
    pub(crate) fn report_missing(&mut self, from: u64, to: u64) {
        match self.missing.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(from) => *last = to,
            _ => self.missing.push((from, to)),
        }
        let excess = self.missing.len().saturating_sub(MAX_HOLES);
        self.missing.drain(..excess);
    }

    /// Returns where the connection can go live. `next` is the next event of the replay, and `mark` is the progress of
    /// the publications that the connection has been sent or spared.
    pub(crate) fn seam(next: Position, mark: Option<&Mark>) -> Seam {
        let Some(mark) = mark.map(Mark::next) else {
            // Nothing of the process has been published, and its first slot comes live.
            return Seam::At(next.slot);
        };
        // A slot that is published in part is read again. After that its other parts must be published, or a cursor
        // taken at the seam would repeat them. A client may have a part of a slot that is not published again yet,
        // after a restart of the node.
        let is_begun = mark.part > 0;
        let is_behind =
            next.slot < mark.slot || (is_begun && next.slot <= mark.slot.saturating_add(1));
        if is_behind {
            Seam::Behind
        } else {
            Seam::At(next.slot)
        }
    }

    /// Returns the slots that a replay leaves out which ends here, and the first one that comes live.
    pub(crate) fn cut(next: Position, mark: Option<&Mark>) -> (Option<(u64, u64)>, u64) {
        let published = mark.map_or(0, |mark| {
            let Position { slot, part } = mark.next();
            slot + u64::from(part > 0)
        });
        // A slot that the client has in part is left out as well.
        let live = published.max(next.slot + u64::from(next.part > 0));
        ((next.slot < live).then(|| (next.slot, live - 1)), live)
    }

    /// Ends the replay: slots from this one on come live.
    pub(crate) fn go_live(&mut self, first: u64) {
        self.live_from = Some(first);
        self.move_to(Position {
            slot: first,
            part: 0,
        });
    }
}
