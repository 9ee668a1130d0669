//! What a shard sends, against a plain list: clients come, change what they want and leave between any two steps of it.
//!
//! Sockets are real; the shard's thread is the test, which can stop between any two clients that are served.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpStream;

use proptest::prelude::*;

use super::command::Command;
use super::ids::Seq;
use super::tests::Bench;
use crate::log::publication::tests::draft;
use crate::shard::connection_handle::ConnectionHandle;
use crate::wire::cursor::{From, Since};
use crate::wire::format::Format;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// So many that frames are joined for them.
const CROWD: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    /// Topics as bits, so many times.
    Publish(u8, usize),
    /// Topics that are wanted from the start, and a cursor so far back.
    Connect(u8, bool, Option<u64>),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Leave(usize),
    /// The shard takes what there is.
    Take,
    /// So many clients are served.
    Serve(usize),
    /// The batch ends, when everybody is served.
    End,
    Round,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (0_u8..8, 1_usize..12).prop_map(|(topics, count)| Step::Publish(topics, count)),
        2 => (0_u8..8, any::<bool>(), prop::option::of(0_u64..60))
            .prop_map(|(topics, is_raw, back)| Step::Connect(topics, is_raw, back)),
        2 => (0_usize..20, 0..NAMES.len()).prop_map(|(client, topic)| Step::Subscribe(client, topic)),
        2 => (0_usize..20, 0..NAMES.len()).prop_map(|(client, topic)| Step::Unsubscribe(client, topic)),
        1 => (0_usize..20).prop_map(Step::Leave),
        3 => Just(Step::Take),
        3 => (1_usize..9).prop_map(Step::Serve),
        1 => Just(Step::End),
        2 => Just(Step::Round),
    ];
    prop::collection::vec(one, 1..80)
}

/// A client, what it holds, and what it is to get.
struct Client {
    socket: TcpStream,
    handle: ConnectionHandle,
    format: Format,
    held: BTreeSet<usize>,
    expected: Vec<Seq>,
    /// Publications up to here are accounted for.
    until: Seq,
}

impl Client {
    /// Accounts for what was published up to a number.
    fn account(&mut self, published: &[u8], until: Seq) {
        for seq in self.until + 1..=until {
            let topics = published[seq as usize - 1];
            if self.held.iter().any(|topic| topics & (1 << topic) != 0) {
                self.expected.push(seq);
            }
        }
        self.until = self.until.max(until);
    }

    /// The numbers of the publications that it got, which are also their data.
    fn got(&mut self) -> Vec<Seq> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = self.socket.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        let mut rest = bytes.strip_prefix(b"head").unwrap();
        let mut got = Vec::new();
        while let [_, length, ..] = rest {
            let (start, length) = match length {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(*short)),
            };
            let json: serde_json::Value =
                serde_json::from_slice(&rest[start..start + length]).unwrap();
            rest = &rest[start + length..];
            let data = if self.format == Format::Raw {
                Some(&json)
            } else {
                json.get("data")
            };
            if let Some(data) = data {
                let seq = data.as_str().unwrap().parse().unwrap();
                assert!(self.format == Format::Raw || json["seq"] == seq);
                got.push(seq);
            }
        }
        assert!(rest.is_empty());
        got
    }
}

/// The bench, its clients, and the topics of each publication.
struct World {
    bench: Bench,
    clients: Vec<Client>,
    published: Vec<u8>,
}

impl World {
    async fn connect(&mut self, topics: u8, is_raw: bool, back: Option<u64>) {
        let format = if is_raw { Format::Raw } else { Format::Json };
        let last = self.bench.context.log.last_seq();
        let seq = back.map(|back| last.saturating_sub(back));
        // A raw client has no way to ask for numbers.
        let from = seq.map(|seq| match format {
            Format::Raw => From::Last(0),
            _ => From::Since(Since { epoch: None, seq }),
        });
        let names = (0..NAMES.len()).filter(|topic| topics & (1 << topic) != 0);
        let held: BTreeSet<usize> = names.collect();
        let wanted: Vec<&str> = held.iter().map(|topic| NAMES[*topic]).collect();
        let (socket, handle) = self.bench.connect(format, from, &wanted).await;
        self.clients.push(Client {
            // It reads as the system has it, without asking the runtime.
            socket: socket.into_std().unwrap(),
            handle,
            format,
            held,
            expected: Vec::new(),
            until: if is_raw { last } else { seq.unwrap_or(last) },
        });
    }

