use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::cluster::record::{Content, Record, encode};
use crate::log::publication::parts::Parts;

const NO_LIMIT: u64 = u64::MAX;

fn message(data: &str) -> Vec<u8> {
    let parts = Parts {
        cast_at: 0,
        topics: &[],
        origin: "",
        data,
        is_edge: false,
        place: None,
    };
    encode(&parts, false)
}

fn event(slot: u64) -> Name {
    Name::Event {
        process: [b'p'; 43],
        slot,
        part: 1,
    }
}

/// What a record stands for: a message by its data, or a number of lost ones.
fn meaning(record: &[u8]) -> String {
    match Record::read(record).unwrap().content {
        Content::Message { parts, .. } => parts.data.to_owned(),
        Content::Lost(messages) => format!("lost {messages}"),
    }
}

#[test]
fn records_have_numbers_and_names_that_stay() {
    let outgoing = Outgoing::new(0xab);
    outgoing.push(Name::Sender, message("a"), NO_LIMIT).unwrap();
    outgoing.push(event(7), message("b"), NO_LIMIT).unwrap();
    let first = outgoing.next(2).unwrap();
    assert_eq!(
        (first.number, &*first.name, &first.process),
        (1, "00000000000000ab:1", &None)
    );
    let sender = Record::read(&first.bytes).unwrap().sender;
    assert_eq!((sender.server, sender.number), (0xab, 1));
    let second = outgoing.next(2).unwrap();
    let process = "p".repeat(43);
    assert_eq!(second.name, format!("{process}:7:1"));
    assert_eq!(second.process, Some(process));
    assert_eq!(outgoing.next(9), None);
    outgoing.send_again();
    assert_eq!(outgoing.next(2), Some(first));
    outgoing.settle(1);
    outgoing.send_again();
    assert_eq!(outgoing.next(2), Some(second));
    assert_eq!(outgoing.len(), 1);
}

#[test]
fn an_event_that_the_stream_has_from_another_server_is_not_sent_wherever_it_waits() {
    let outgoing = Outgoing::new(1);
    let push = |name, data| outgoing.push(name, message(data), NO_LIMIT).unwrap();
    push(Name::Sender, "a");
    push(event(1), "one");
    push(event(2), "two");
    push(Name::Sender, "b");
    push(event(3), "three");
    for slot in [1, 3, 9] {
        outgoing.settle_event(event(slot));
    }
    let sent: Vec<_> = std::iter::from_fn(|| outgoing.next(9)).collect();
    // Numbers stay, and with them the names.
    let meanings: Vec<_> = sent
        .iter()
        .map(|one| (one.number, meaning(&one.bytes)))
        .collect();
    assert_eq!(
        meanings,
        [(1, "a".into()), (3, "two".into()), (4, "b".into())]
    );
    // One that is on its way is acknowledged as ever.
    outgoing.settle_event(event(2));
    assert_eq!(outgoing.len(), 5);
    outgoing.settle(1);
    assert_eq!(outgoing.len(), 3);
    // A new connection sends none of them either.
    outgoing.send_again();
    outgoing.settle_event(event(2));
    assert_eq!(outgoing.next(9).map(|one| one.number), Some(4));
    outgoing.settle(4);
    assert_eq!((outgoing.len(), outgoing.bytes()), (0, 0));
    assert!(outgoing.queue.lock().events.is_empty());
}

#[test]
fn only_so_many_are_sent_before_an_acknowledgement() {
    let outgoing = &*Outgoing::new(1);
    for data in ["a", "b", "c"] {
        outgoing
            .push(Name::Sender, message(data), NO_LIMIT)
            .unwrap();
    }
    let numbers = |window| std::iter::from_fn(move || outgoing.next(window)).map(|one| one.number);
    assert_eq!(numbers(2).collect::<Vec<_>>(), [1, 2]);
    outgoing.settle(1);
    assert_eq!(numbers(2).collect::<Vec<_>>(), [3]);
    outgoing.settle(3);
    assert_eq!((outgoing.len(), outgoing.bytes()), (0, 0));
}

#[test]
fn bytes_are_bounded_at_the_limit() {
    let size = message("a").len() as u64 + PLACE;
    let outgoing = Outgoing::new(1);
    let push = |limit| outgoing.push(Name::Sender, message("a"), limit);
    // A single record has room whatever its size.
    assert_eq!(push(0), Ok(()));
    assert_eq!(push(2 * size - 1), Err(Rejected::Overload));
    assert_eq!(outgoing.bytes(), size);
    outgoing.settle(1);
    outgoing.settle(2);
    assert_eq!(push(2 * size), Ok(()));
    assert_eq!(push(2 * size), Ok(()));
    assert_eq!(outgoing.bytes(), 2 * size);
    assert_eq!(push(2 * size), Err(Rejected::Overload));
    let whole = || vec![(event(1), message("b")), (event(2), message("c"))];
    assert_eq!(
        outgoing.push_all(whole(), 4 * size - 1),
        Err(Rejected::Overload)
    );
    assert_eq!(outgoing.len(), 2);
    assert_eq!(outgoing.push_all(whole(), NO_LIMIT), Ok(()));
    // The loss before stands in its place.
    assert_eq!(outgoing.len(), 5);
}

