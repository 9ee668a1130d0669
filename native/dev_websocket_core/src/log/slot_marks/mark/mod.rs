//! The publishing progress of one process: the next event, and the earlier slots that were missing and may still come.

use crate::wire::slots;

/// The maximum number of ranges of missing slots per process; a further range replaces the oldest.
pub const MAX_HOLES: usize = 32;

/// The last slot that can be published, because a mark points to the slot after it.
pub const MAX_SLOT: u64 = slots::MAX_SLOT;

/// The position of an event of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The slot number.
    pub slot: u64,
    /// The event's number within the slot: 0 is the result, n is the n-th message.
    pub part: u64,
}

/// The publishing progress of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    next: Position,
    /// Ascending ranges without overlaps.
    holes: Vec<Hole>,
}

/// A range of slots that were reported missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    /// The next part of slot `from`; the other slots of the range begin at 0.
    part: u64,
}

/// The reason why an event is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfOrder {
    /// The whole slot is published or no longer expected.
    Past,
    /// Earlier events would be skipped; the position is that of the next event.
    Ahead(Position),
}

impl Mark {
    /// Makes the mark of a process that is published from the start of `slot` on.
    pub(crate) fn at(slot: u64) -> Self {
        Self {
            next: Position { slot, part: 0 },
            holes: Vec::new(),
        }
    }

    /// Returns the position of the next event to publish.
    #[must_use]
    pub fn next(&self) -> Position {
        self.next
    }

    /// Returns the missing slots that may still come, as ascending inclusive ranges.
    pub fn holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.holes.iter().map(|hole| (hole.from, hole.to))
    }

    /// Returns how many events from this one on are already published.
    pub(crate) fn published_from(&self, event: Position) -> Result<u64, OutOfOrder> {
        let next = self.next_of(event.slot)?;
        next.part
            .checked_sub(event.part)
            .ok_or(OutOfOrder::Ahead(next))
    }

    /// Returns the next event of a slot.
    fn next_of(&self, slot: u64) -> Result<Position, OutOfOrder> {
        if slot == self.next.slot {
            return Ok(self.next);
        }
        if slot > self.next.slot {
            return Err(OutOfOrder::Ahead(self.next));
        }
        let place = self.hole_with(slot).ok_or(OutOfOrder::Past)?;
        let hole = self.holes[place];
        let part = if slot == hole.from { hole.part } else { 0 };
        Ok(Position { slot, part })
    }

    fn hole_with(&self, slot: u64) -> Option<usize> {
        let place = self.holes.partition_point(|hole| hole.to < slot);
        let hole = self.holes.get(place)?;
        (hole.from <= slot).then_some(place)
    }

    /// Records that the events of a slot are published up to this one. The caller has checked that they come next.
    pub(crate) fn publish_until(&mut self, event: Position) {
        if event.slot == self.next.slot {
            self.next.part = self.next.part.max(event.part);
        } else if let Some(place) = self.hole_with(event.slot) {
            let hole = self.holes[place];
            if event.slot == hole.from {
                self.holes[place].part = hole.part.max(event.part);
            } else {
                // The slot becomes a range of its own, so that its part can be kept.
                let rest = Hole {
                    from: event.slot,
                    part: event.part,
                    ..hole
                };
                self.holes[place].to = event.slot - 1;
                self.holes.insert(place + 1, rest);
                self.forget_oldest();
            }
        }
    }

    /// Records that all events of a slot are published. The caller has checked that they came next.
    pub(crate) fn complete(&mut self, slot: u64) {
        if slot == self.next.slot {
            self.go_to(slot.saturating_add(1));
        } else if let Some(place) = self.hole_with(slot) {
            let hole = self.holes[place];
            let before = (hole.from < slot).then(|| Hole {
                to: slot - 1,
                ..hole
            });
            let after = (slot < hole.to).then(|| Hole {
                from: slot + 1,
                to: hole.to,
                part: 0,
            });
            self.holes
                .splice(place..=place, before.into_iter().chain(after));
            self.forget_oldest();
        }
    }

    /// Skips the slots from the next one up to `last`, which are not published. They may still come if `missing` is
    /// true.
    pub(crate) fn skip_to(&mut self, last: u64, missing: bool) {
        let Position { slot, part } = self.next;
        if missing {
            match self.holes.last_mut() {
                Some(before) if part == 0 && before.to.checked_add(1) == Some(slot) => {
                    before.to = last;
                }
                _ => self.holes.push(Hole {
                    from: slot,
                    to: last,
                    part,
                }),
            }
            self.forget_oldest();
        }
        self.go_to(last.saturating_add(1));
    }

    fn go_to(&mut self, slot: u64) {
        self.next = Position { slot, part: 0 };
    }

    fn forget_oldest(&mut self) {
        let excess = self.holes.len().saturating_sub(MAX_HOLES);
        self.holes.drain(..excess);
    }
}

#[cfg(test)]
mod tests;