    /// A request holds from where the shard is when it is carried out.
    fn change(&mut self, client: usize, topic: usize, is_subscribe: bool) {
        let count = self.clients.len();
        let Some(client) = self.clients.get_mut(client % count.max(1)) else {
            return;
        };
        let index = self.bench.shard.clients.find(client.handle.id);
        let is_replaying = index
            .and_then(|index| self.bench.shard.clients.get(index))
            .is_none_or(|client| client.replay.is_some());
        // What waits for a replay is for other tests. A raw connection asks for nothing.
        if is_replaying || client.format == Format::Raw {
            return;
        }
        let kind = if is_subscribe {
            "subscribe"
        } else {
            "unsubscribe"
        };
        let request = serde_json::json!({"type": kind, "topics": [NAMES[topic]]});
        self.bench.ask(&client.handle, &request.to_string());
        client.account(&self.published, self.bench.shard.seq);
        if is_subscribe {
            client.held.insert(topic);
        } else {
            client.held.remove(&topic);
        }
    }

    fn step(&mut self, step: Step) {
        let shard = &mut self.bench.shard;
        match step {
            Step::Publish(topics, count) => {
                for _ in 0..count {
                    let names = (0..NAMES.len()).filter(|topic| topics & (1 << topic) != 0);
                    let names: Vec<&str> = names.map(|topic| NAMES[topic]).collect();
                    self.published.push(topics);
                    let data = self.published.len().to_string();
                    self.bench
                        .context
                        .log
                        .append(draft(&names, &data), u64::MAX)
                        .unwrap();
                }
            }
            Step::Subscribe(client, topic) => self.change(client, topic, true),
            Step::Unsubscribe(client, topic) => self.change(client, topic, false),
            Step::Leave(client) if !self.clients.is_empty() => {
                let client = self.clients.remove(client % self.clients.len());
                shard.carry_out(Command::Remove {
                    connection: client.handle.id,
                });
                shard.remove_marked();
                assert!(client.handle.has_ended());
            }
            Step::Take => shard.take_publications(self.bench.context.log.last_seq()),
            Step::Serve(count) => {
                for _ in 0..count {
                    let next = shard.queue.pop_front();
                    next.into_iter().for_each(|index| shard.serve(index));
                }
            }
            Step::End if shard.queue.is_empty() => shard.end_batch(),
            Step::Round => shard.round(),
            Step::Connect(..) | Step::Leave(_) | Step::End => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Each client gets what it wants from the number on from which it wants it, once and in order.
    #[test]
    fn each_client_gets_what_it_holds_once_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World { bench: Bench::new().await, clients: Vec::new(), published: Vec::new() };
            for number in 0..CROWD {
                world.connect(1, number % 2 == 0, None).await;
            }
            for step in steps {
                if let Step::Connect(topics, is_raw, back) = step {
                    world.connect(topics, is_raw, back).await;
                } else {
                    world.step(step);
                }
            }
            let last = world.bench.context.log.last_seq();
            let is_done = |world: &World| {
                let shard = &world.bench.shard;
                shard.queue.is_empty() && shard.replaying.is_empty() && shard.seq == last
            };
            while !is_done(&world) {
                world.bench.shard.round();
            }
            for client in &mut world.clients {
                client.account(&world.published, last);
                prop_assert_eq!(client.got(), &*client.expected);
            }
            prop_assert_eq!(world.bench.context.counters.panics.get(), 0);
            Ok(())
        })?;
    }
}
