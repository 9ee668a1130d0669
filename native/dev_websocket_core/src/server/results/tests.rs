//! What the log holds after slots were published, all or none, against a plain reference.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::log::publication::Publication;
use crate::log::publication::slot_gap::SlotRange;
use crate::log::publication_log::Cursor;
use crate::message::Value;
use crate::message::provenance::Provenance;
use crate::settings::Settings;

fn at(slot: u64, part: u64) -> Position {
    Position { slot, part }
}

/// Events of a slot by their numbers, of about so many bytes each.
fn events(from: u64, count: u64, bytes: usize) -> Vec<Event<'static>> {
    let event = |number: u64| Event {
        message: Some(Value::Map(vec![
            ("n".into(), Value::Integer(number as i64)),
            ("x".into(), Value::Text("x".repeat(bytes).into())),
        ])),
        origin: Provenance::default(),
    };
    (from..from + count).map(event).collect()
}

fn server(publish_queue_bytes: u64) -> (Server, Cursor) {
    Server::without_threads(Settings {
        publish_queue_bytes,
        ..Settings::default()
    })
}

/// A publication as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Event { slot: u64, part: u64 },
    Gap { from: u64, to: u64, reason: String },
}

fn seen(publication: &Publication) -> Seen {
    let frame = crate::wire::frame::payload(publication.json_frame());
    let frame: serde_json::Value = serde_json::from_slice(frame).unwrap();
    assert_eq!(frame["process"], "p");
    assert_eq!(frame["seq"], publication.seq());
    let number = |key: &str| frame[key].as_u64().unwrap();
    if frame["type"] == "gap" {
        assert_eq!(
            number("dropped"),
            number("to_slot") - number("from_slot") + 1
        );
        return Seen::Gap {
            from: number("from_slot"),
            to: number("to_slot"),
            reason: frame["reason"].as_str().unwrap().to_owned(),
        };
    }
    Seen::Event {
        slot: number("slot"),
        part: frame["data"]["n"].as_u64().unwrap(),
    }
}

/// Everything in the log since the last time.
fn read(cursor: &mut Cursor) -> Vec<Seen> {
    let seen = std::iter::from_fn(|| cursor.next().map(|publication| seen(&publication))).collect();
    cursor.finish();
    seen
}

fn range(from: u64, to: u64) -> SlotRange {
    SlotRange::new(from, to).unwrap()
}

#[test]
fn events_find_room_together_or_not_at_all() {
    let (server, mut cursor) = server(100_000);
    let slots = &server.shared.slots;
    slots.set_mark("p", 0);
    let publish = |slot, bytes| server.publish_part("p", at(slot, 0), events(0, 4, bytes), true);
    // However large, it goes into an empty queue.
    assert_eq!(publish(0, 30_000), Ok(()));
    let waiting = server.shared.context.log.waiting_bytes();
    assert!(waiting > 100_000);
    for bytes in [1, 30_000] {
        assert_eq!(publish(1, bytes), Err(SlotRejected::Overload));
    }
    let gap = SlotGap::NotCached(range(1, 1));
    assert_eq!(
        server.publish_slot_gap("p", gap),
        Err(SlotRejected::Overload)
    );
    let limit = server.publish_slot_gap("p", SlotGap::Limit);
    assert_eq!(limit, Err(SlotRejected::Overload));
    assert_eq!(slots.mark("p").unwrap().next(), at(1, 0));
    assert_eq!(read(&mut cursor).len(), 4);
    assert_eq!(publish(1, 10_000), Ok(()));
    // Nothing is lost, so nobody is told of a loss, and nothing is counted.
    assert_eq!(publish(2, 30_000), Err(SlotRejected::Overload));
    assert_eq!(publish(2, 10_000), Ok(()));
    assert_eq!(read(&mut cursor).len(), 8);
    assert_eq!(server.shared.context.counters.dropped_overload.get(), 0);
    assert_eq!(server.shared.context.counters.results_published.get(), 3);
}

#[test]
fn the_bound_on_what_waits_is_exact() {
    let publish =
        |server: &Server, slot| server.publish_part("p", at(slot, 0), events(0, 4, 100), true);
    let (unbounded, _cursor) = server(u64::MAX);
    unbounded.shared.slots.set_mark("p", 0);
    publish(&unbounded, 0).unwrap();
    let bytes = unbounded.shared.context.log.waiting_bytes();
    for (limit, expected) in [
        (2 * bytes - 1, Err(SlotRejected::Overload)),
        (2 * bytes, Ok(())),
        (2 * bytes + 1, Ok(())),
    ] {
        let (server, _cursor) = server(limit);
        server.shared.slots.set_mark("p", 0);
        assert_eq!(publish(&server, 0), Ok(()));
        assert_eq!(publish(&server, 1), expected);
    }
}

