//! How far one process is published: the next event, and the slots before it that were missing and may still come.

/// Ranges of missing slots that are remembered of a process; one more takes the place of the oldest.
pub const MAX_HOLES: usize = 32;

/// The last slot that can be published: a mark stands behind its slot.
pub const MAX_SLOT: u64 = u64::MAX - 1;

/// An event of a process: the number of its slot, and its number within the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The slot.
    pub slot: u64,
    /// 0 is the result, n the n-th message.
    pub part: u64,
}

/// The progress of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    next: Position,
    /// In ascending order, without overlaps.
    holes: Vec<Hole>,
}

/// Slots that were told missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    /// The next part of the slot `from`; all others begin at 0.
    part: u64,
}

/// Why events of a slot are not the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfOrder {
    /// The whole slot is published, or no longer expected.
    PastPublications,
    /// Events before them would be left out: this one comes next.
    Ahead(Position),
}

impl Mark {
    /// The mark of a process that is published from the start of this slot on.
    pub(crate) fn at(slot: u64) -> Self {
        Self {
            next: Position { slot, part: 0 },
            holes: Vec::new(),
        }
    }

    /// The next event to publish.
    #[must_use]
    pub fn next(&self) -> Position {
        self.next
    }

    /// The missing slots that may still come, as their first and last, in ascending order.
    pub fn holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.holes.iter().map(|hole| (hole.from, hole.to))
    }

    /// How many events from this one on are published already.
    pub(crate) fn published_from(&self, event: Position) -> Result<u64, OutOfOrder> {
        let next = self.next_of(event.slot)?;
        next.part
            .checked_sub(event.part)
            .ok_or(OutOfOrder::Ahead(next))
    }

    /// The next event of a slot.
    fn next_of(&self, slot: u64) -> Result<Position, OutOfOrder> {
        if slot == self.next.slot {
            return Ok(self.next);
        }
        if slot > self.next.slot {
            return Err(OutOfOrder::Ahead(self.next));
        }
        let place = self.hole_with(slot).ok_or(OutOfOrder::PastPublications)?;
        let hole = self.holes[place];
        let part = if slot == hole.from { hole.part } else { 0 };
        Ok(Position { slot, part })
    }

    fn hole_with(&self, slot: u64) -> Option<usize> {
        let place = self.holes.partition_point(|hole| hole.to < slot);
        let hole = self.holes.get(place)?;
        (hole.from <= slot).then_some(place)
    }

    /// Events of a slot are published up to this one. The caller knows that they are the next ones.
    pub(crate) fn publish_until(&mut self, event: Position) {
        if event.slot == self.next.slot {
            self.next.part = self.next.part.max(event.part);
        } else if let Some(place) = self.hole_with(event.slot) {
            let hole = self.holes[place];
            if event.slot == hole.from {
                self.holes[place].part = hole.part.max(event.part);
            } else {
                // The slot begins a range of its own, whose part can be kept.
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

    /// All events of a slot are published. The caller knows that they were the next ones.
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

    /// The slots from the next one up to this one are not published; they may still come if they are `missing`.
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
