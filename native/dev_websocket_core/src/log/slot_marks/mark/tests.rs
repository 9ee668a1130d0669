//! Marks by example, and against a plain reference.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(slot: u64, part: u64) -> Position {
    Position { slot, part }
}

fn holes(mark: &Mark) -> Vec<(u64, u64)> {
    mark.holes().collect()
}

#[test]
fn a_slot_is_published_in_parts_and_once() {
    let mut mark = Mark::at(3);
    assert_eq!(mark.published_from(at(3, 0)), Ok(0));
    assert_eq!(
        mark.published_from(at(3, 1)),
        Err(OutOfOrder::Ahead(at(3, 0)))
    );
    assert_eq!(
        mark.published_from(at(4, 0)),
        Err(OutOfOrder::Ahead(at(3, 0)))
    );
    assert_eq!(
        mark.published_from(at(2, 0)),
        Err(OutOfOrder::PastPublications)
    );
    mark.publish_until(at(3, 256));
    assert_eq!(mark.next(), at(3, 256));
    assert_eq!(mark.published_from(at(3, 0)), Ok(256));
    assert_eq!(mark.published_from(at(3, 256)), Ok(0));
    assert_eq!(
        mark.published_from(at(3, 257)),
        Err(OutOfOrder::Ahead(at(3, 256)))
    );
    mark.complete(3);
    assert_eq!(mark.next(), at(4, 0));
    assert_eq!(
        mark.published_from(at(3, 0)),
        Err(OutOfOrder::PastPublications)
    );
}

#[test]
fn a_missing_slot_may_still_come_and_splits_its_range() {
    let mut mark = Mark::at(4);
    mark.skip_to(9, true);
    assert_eq!(mark.next(), at(10, 0));
    assert_eq!(holes(&mark), [(4, 9)]);
    assert_eq!(mark.published_from(at(6, 0)), Ok(0));
    mark.complete(6);
    assert_eq!(
        mark.published_from(at(6, 0)),
        Err(OutOfOrder::PastPublications)
    );
    assert_eq!(holes(&mark), [(4, 5), (7, 9)]);
    mark.complete(4);
    mark.complete(9);
    assert_eq!(holes(&mark), [(5, 5), (7, 8)]);
    mark.complete(5);
    mark.complete(7);
    mark.complete(8);
    assert_eq!(holes(&mark), []);
    assert_eq!(mark.next(), at(10, 0));
}

#[test]
fn a_missing_slot_keeps_its_part() {
    let mut mark = Mark::at(4);
    mark.publish_until(at(4, 7));
    mark.skip_to(9, true);
    assert_eq!(mark.published_from(at(4, 0)), Ok(7));
    assert_eq!(mark.published_from(at(5, 0)), Ok(0));
    // Two of a range are half done at the same time.
    mark.publish_until(at(6, 3));
    assert_eq!(holes(&mark), [(4, 5), (6, 9)]);
    assert_eq!(mark.published_from(at(4, 7)), Ok(0));
    assert_eq!(mark.published_from(at(6, 0)), Ok(3));
    assert_eq!(
        mark.published_from(at(6, 4)),
        Err(OutOfOrder::Ahead(at(6, 3)))
    );
    mark.complete(6);
    assert_eq!(holes(&mark), [(4, 5), (7, 9)]);
    assert_eq!(mark.published_from(at(7, 0)), Ok(0));
    assert_eq!(mark.published_from(at(4, 0)), Ok(7));
}

#[test]
fn neighbouring_ranges_are_one() {
    let mut mark = Mark::at(0);
    mark.skip_to(0, true);
    mark.skip_to(5, true);
    assert_eq!(holes(&mark), [(0, 5)]);
    // The part of a half published slot stands at the beginning of its range.
    mark.publish_until(at(6, 1));
    mark.skip_to(6, true);
    assert_eq!(holes(&mark), [(0, 5), (6, 6)]);
    mark.skip_to(8, false);
    mark.skip_to(9, true);
    assert_eq!(holes(&mark), [(0, 5), (6, 6), (9, 9)]);
    assert_eq!(
        mark.published_from(at(8, 0)),
        Err(OutOfOrder::PastPublications)
    );
}

/// A mark with so many ranges of three slots, each five behind the last.
fn with_holes(count: u64) -> Mark {
    let mut mark = Mark::at(0);
    for number in 0..count {
        mark.skip_to(number * 5 + 2, true);
        mark.skip_to(number * 5 + 4, false);
    }
    mark
}

