//! Tests of clients whose cursor is older than the history, against a plain list: publications come, records leave the
//! history and the stream, and the engine fails, between any two steps of the shard.

use std::io::Read as _;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::command::Command;
use super::stream_reads::{MAX_READS, StreamRead};
use super::tests::{Bench, events, frames};
use crate::cluster::record::encode;
use crate::log::publication::draft::Draft;
use crate::log::publication::stream_break::StreamBreak;
use crate::log::publication::tests::draft;
use crate::settings::{SettingValue, Settings};
use crate::shard::connection_handle::ConnectionHandle;
use crate::wire::control::GapReason;
use crate::wire::cursor::{From, Since};
use crate::wire::format::Format;

const NAMES: [&str; 3] = ["a", "b", "c"];
const EPOCH: &str = "stream";

/// Records that the stream had before the server came.
const EARLIER: u64 = 40;

#[derive(Debug, Clone)]
enum Step {
    /// Publishes to topics, given as bits, a number of times.
    Publish(u8, usize),
    /// Records that the stream forgets before the server receives them.
    Miss(u64),
    /// A notice of this server alone.
    Notice,
    /// The stream forgets some of its oldest records.
    Purge(u64),
    /// The history holds so many bytes from now on.
    Keep(u64),
    /// Connects with topics, and with a cursor so far back. One of another server may be ahead.
    Connect(u8, bool, i64),
    /// Subscribes to one more topic, with a cursor so far back.
    Subscribe(usize, usize, i64),
    Leave(usize),
    /// The engine gives the next read up to so many records.
    Give(usize),
    /// The engine cannot answer, or begins a new session.
    Fail(bool),
    Round,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (0_u8..8, 1_usize..12).prop_map(|(topics, count)| Step::Publish(topics, count)),
        1 => (1_u64..9).prop_map(Step::Miss),
        1 => Just(Step::Notice),
        1 => (0_u64..40).prop_map(Step::Purge),
        1 => prop::sample::select(vec![0_u64, 1_000, 5_000, 50_000]).prop_map(Step::Keep),
        3 => (1_u8..8, any::<bool>(), -9_i64..90).prop_map(|(topics, is_sse, back)| Step::Connect(topics, is_sse, back)),
        1 => (0_usize..20, 0..NAMES.len(), -9_i64..90).prop_map(|(client, topic, back)| Step::Subscribe(client, topic, back)),
        1 => (0_usize..20).prop_map(Step::Leave),
        6 => (1_usize..40).prop_map(Step::Give),
        1 => any::<bool>().prop_map(Step::Fail),
        6 => Just(Step::Round),
    ];
    prop::collection::vec(one, 1..120)
}

/// A client and the ranges of numbers that it has to get, or to be told of.
struct Client {
    socket: TcpStream,
    handle: ConnectionHandle,
    format: Format,
    wanted: Vec<Wanted>,
}

/// The numbers in which a client wants the messages of a topic.
struct Wanted {
    topic: usize,
    numbers: Range<u64>,
    /// Topics that it had already, as bits, and the last number of that time. Their messages do not come again.
    had: (u8, u64),
}

/// A frame that a client got.
#[derive(Debug, PartialEq)]
enum Got {
    Message(u64),
    Gap(u64, u64, String),
}

impl Client {
    fn wants(&self, number: u64, topics: u8) -> bool {
        self.wanted.iter().any(|wanted| {
            let (had, until) = wanted.had;
            let is_chosen = topics & (1 << wanted.topic) != 0 && wanted.numbers.contains(&number);
            is_chosen && (number > until || topics & had == 0)
        })
    }

    /// Returns the frames. Those of server-sent events have the cursor of their number.
    fn got(&mut self) -> Vec<Got> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = self.socket.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        let rest = bytes.strip_prefix(b"head").unwrap();
        let frames = match self.format {
            Format::Events => events(rest),
            _ => frames(rest),
        };
        let mut got = Vec::new();
        for (json, id) in frames {
            let number = |name: &str| json[name].as_u64().unwrap();
            match json["type"].as_str().unwrap() {
                "message" => {
                    let seq = number("seq");
                    assert_eq!(json["data"], seq.to_string());
                    if self.format == Format::Events {
                        assert_eq!(id.unwrap(), format!("{EPOCH}:{seq}"));
                    }
                    got.push(Got::Message(seq));
                }
                "gap" => {
                    let (after, next) = (number("after"), number("next"));
                    assert_eq!(number("dropped"), next - after - 1);
                    assert!(json.get("epoch").is_none());
                    let reason = json["reason"].as_str().unwrap().to_owned();
                    got.push(Got::Gap(after, next, reason));
                }
                "error" => panic!("{json}"),
                _ => {}
            }
        }
        got
    }
}