#[test]
fn losses_wait_for_room_whatever_is_settled_again() {
    let outgoing = Outgoing::new(1);
    outgoing.push(Name::Sender, message("a"), NO_LIMIT).unwrap();
    outgoing.settle(1);
    outgoing.push(Name::Sender, message("b"), NO_LIMIT).unwrap();
    for _ in 0..100 {
        outgoing.push(Name::Sender, message("c"), 0).unwrap_err();
        outgoing.settle(1);
        outgoing.send_again();
    }
    assert_eq!(outgoing.len(), 1);
    outgoing.settle(2);
    assert_eq!(meaning(&outgoing.next(9).unwrap().bytes), "lost 100");
}

#[test]
fn a_record_that_the_stream_never_takes_is_told_as_lost() {
    let outgoing = Outgoing::new(1);
    outgoing
        .push(Name::Sender, message("large"), NO_LIMIT)
        .unwrap();
    outgoing.push(Name::Sender, message("b"), NO_LIMIT).unwrap();
    assert_eq!(outgoing.refuse(2), 0, "only the first one");
    assert_eq!(outgoing.refuse(1), 1);
    let all = std::iter::from_fn(|| outgoing.next(9)).map(|one| meaning(&one.bytes));
    assert_eq!(all.collect::<Vec<_>>(), ["b", "lost 1"]);
}

/// A stream and the connection to it. Bytes arrive in the order in which they were sent, or not at all.
#[derive(Debug, Default)]
struct World {
    /// Sent and not yet arrived.
    flying: VecDeque<OutgoingRecord>,
    /// Acknowledgements that are not yet read.
    acks: VecDeque<u64>,
    stored: Vec<OutgoingRecord>,
    names: HashSet<String>,
}

impl World {
    fn arrive(&mut self) {
        if let Some(record) = self.flying.pop_front() {
            self.acks.push_back(record.number);
            if self.names.insert(record.name.clone()) {
                self.stored.push(record);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A message of this many bytes.
    Publish(usize),
    Send,
    Arrive,
    Acknowledge,
    /// The connection ends: what flies and its acknowledgements are gone. The next one begins with what came back from
    /// the stream, or without.
    Break(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..300).prop_map(Step::Publish),
        6 => Just(Step::Send),
        4 => Just(Step::Arrive),
        4 => Just(Step::Acknowledge),
        1 => any::<bool>().prop_map(Step::Break),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever breaks and whenever, the stream has every message once and in order, or a record of its loss in its
    /// place.
    #[test]
    fn the_stream_has_everything_once_and_in_order(steps in steps(), window in 1_usize..6) {
        const LIMIT: u64 = 2000;
        let outgoing = Outgoing::new(1);
        let mut world = World::default();
        let mut published = 0_u64;
        let mut rejected = Vec::new();
        let act = |step: &Step, world: &mut World, published: &mut u64, rejected: &mut Vec<u64>| match step {
            Step::Publish(bytes) => {
                *published += 1;
                let data = format!("{published}:{}", "x".repeat(*bytes));
                if outgoing.push(Name::Sender, message(&data), LIMIT).is_err() {
                    rejected.push(*published);
                }
            }
            Step::Send => world.flying.extend(outgoing.next(window)),
            Step::Arrive => world.arrive(),
            Step::Acknowledge => {
                if let Some(number) = world.acks.pop_front() {
                    outgoing.settle(number);
                }
            }
            Step::Break(reads) => {
                world.flying.clear();
                world.acks.clear();
                if *reads && let Some(last) = world.stored.last() {
                    outgoing.settle(last.number);
                }
                outgoing.send_again();
            }
        };
        for step in &steps {
            act(step, &mut world, &mut published, &mut rejected);
            prop_assert!(world.flying.len() + world.acks.len() <= window);
            prop_assert!(outgoing.bytes() <= LIMIT + 400 + PLACE);
        }
        // At last the connection holds.
        for step in [Step::Break(false)].iter().chain(std::iter::repeat_n(&[Step::Send, Step::Arrive, Step::Acknowledge], 400).flatten()) {
            act(step, &mut world, &mut published, &mut rejected);
        }
        prop_assert_eq!(outgoing.len(), 0);
        let mut next = 1;
        for record in &world.stored {
            match Record::read(&record.bytes).unwrap().content {
                Content::Lost(messages) => {
                    for lost in next..next + messages {
                        prop_assert!(rejected.contains(&lost), "{} was not lost", lost);
                    }
                    next += messages;
                }
                Content::Message { parts, .. } => {
                    let number: u64 = parts.data.split(':').next().unwrap().parse().unwrap();
                    prop_assert_eq!(number, next);
                    next += 1;
                }
            }
        }
        prop_assert_eq!(next, published + 1);
    }
}
