//! Tests of slot replays against a plain list: slots are published in parts, are missing and come late, between any two
//! steps of a shard and of the reader.
//!
//! Sockets are real. The test itself is the shard's thread and the reader.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::interest::InterestWatcher;
use super::slot_replay::{ReplayedFrame, SlotStep};
use super::tests::Bench;
use crate::log::publication::draft::Draft;
use crate::log::publication::slot_gap::{SlotGap, SlotGapNotice, SlotRange};
use crate::log::publication::tests::draft;
use crate::log::slot_marks::Position;
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::slot_replay::SlotReplay;
use crate::wire::cursor::{From, Since};
use crate::wire::format::Format;
use crate::wire::slots::SlotStart;

const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";
const LIMIT: u64 = 1 << 30;

#[derive(Debug, Clone)]
enum Step {
    /// Publishes the next event of the process.
    Publish,
    /// The next slot is missing.
    Lose,
    /// A missing slot comes.
    Find(usize),
    /// Publishes to another topic.
    Other,
    /// Connects with a first slot so far from the next one, and with a cursor so far back.
    Connect(i64, bool, Option<u64>),
    /// Asks for the slots of the process again.
    Again(usize, i64),
    Leave(usize),
    /// The reader takes the replays that are due, and hands over a step of each.
    Read,
    /// A new reader begins.
    Restart,
    Take,
    Serve(usize),
    Round,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        8 => Just(Step::Publish),
        1 => Just(Step::Lose),
        1 => (0_usize..4).prop_map(Step::Find),
        2 => Just(Step::Other),
        3 => (-9_i64..3, any::<bool>(), prop::option::of(0_u64..9))
            .prop_map(|(back, is_sse, since)| Step::Connect(back, is_sse, since)),
        1 => (0_usize..9, -9_i64..3).prop_map(|(client, back)| Step::Again(client, back)),
        1 => (0_usize..9).prop_map(Step::Leave),
        6 => Just(Step::Read),
        1 => Just(Step::Restart),
        3 => Just(Step::Take),
        3 => (1_usize..4).prop_map(Step::Serve),
        3 => Just(Step::Round),
    ];
    prop::collection::vec(one, 1..120)
}

/// Number of events of a slot.
fn parts(slot: u64) -> u64 {
    1 + slot % 3
}

struct Client {
    socket: TcpStream,
    handle: ConnectionHandle,
    start: u64,
    format: Format,
    /// Sequence number after which all messages of the other topic are due.
    since: u64,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    /// Slots that are missing.
    holes: Vec<u64>,
    /// Sequence numbers of publications to the other topic.
    others: Vec<u64>,
    /// Sequence number of the last event of each slot that was not missing.
    published: HashMap<u64, u64>,
}

struct Reader;

impl InterestWatcher for Reader {
    fn changed(&self) -> bool {
        true
    }
}

impl World {
    async fn new() -> Self {
        let bench = Bench::new().await;
        bench.context.replays.watch(Reader);
        bench.context.slots.set_mark(ID, 3);
        Self {
            bench,
            clients: Vec::new(),
            holes: Vec::new(),
            others: Vec::new(),
            published: HashMap::new(),
        }
    }

    fn mark(&self) -> Position {
        self.bench.context.slots.mark(ID).unwrap().next()
    }

    fn event(Position { slot, part }: Position) -> Draft {
        draft(&["process"], &format!("{slot}.{part}")).at(ID, Position { slot, part })
    }

    /// Publishes an event, or the rest of a slot, as the server does.
    fn publish(&mut self, slot: u64, until: u64) {
        let context = &self.bench.context;
        let mut turn = context.slots.take_turn();
        let mark = turn.mark(ID).unwrap();
        let from = if mark.next().slot == slot {
            mark.next().part
        } else {
            0
        };
        let drafts = (from..until).map(|part| Self::event(Position { slot, part }));
        context.log.append_or_none(drafts.collect(), LIMIT).unwrap();
        if slot == mark.next().slot {
            self.published.insert(slot, context.log.last_seq());
        }
        if until == parts(slot) {
            mark.complete(slot);
        } else {
            mark.publish_until(Position { slot, part: until });
        }
    }

    fn lose(&mut self) {
        let context = &self.bench.context;
        let mut turn = context.slots.take_turn();
        let mark = turn.mark(ID).unwrap();
        let Position { slot, part: 0 } = mark.next() else {
            return;
        };
        let notice = SlotGapNotice {
            process: ID.into(),
            gap: SlotGap::NotCached(SlotRange::new(slot, slot).unwrap()),
        };
        let topics = crate::log::publication::tests::slot_gap(1, &["process"])
            .topics()
            .iter()
            .cloned()
            .collect();
        let draft = Draft::of_slot_gap(topics, notice);
        context.log.append_or_none(vec![draft], LIMIT).unwrap();
        mark.skip_to(slot, true);
        self.holes.push(slot);
    }