/// The server, its clients, and the stream.
struct World {
    bench: Bench,
    clients: Vec<Client>,
    /// The topics of each record as bits, from number 1 on; none for a record that the server never received.
    records: Vec<Option<u8>>,
    /// The oldest number that the stream has.
    first: u64,
    reads: Vec<StreamRead>,
}

fn record(number: u64, topics: u8) -> Draft {
    let names = (0..NAMES.len()).filter(|topic| topics & (1 << topic) != 0);
    let names: Vec<&str> = names.map(|topic| NAMES[topic]).collect();
    draft(&names, &number.to_string())
}

impl World {
    async fn new() -> Self {
        let mut settings = Settings::default();
        let url = SettingValue::Text("nats://127.0.0.1:1".into());
        settings.set("engine", url).unwrap();
        let bench = Bench::with(settings).await;
        let context = &bench.context;
        context.stream.as_ref().unwrap().set_can_read(true);
        context.eras.begin(EPOCH, 0, EARLIER);
        Self {
            records: (0..EARLIER).map(|number| Some(number as u8 % 8)).collect(),
            bench,
            clients: Vec::new(),
            first: 1,
            reads: Vec::new(),
        }
    }

    fn last(&self) -> u64 {
        self.records.len() as u64
    }

    /// Appends a publication that begins an era, as the receiver of the stream does.
    fn begin_era(&self, draft: Draft, number: u64) {
        let context = &self.bench.context;
        let place = context.log.last_seq() + 1;
        context.eras.begin(EPOCH, place, number);
        context.log.append_numbered(draft, number);
    }

    async fn connect(&mut self, topics: u8, is_sse: bool, back: i64) {
        let format = if is_sse { Format::Events } else { Format::Json };
        let seq = self.last().saturating_add_signed(-back);
        let epoch = Some(EPOCH.to_owned());
        let from = From::Since(Since { epoch, seq });
        let held = (0..NAMES.len()).filter(|topic| topics & (1 << topic) != 0);
        let held: Vec<usize> = held.collect();
        let names: Vec<&str> = held.iter().map(|topic| NAMES[*topic]).collect();
        let (socket, handle) = self.bench.connect(format, Some(from), &names).await;
        let wanted = held.iter().map(|topic| Wanted {
            topic: *topic,
            numbers: seq + 1..u64::MAX,
            had: (0, 0),
        });
        self.clients.push(Client {
            socket: socket.into_std().unwrap(),
            handle,
            format,
            wanted: wanted.collect(),
        });
    }

    /// Subscribes a client that is live, so that it knows the last message before.
    fn subscribe(&mut self, client: usize, topic: usize, back: i64) {
        let count = self.clients.len();
        let seq = self.last().saturating_add_signed(-back);
        let Some(client) = self.clients.get_mut(client % count.max(1)) else {
            return;
        };
        let index = self.bench.shard.clients.find(client.handle.id);
        let found = index.and_then(|index| self.bench.shard.clients.get(index));
        let is_held = client.wanted.iter().any(|wanted| wanted.topic == topic);
        if found.is_none_or(|found| found.replay.is_some())
            || is_held
            || client.format == Format::Events
        {
            return;
        }
        let request =
            serde_json::json!({"type": "subscribe", "topics": [NAMES[topic]], "since": seq});
        self.bench.ask(&client.handle, &request.to_string());
        let held = client.wanted.iter().map(|wanted| 1 << wanted.topic);
        // The shard has carried out the request with what it had taken.
        let until = self.bench.context.eras.number(self.bench.shard.seq);
        client.wanted.push(Wanted {
            topic,
            numbers: seq + 1..u64::MAX,
            had: (held.fold(0, |all, bit: u8| all | bit), until),
        });
    }