#[test]
fn a_part_has_at_most_256_events_and_4_mib() {
    let (server, mut cursor) = Server::without_threads(Settings {
        publish_queue_bytes: u64::MAX,
        max_message_bytes: 8 << 20,
        ..Settings::default()
    });
    server.shared.slots.set_mark("p", 0);
    let mut slot = 0;
    let mut publish = |count, bytes| {
        let published = server.publish_part("p", at(slot, 0), events(0, count, bytes), true);
        slot += u64::from(published.is_ok());
        published
    };
    for (count, expected) in [
        (255, Ok(())),
        (256, Ok(())),
        (257, Err(SlotRejected::TooMuch)),
    ] {
        assert_eq!(publish(count, 1), expected, "{count}");
    }
    // The JSON around the text of an event takes 14 bytes.
    for (bytes, expected) in [
        (MAX_PART_BYTES / 2 - 15, Ok(())),
        (MAX_PART_BYTES / 2 - 14, Ok(())),
        (MAX_PART_BYTES / 2 - 13, Err(SlotRejected::TooMuch)),
    ] {
        assert_eq!(publish(2, bytes), expected, "{bytes}");
    }
    // One alone is bounded by the size of a message.
    assert_eq!(publish(1, MAX_PART_BYTES), Ok(()));
    assert_eq!(server.shared.context.counters.dropped_malformed.get(), 2);
    assert_eq!(read(&mut cursor).len(), 255 + 256 + 2 + 2 + 1);
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        /// How far behind the mark the slot is, plus 2: some are beyond.
        behind: u64,
        part: u64,
        count: u64,
        is_last: bool,
        bytes: usize,
    },
    Gap {
        /// How far beyond the mark it begins: 0 is where it has to.
        ahead: u64,
        length: u64,
        kind: u8,
    },
    /// The shards have taken everything.
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u64, 0..5_u64, 0..5_u64, any::<bool>(), 0..300_usize).prop_map(
            |(behind, part, count, is_last, bytes)| Step::Publish { behind, part, count, is_last, bytes }
        ),
        2 => (0..2_u64, 1..4_u64, 0..3_u8)
            .prop_map(|(ahead, length, kind)| Step::Gap { ahead, length, kind }),
        1 => Just(Step::Read),
    ]
}

/// Each slot by itself.
#[derive(Debug, Default)]
struct Reference {
    /// The next part of each slot that was begun; none once it is over.
    parts: BTreeMap<u64, Option<u64>>,
    next: u64,
    /// What clients must see.
    log: Vec<Seen>,
}

impl Reference {
    fn part(&self, slot: u64) -> Option<u64> {
        self.parts.get(&slot).copied().unwrap_or(Some(0))
    }

    fn publish(&mut self, start: Position, count: u64, is_last: bool) -> Result<(), SlotRejected> {
        if start.slot > self.next {
            let part = self.part(self.next).unwrap_or(0);
            return Err(SlotRejected::Expected(at(self.next, part)));
        }
        let part = self.part(start.slot).ok_or(SlotRejected::Repeated)?;
        if start.part > part {
            return Err(SlotRejected::Expected(at(start.slot, part)));
        }
        let end = part.max(start.part + count);
        let slot = start.slot;
        self.log
            .extend((part..end).map(|part| Seen::Event { slot, part }));
        self.parts.insert(slot, (!is_last).then_some(end));
        if is_last && slot == self.next {
            self.next += 1;
        }
        Ok(())
    }

    fn gap(&mut self, from: u64, to: u64, kind: u8) -> Result<(), SlotRejected> {
        if from != self.next {
            let part = self.part(self.next).unwrap_or(0);
            return Err(SlotRejected::Expected(at(self.next, part)));
        }
        let reason = ["not_cached", "withheld", "not_followed"][usize::from(kind)];
        self.log.push(Seen::Gap {
            from,
            to,
            reason: reason.to_owned(),
        });
        if kind == 2 {
            self.parts.extend((from..=to).map(|slot| (slot, None)));
        }
        self.next = to + 1;
        Ok(())
    }
}

proptest! {
    /// Whatever is asked for in whatever order, and however full the log is: each event stands in the log once, in its
    /// order, or the caller is told.
    #[test]
    fn the_log_is_what_a_list_of_all_slots_says(steps in prop::collection::vec(step(), 1..100)) {
        let (server, mut cursor) = server(4_000);
        server.shared.slots.set_mark("p", 0);
        let mut reference = Reference::default();
        let mut log = Vec::new();
        for step in steps {
            let next = reference.next;
            // Of more ranges the oldest would be forgotten.
            prop_assume!(server.shared.slots.mark("p").unwrap().holes().count() < 32);
            match step {
                Step::Publish { behind, part, count, is_last, bytes } => {
                    let start = at((next + 2).saturating_sub(behind), part);
                    let published =
                        server.publish_part("p", start, events(part, count, bytes), is_last);
                    if published == Err(SlotRejected::Overload) {
                        prop_assert!(server.shared.context.log.waiting_bytes() > 0);
                    } else {
                        prop_assert_eq!(published, reference.publish(start, count, is_last));
                    }
                }
                Step::Gap { ahead, length, kind } => {
                    let (from, to) = (next + ahead, next + ahead + length - 1);
                    let gap = [SlotGap::NotCached, SlotGap::Withheld, SlotGap::NotFollowed]
                        [usize::from(kind)](range(from, to));
                    let published = server.publish_slot_gap("p", gap);
                    if published == Err(SlotRejected::Overload) {
                        prop_assert!(server.shared.context.log.waiting_bytes() > 0);
                    } else {
                        prop_assert_eq!(published, reference.gap(from, to, kind));
                    }
                }
                Step::Read => log.extend(read(&mut cursor)),
            }
            let mark = server.shared.slots.mark("p").unwrap().next();
            prop_assert_eq!(mark.slot, reference.next);
            prop_assert_eq!(Some(mark.part), reference.part(reference.next));
        }
        log.extend(read(&mut cursor));
        prop_assert_eq!(log, reference.log);
    }
}