    /// Hands over a step of a replay, as the reader of the node does.
    fn step(&self, replay: &SlotReplay) {
        let start = replay.next();
        let mark = self.mark();
        if start.slot > mark.slot || (start.slot == mark.slot && mark.part == 0) {
            replay.step(start, start, SlotStep::Live).unwrap();
        } else if self.holes.contains(&start.slot) {
            let range = SlotRange::new(start.slot, start.slot).unwrap();
            let frame = replay.gap_frame(SlotGap::NotCached(range));
            let next = frame.next;
            let missing = SlotStep::Missing {
                frame,
                from: start.slot,
                to: start.slot,
                may_come: true,
            };
            replay.step(start, next, missing).unwrap();
        } else {
            // Two events at once, so that a slot takes several steps.
            let end = parts(start.slot).min(start.part + 2);
            let is_last = end == parts(start.slot);
            let next = if is_last {
                Position {
                    slot: start.slot + 1,
                    part: 0,
                }
            } else {
                Position { part: end, ..start }
            };
            let events = (start.part..end).map(|part| Position { part, ..start });
            let frames = events.map(|position| ReplayedFrame {
                frame: Self::event(position)
                    .replayed()
                    .json_frame()
                    .to_vec()
                    .into(),
                next,
            });
            let step = SlotStep::Events {
                frames: frames.collect(),
                next,
                is_last,
            };
            replay.step(start, next, step).unwrap();
        }
    }

    fn read(&self) -> usize {
        let replays = self.bench.context.replays.clone();
        let (due, _) = replays.take_due(100);
        let found: Vec<Arc<SlotReplay>> =
            due.iter().filter_map(|due| replays.find(due.id)).collect();
        found.iter().for_each(|replay| self.step(replay));
        found.len()
    }

    async fn connect(&mut self, back: i64, is_sse: bool, since: Option<u64>) {
        let start = self.mark().slot.saturating_add_signed(back).max(1);
        let last = self.bench.context.log.last_seq();
        let since = since.map_or(last, |since| last.saturating_sub(since));
        let from = From::Since(Since {
            epoch: None,
            seq: since,
        });
        let format = if is_sse { Format::Events } else { Format::Json };
        let permit = self.bench.context.replays.admit(1000).unwrap();
        let slots = (SlotStart::new(ID, start).unwrap(), permit);
        let from = (since < last).then_some(from);
        let topics = ["process", "other"];
        let (socket, handle) = self
            .bench
            .connect_with(format, (from, Some(slots)), &topics)
            .await;
        let socket = socket.into_std().unwrap();
        self.clients.push(Client {
            socket,
            handle,
            start,
            format,
            since,
        });
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Publish => {
                let Position { slot, part } = self.mark();
                self.publish(slot, part + 1);
            }
            Step::Lose => self.lose(),
            Step::Find(place) => {
                if place < self.holes.len() {
                    let slot = self.holes.remove(place);
                    self.publish(slot, parts(slot));
                }
            }
            Step::Other => {
                let seq = self.bench.context.log.append(draft(&["other"], "x"), LIMIT);
                self.others.push(seq.unwrap());
            }
            Step::Connect(back, is_sse, since) => self.connect(back, is_sse, since).await,
            Step::Again(client, back) => {
                let start = self.mark().slot.saturating_add_signed(back).max(1);
                if let Some(client) = self.clients.get_mut(client)
                    && client.format == Format::Json
                {
                    let ask = serde_json::json!({"type": "subscribe", "process": ID, "from-slot": start, "id": start});
                    let handle = client.handle.clone();
                    self.bench.ask(&handle, &ask.to_string());
                }
            }
            Step::Leave(client) => {
                if client < self.clients.len() {
                    let client = self.clients.remove(client);
                    self.bench.shard.carry_out(super::command::Command::Remove {
                        connection: client.handle.id,
                    });
                    self.bench.shard.remove_marked();
                }
            }
            Step::Read => {
                self.read();
            }
            Step::Restart => self.bench.context.replays.watch(Reader),
            Step::Take => {
                let last = self.bench.context.log.last_seq();
                self.bench.shard.take_publications(last);
            }
            Step::Serve(count) => {
                for _ in 0..count {
                    if let Some(index) = self.bench.shard.queue.pop_front() {
                        self.bench.shard.serve(index);
                    }
                }
            }
            Step::Round => self.bench.shard.round(),
        }
    }

    /// Ends all replays.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let read = self.read();
            self.bench.shard.round();
            let is_idle = self.bench.shard.queue.is_empty()
                && self.bench.shard.replaying.is_empty()
                && self.bench.context.replays.len() == 0;
            if read == 0 && is_idle {
                return;
            }
        }
        panic!("a replay does not end");
    }
}