#[test]
fn the_oldest_range_is_forgotten_beyond_32() {
    for (count, oldest) in [(31, 0), (32, 0), (33, 5)] {
        let mark = with_holes(count);
        assert_eq!(holes(&mark)[0], (oldest, oldest + 2), "{count}");
        assert_eq!(holes(&mark).len() as u64, count.min(32));
    }
    // A range that is split counts twice.
    let mut mark = with_holes(32);
    mark.complete(156);
    assert_eq!((holes(&mark).len(), holes(&mark)[0]), (32, (5, 7)));
    let mut mark = with_holes(32);
    mark.publish_until(at(156, 1));
    assert_eq!((holes(&mark).len(), holes(&mark)[0]), (32, (5, 7)));
    assert_eq!(mark.published_from(at(156, 0)), Ok(1));
}

#[test]
fn the_last_slot_can_be_published_and_nothing_after_it() {
    let mut mark = Mark::at(MAX_SLOT);
    assert_eq!(mark.published_from(at(MAX_SLOT, 0)), Ok(0));
    mark.complete(MAX_SLOT);
    assert_eq!(mark.next(), at(u64::MAX, 0));
    assert_eq!(
        mark.published_from(at(MAX_SLOT, 0)),
        Err(OutOfOrder::PastPublications)
    );
    let mut mark = Mark::at(0);
    mark.skip_to(MAX_SLOT, true);
    assert_eq!(holes(&mark), [(0, MAX_SLOT)]);
    assert_eq!(mark.next(), at(u64::MAX, 0));
}

/// Each slot by itself: its next part, or none once it is done. What is not listed has not come yet.
#[derive(Debug, Default)]
struct Reference {
    slots: BTreeMap<u64, Option<u64>>,
    next: u64,
}

impl Reference {
    fn next_part(&self, slot: u64) -> Option<u64> {
        self.slots.get(&slot).copied().unwrap_or(Some(0))
    }

    fn published_from(&self, event: Position) -> Result<u64, OutOfOrder> {
        if event.slot > self.next {
            let part = self.next_part(self.next).unwrap_or(0);
            return Err(OutOfOrder::Ahead(at(self.next, part)));
        }
        let part = self
            .next_part(event.slot)
            .ok_or(OutOfOrder::PastPublications)?;
        part.checked_sub(event.part)
            .ok_or(OutOfOrder::Ahead(at(event.slot, part)))
    }

    fn skip_to(&mut self, last: u64, missing: bool) {
        for slot in self.next..=last {
            if !missing {
                self.slots.insert(slot, None);
            }
        }
        self.next = last + 1;
    }

    fn open_slots(&self) -> Vec<u64> {
        (0..self.next)
            .filter(|slot| self.next_part(*slot).is_some())
            .collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Events of a slot, which may be its last.
    Publish {
        slot: u64,
        part: u64,
        count: u64,
        is_last: bool,
    },
    /// So many slots are left out.
    Skip { count: u64, missing: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..60_u64, 0..6_u64, 0..5_u64, any::<bool>())
            .prop_map(|(slot, part, count, is_last)| Step::Publish { slot, part, count, is_last }),
        1 => (1..4_u64, any::<bool>()).prop_map(|(count, missing)| Step::Skip { count, missing }),
    ]
}

proptest! {
    /// As long as no range is forgotten, a mark knows as much as a list of all slots.
    #[test]
    fn a_mark_is_what_a_list_of_all_slots_is(steps in prop::collection::vec(step(), 1..80)) {
        let mut mark = Mark::at(0);
        let mut reference = Reference::default();
        for step in steps {
            match step {
                Step::Publish { slot, part, count, is_last } => {
                    // Most are near the mark, or nothing would happen.
                    let slot = (mark.next().slot + 3).saturating_sub(slot % 12);
                    let event = at(slot, part);
                    let found = mark.published_from(event);
                    prop_assert_eq!(found, reference.published_from(event));
                    let Ok(_) = found else { continue };
                    if is_last {
                        mark.complete(slot);
                        reference.slots.insert(slot, None);
                        reference.next = reference.next.max(slot + 1);
                    } else {
                        mark.publish_until(at(slot, part + count));
                        let known = reference.next_part(slot).unwrap_or(0);
                        reference.slots.insert(slot, Some(known.max(part + count)));
                    }
                }
                Step::Skip { count, missing } => {
                    let last = mark.next().slot + count - 1;
                    mark.skip_to(last, missing);
                    reference.skip_to(last, missing);
                }
            }
            prop_assert_eq!(mark.next().slot, reference.next);
            prop_assert_eq!(Some(mark.next().part), reference.next_part(reference.next));
            let ranges = holes(&mark);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            prop_assume!(ranges.len() < MAX_HOLES);
            let open: Vec<u64> = ranges.iter().flat_map(|(from, to)| *from..=*to).collect();
            prop_assert_eq!(open, reference.open_slots());
        }
    }
}