    fn give(&mut self, count: usize) {
        let reads = self.bench.context.reads.clone();
        let taken = reads.take_due().map(|(read, _)| read);
        let Some(read) = self.reads.pop().or(taken) else {
            return;
        };
        let from = read.from.max(self.first);
        let numbers =
            (from..=self.last()).filter(|number| self.records[*number as usize - 1].is_some());
        let chunk = numbers.take(count).map(|number| {
            let draft = record(number, self.records[number as usize - 1].unwrap());
            (number, Bytes::from(encode(&draft.parts().unwrap(), false)))
        });
        reads.give(read, chunk.collect());
    }

    fn step(&mut self, step: Step) {
        let last = self.last();
        match step {
            Step::Publish(topics, count) => {
                for number in last + 1..=last + count as u64 {
                    self.records.push(Some(topics));
                    let draft = record(number, topics);
                    self.bench.context.log.append_numbered(draft, number);
                }
            }
            Step::Miss(count) => {
                self.records.extend((0..count).map(|_| None));
                self.first = self.last() + 1;
                let gap = StreamBreak {
                    reason: GapReason::Expired,
                    after: last,
                    next: last + count + 1,
                    epoch: None,
                };
                self.begin_era(Draft::of_break(gap), last + count);
            }
            Step::Notice => {
                // Nobody wants it.
                self.begin_era(draft(&["of this server"], "0"), last);
            }
            Step::Purge(count) => self.first = (self.first + count).min(last + 1),
            Step::Keep(bytes) => self.bench.context.log.keep(bytes),
            Step::Subscribe(client, topic, back) => self.subscribe(client, topic, back),
            Step::Leave(client) if !self.clients.is_empty() => {
                let client = self.clients.remove(client % self.clients.len());
                self.bench.shard.carry_out(Command::Remove {
                    connection: client.handle.id,
                });
                self.bench.shard.remove_marked();
            }
            Step::Give(count) => self.give(count),
            Step::Fail(is_session) => {
                let reads = self.bench.context.reads.clone();
                match reads.take_due() {
                    Some((read, _)) if !is_session => reads.postpone(read),
                    Some((read, _)) => self.reads.push(read),
                    None => {}
                }
                if is_session {
                    self.reads.clear();
                    reads.begin_again();
                }
            }
            Step::Round => self.bench.shard.round(),
            Step::Connect(..) | Step::Leave(_) => {}
        }
    }

    /// Lets everybody catch up.
    fn finish(&mut self) {
        while self.bench.context.reads.len() > 0
            || self.bench.shard.seq < self.bench.context.log.last_seq()
        {
            self.give(17);
            self.bench.shard.round();
        }
        // Clients that wait for another server's cursor are live when it has come.
        self.step(Step::Publish(0, 20));
        self.bench.shard.round();
        while self.bench.context.reads.len() > 0 {
            self.give(17);
            self.bench.shard.round();
        }
        while !self.bench.shard.queue.is_empty() || !self.bench.shard.replaying.is_empty() {
            self.bench.shard.round();
        }
    }
}

/// Checks that a client got what it wants, in order and once, and that what it did not get was told.
fn check(client: &mut Client, records: &[Option<u8>], first: u64) -> Result<(), TestCaseError> {
    let got = client.got();
    let (mut seen, mut told, mut before) = (
        vec![0; records.len() + 1],
        vec![false; records.len() + 1],
        0,
    );
    for frame in &got {
        match frame {
            Got::Message(number) => {
                // A replay after a subscription goes back.
                prop_assert!(client.wanted.len() > 1 || *number > before, "{got:?}");
                (before, seen[*number as usize]) = (*number, seen[*number as usize] + 1);
            }
            Got::Gap(after, next, reason) => {
                prop_assert_eq!(reason, "expired");
                (after + 1..*next).for_each(|number| told[number as usize] = true);
            }
        }
    }
    for (record, number) in records.iter().zip(1_u64..) {
        let is_wanted = record.is_some_and(|topics| client.wants(number, topics));
        let (seen, told) = (seen[number as usize], told[number as usize]);
        prop_assert!(
            seen == usize::from(is_wanted) || (seen == 0 && told),
            "{number} came {seen} times: {got:?}"
        );
        // Only what the stream has forgotten is missing.
        prop_assert!(!told || number < first, "{number} was told: {got:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_older_than_the_history_comes_from_the_stream_once_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                if let Step::Connect(topics, is_sse, back) = step {
                    world.connect(topics, is_sse, back).await;
                } else {
                    world.step(step);
                }
            }
            world.finish();
            let World { clients, records, first, .. } = &mut world;
            for client in clients {
                check(client, records, *first)?;
            }
            let mut all = world.bench.shard.clients.iter();
            prop_assert!(all.all(|client| client.replay.is_none()));
            prop_assert_eq!(world.bench.context.counters.panics.get(), 0);
            Ok(())
        })?;
    }
}