impl Client {
    /// Returns the frames that have arrived, with the cursors of server-sent events.
    fn frames(&mut self) -> Vec<(Json, String)> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = self.socket.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        let rest = bytes.strip_prefix(b"head").unwrap();
        if self.format == Format::Events {
            let text = std::str::from_utf8(rest).unwrap();
            let events = text.split_terminator("\n\n");
            return events
                .map(|event| {
                    let (data, id) = event.split_once("\nid: ").unwrap_or((event, ""));
                    let data = data.strip_prefix("data: ").unwrap();
                    (serde_json::from_str(data).unwrap(), id.to_owned())
                })
                .collect();
        }
        let (mut rest, mut frames) = (rest, Vec::new());
        while let [_, length, ..] = rest {
            let (start, length) = match length {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(*short)),
            };
            let json = serde_json::from_slice(&rest[start..start + length]).unwrap();
            frames.push((json, String::new()));
            rest = &rest[start + length..];
        }
        frames
    }

    /// Checks that each event came once and in order since the last request, and each message of the other topic once.
    fn check(&mut self, published: &HashMap<u64, u64>, others: &[u64], end: Position) {
        let mut wanted = Position {
            slot: self.start,
            part: 0,
        };
        let (mut missing, mut late): (Vec<u64>, Vec<String>) = (Vec::new(), Vec::new());
        let (mut is_live, mut got_others) = (false, Vec::new());
        for (frame, id) in self.frames() {
            match frame["type"].as_str().unwrap() {
                // It comes when the replay before has ended, and the next one begins.
                "subscription_response" => {
                    assert!(is_live, "{frame}");
                    self.start = frame["id"].as_u64().unwrap();
                    is_live = false;
                    wanted = Position {
                        slot: self.start,
                        part: 0,
                    };
                    missing.clear();
                    late.clear();
                }
                "connection_established" => {}
                "live" if frame["slot"].is_null() => {}
                "live" => {
                    assert_eq!(frame["slot"], wanted.slot.max(self.start), "{frame}");
                    // A cursor taken here repeats no slot.
                    let seq = frame["seq"].as_u64().unwrap();
                    let is_before = |slot| published.get(&slot).is_none_or(|last| *last <= seq);
                    assert!((self.start..wanted.slot).all(is_before), "{frame}");
                    is_live = true;
                }
                "gap" => {
                    assert_eq!(frame["from_slot"], wanted.slot, "{frame}");
                    assert_eq!(frame["replayed"].as_bool().unwrap_or(false), !is_live);
                    wanted.slot = frame["to_slot"].as_u64().unwrap() + 1;
                    missing.extend(frame["from_slot"].as_u64().unwrap()..wanted.slot);
                }
                "message" if frame["topic"] == "other" => {
                    got_others.push(frame["seq"].as_u64().unwrap());
                }
                "message" => {
                    let data = frame["data"].as_str().unwrap();
                    let (slot, part) = data.split_once('.').unwrap();
                    let slot: u64 = slot.parse().unwrap();
                    if missing.contains(&slot) {
                        assert!(frame["replayed"].is_null(), "{frame}");
                        assert!(!late.contains(&data.to_owned()), "{frame} came twice");
                        late.push(data.to_owned());
                        continue;
                    }
                    let expected = format!("{}.{}", wanted.slot, wanted.part);
                    assert_eq!((data, part), (&*expected, &*wanted.part.to_string()));
                    assert_eq!(frame["replayed"] == true, !is_live, "{frame}");
                    wanted.part += 1;
                    if wanted.part == parts(slot) {
                        wanted = Position {
                            slot: slot + 1,
                            part: 0,
                        };
                    }
                    if self.format == Format::Events {
                        let (_, cursor) = id.split_once(&format!(";{ID}:")).unwrap();
                        let (slot, part) = cursor.split_once('.').unwrap_or((cursor, "0"));
                        let cursor = (slot.parse::<u64>().unwrap(), part.parse::<u64>().unwrap());
                        // The cursor of the last event of a slot may name the slot itself, with all of its events.
                        let is_end = (cursor.0 + 1, 0) == (wanted.slot, wanted.part)
                            && cursor.1 == parts(cursor.0);
                        // Events of one step lead behind the step, which this test makes of two events.
                        let is_step = !is_live
                            && cursor.0 <= slot_after(wanted)
                            && cursor >= (wanted.slot, wanted.part);
                        assert!(
                            is_end || is_step || cursor == (wanted.slot, wanted.part),
                            "{id} {wanted:?}"
                        );
                    }
                }
                other => panic!("{other}: {frame}"),
            }
        }
        assert!(is_live);
        assert_eq!(wanted.slot, end.slot.max(self.start));
        let expected: Vec<u64> = others
            .iter()
            .copied()
            .filter(|seq| *seq > self.since)
            .collect();
        assert_eq!(got_others, expected);
    }
}

fn slot_after(position: Position) -> u64 {
    position.slot + 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 200 }))]

    #[test]
    fn each_slot_comes_once_and_in_order_through_the_seam(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.run(step).await;
            }
            // A slot that was begun is completed, and live ones follow.
            let Position { slot, part } = world.mark();
            if part > 0 {
                world.publish(slot, parts(slot));
            }
            world.settle();
            let slot = world.mark().slot;
            for slot in slot..slot + 3 {
                world.publish(slot, parts(slot));
            }
            world.settle();
            let (end, others) = (world.mark(), world.others.clone());
            let published = world.published.clone();
            for client in &mut world.clients {
                client.check(&published, &others, end);
            }
        });
    }
}