/// A stream with records from before the server, and clients that want them all.
async fn readers(count: usize) -> World {
    let mut world = World::new().await;
    for _ in 0..count {
        world.connect(7, false, EARLIER as i64).await;
    }
    world
}

#[tokio::test]
async fn so_many_clients_read_at_once_and_one_more_is_told_to_try_again() {
    let mut world = readers(MAX_READS).await;
    let reads = world.bench.context.reads.clone();
    assert_eq!(reads.len(), MAX_READS as u64);
    world.connect(7, false, EARLIER as i64).await;
    world.bench.shard.round();
    let refused = world.clients.last_mut().unwrap();
    let mut bytes = vec![0; 4096];
    let count = refused.socket.read(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]);
    assert!(
        text.contains(r#""code":"busy""#) && text.contains(r#""reason":"expired""#),
        "{text}"
    );
    // The reading of a client that leaves stops, and makes room.
    let due = reads.take_due().unwrap().0;
    world.step(Step::Leave(0));
    assert!(!reads.has(due.id));
    assert_eq!(reads.len(), MAX_READS as u64 - 1);
    world.connect(7, false, EARLIER as i64).await;
    assert_eq!(reads.len(), MAX_READS as u64);
}

#[tokio::test]
async fn the_engine_is_asked_for_more_only_when_the_client_has_taken_everything() {
    let mut world = World::new().await;
    let context = world.bench.context.clone();
    let large = draft(&["a"], &"x".repeat(500_000));
    let large = Bytes::from(encode(&large.parts().unwrap(), false));
    world.connect(1, false, EARLIER as i64).await;
    let (mut given, mut rounds) = (0, 0);
    while rounds < 20 {
        rounds += 1;
        if let Some((read, _)) = context.reads.take_due() {
            given += 1;
            context.reads.give(read, vec![(read.from, large.clone())]);
            rounds = 0;
        }
        world.bench.shard.round();
        assert!(
            given < EARLIER,
            "nothing stops the reading of a client that takes nothing"
        );
    }
    assert!(given > 0);
    assert_eq!(context.reads.take_due(), None);
}

#[tokio::test]
async fn a_stream_that_was_made_anew_meanwhile_is_told_and_not_read() {
    let mut world = readers(1).await;
    world.step(Step::Publish(1, 3));
    let context = world.bench.context.clone();
    let place = context.log.last_seq() + 1;
    context.eras.begin("other", place, 0);
    let epoch: Arc<str> = "other".into();
    let gap = StreamBreak {
        reason: GapReason::Epoch,
        after: 0,
        next: 1,
        epoch: Some(epoch),
    };
    context.log.append_numbered(Draft::of_break(gap), 0);
    let (read, of_epoch) = context.reads.take_due().unwrap();
    assert_eq!(&*of_epoch, EPOCH);
    context.reads.give(read, Vec::new());
    for _ in 0..5 {
        world.bench.shard.round();
    }
    assert_eq!(context.reads.len(), 0);
    let client = &mut world.clients[0];
    let mut bytes = vec![0; 4096];
    let count = client.socket.read(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]);
    assert!(
        text.contains(r#""reason":"epoch""#) && text.contains(r#""type":"live""#),
        "{text}"
    );
    assert!(!text.contains(r#""type":"message""#), "{text}");
}

#[tokio::test]
async fn an_engine_that_reads_nothing_again_leaves_a_gap() {
    let mut world = World::new().await;
    world
        .bench
        .context
        .stream
        .as_ref()
        .unwrap()
        .set_can_read(false);
    world.connect(7, false, 30).await;
    world.bench.shard.round();
    assert_eq!(world.bench.context.reads.len(), 0);
    let expected = Got::Gap(10, 41, "expired".to_owned());
    assert_eq!(world.clients[0].got(), [expected]);
}
