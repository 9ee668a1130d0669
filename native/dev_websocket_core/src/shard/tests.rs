//! Tests of a shard without its thread: the test carries out the commands.

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::command::Opening;
use super::*;
use crate::access::{Authority, Session};
use crate::error::Rejected;
use crate::log::publication::tests::draft;
use crate::log::publication_log::Log;
use crate::settings::{Compression, Settings};
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::connection_state::ConnectionState;
use crate::shard::peer::Peer;
use crate::shard::slot_replay::SlotPermit;
use crate::subscription::{Quota, Subscription};
use crate::wire::control::{Permitted, Request};
use crate::wire::format::{Format, SlowPolicy};
use crate::wire::slots::SlotStart;

/// Creates the parts of a server that its shards use.
fn context(shards: usize, log: Log) -> Arc<Context> {
    context_with(Settings::default(), shards, log)
}

fn context_with(settings: Settings, shards: usize, log: Log) -> Arc<Context> {
    Context::new(
        settings,
        shards,
        log,
        Arc::default(),
        Authority::new(Arc::default()),
        Arc::default(),
        Default::default(),
    )
}

/// The starts of a replay and of a slot replay.
type Starts = (
    Option<crate::wire::cursor::From>,
    Option<(SlotStart, SlotPermit)>,
);

/// A shard whose commands the test carries out, and the listening socket for its clients.
pub(super) struct Bench {
    pub(super) context: Arc<Context>,
    pub(super) shard: Shard,
    listener: TcpListener,
    connections: u64,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let (log, mut cursors) = Log::new(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = context_with(settings, 1, log);
        let mailbox = context.mailboxes[0].clone();
        let shard = Shard::new(context.clone(), mailbox, cursors.pop().unwrap(), 0);
        Self {
            context,
            shard,
            listener,
            connections: 0,
        }
    }

    /// Connects a client to the shard and returns both ends.
    pub(super) async fn connect(
        &mut self,
        format: Format,
        from: Option<crate::wire::cursor::From>,
        topics: &[&str],
    ) -> (TcpStream, ConnectionHandle) {
        self.connect_with(format, (from, None), topics).await
    }

    /// Connects a client that may ask for a slot replay as well.
    pub(super) async fn connect_with(
        &mut self,
        format: Format,
        starts: Starts,
        topics: &[&str],
    ) -> (TcpStream, ConnectionHandle) {
        let (client, handle, open) = self.request_with(format, starts, topics).await;
        self.shard.carry_out(open);
        (client, handle)
    }

    /// Connects a client and returns both ends, and the command that opens the connection.
    pub(super) async fn request(
        &mut self,
        format: Format,
        from: Option<crate::wire::cursor::From>,
        topics: &[&str],
    ) -> (TcpStream, ConnectionHandle, Command) {
        self.request_with(format, (from, None), topics).await
    }

    async fn request_with(
        &mut self,
        format: Format,
        (from, slots): Starts,
        topics: &[&str],
    ) -> (TcpStream, ConnectionHandle, Command) {
        let address = self.listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let (accepted, address) = accepted.unwrap();
        let peer = Peer::new(
            address,
            format,
            &hyper::HeaderMap::new(),
            Session::unrestricted(),
        );
        self.connections += 1;
        let state = ConnectionState::new(self.connections, accepted.into(), peer, Arc::default());
        let handle = ConnectionHandle::new(state.clone(), self.context.mailboxes[0].clone());
        let open = Command::Open(Box::new(Opening {
            state,
            head: Bytes::from_static(b"head"),
            format,
            slow: SlowPolicy::default(),
            from,
            slots,
            read: None,
            published: self.context.log.last_seq(),
            subscriptions: topics
                .iter()
                .map(|name| Subscription::parse(name).unwrap())
                .collect(),
            ignored: Vec::new(),
            settings: self.context.settings(),
        }));
        (client.unwrap(), handle, open)
    }

    /// Sends a client's request as its task would: refused by the task, or carried out by the shard. Returns the number
    /// of steps.
    pub(super) fn ask(&mut self, handle: &ConnectionHandle, text: &str) -> usize {
        let before = self.shard.steps;
        let request = Request::parse(text, Quota::of(&self.context.settings()), Permitted::ALL);
        self.shard.carry_out(Command::Request {
            connection: handle.id,
            bytes: 0,
            request,
        });
        self.shard.remove_marked();
        self.shard.steps - before
    }
}

/// A frame as JSON, and the id of its event.
type Got = (serde_json::Value, Option<String>);

/// Reads the text frames that a client got.
pub(super) fn frames(mut rest: &[u8]) -> Vec<Got> {
    let mut frames = Vec::new();
    while let [_, length, ..] = rest {
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            short => (2, usize::from(*short)),
        };
        let json = serde_json::from_slice(&rest[start..start + length]).unwrap();
        frames.push((json, None));
        rest = &rest[start + length..];
    }
    assert!(rest.is_empty());
    frames
}

/// Reads the server-sent events that a client got, with their ids.
pub(super) fn events(rest: &[u8]) -> Vec<Got> {
    let text = std::str::from_utf8(rest).unwrap();
    let events = text.split_terminator("\n\n").map(|event| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let json = serde_json::from_str(field("data: ").or(field("data:")).unwrap()).unwrap();
        let id = field("id: ").or(field("id:")).map(str::to_owned);
        (json, id)
    });
    events.collect()
}

fn request(kind: &str, topics: impl Iterator<Item = String>) -> String {
    serde_json::json!({"type": kind, "topics": topics.collect::<Vec<_>>()}).to_string()
}

/// Checks the bound for every request that fits into a message.
#[tokio::test]
async fn no_request_takes_more_than_a_stated_number_of_steps() {
    let mut bench = Bench::new().await;
    let (_client, handle) = bench.connect(Format::Json, None, &[]).await;
    let settings = bench.context.settings();
    let topics = settings.max_topics_per_connection as usize;
    let names = |from: usize, count: usize| (from..from + count).map(|n| format!("g{n}*"));
    // The subscriptions fill the limits of a connection.
    let matches: Vec<_> = (0..settings.max_regexes_per_connection)
        .map(|n| format!("[01]*1{n}x"))
        .collect();
    let templates: Vec<_> = (0..settings.max_templates_per_connection)
        .map(|n| serde_json::json!({"a": n}))
        .collect();
    let held = topics + matches.len() + templates.len();
    let all = serde_json::json!({"type": "subscribe", "topics": names(0, topics).collect::<Vec<_>>(),
        "match": matches, "template": templates});
    let steps = bench.ask(&handle, &all.to_string());
    // Each subscription is looked up twice: first whether it is held, then again before it is added.
    assert_eq!(steps, 2 * held);
    assert_eq!(bench.shard.subscriptions as usize, held);
    // A request with as many subscriptions as fit into a message is refused before the shard.
    for kind in ["subscribe", "unsubscribe"] {
        assert_eq!(
            bench.ask(&handle, &request(kind, names(1000, topics + 1))),
            0
        );
        assert_eq!(
            bench.ask(
                &handle,
                &request(kind, (0..12_000).map(|n| format!("{n:x}")))
            ),
            0
        );
        let repeated = (0..12_000).map(|_| "aa".to_owned());
        assert!(bench.ask(&handle, &request(kind, repeated)) <= 2);
        let steps = bench.ask(&handle, &request(kind, names(1000, topics)));
        assert_eq!(steps, topics, "{kind}");
    }
    let steps = bench.ask(
        &handle,
        &all.to_string().replace("subscribe", "unsubscribe"),
    );
    // Each costs one look-up, and a search among those of its kind.
    assert!(steps <= held * (1 + topics), "{steps}");
    assert_eq!(bench.shard.subscriptions, 0);
}

/// Checks that a client whose socket breaks during a turn stays until the turn is over.
#[tokio::test]
async fn a_turn_never_removes_the_client_that_it_acts_on_in_any_format() {
    for format in Format::ALL {
        for from in [None, Some(crate::wire::cursor::From::Last(3))] {
            let mut bench = Bench::new().await;
            bench
                .context
                .log
                .append(draft(&["a"], "x"), u64::MAX)
                .unwrap();
            let (client, handle) = bench.connect(format, from, &[]).await;
            bench.shard.remove_marked();
            assert!(bench.shard.clients.find(handle.id).is_some());
            // The client resets the connection; the next write notices that.
            socket2::SockRef::from(&client)
                .set_linger(Some(std::time::Duration::ZERO))
                .unwrap();
            drop(client);
            handle.socket.readable().await.unwrap();
            let control = Bytes::from_static(b"control");
            while bench.shard.clients.find(handle.id).is_some() {
                bench.shard.carry_out(Command::Control {
                    connection: handle.id,
                    bytes: control.clone(),
                });
            }
            // The client is marked but present, and nothing acts on it any more.
            assert!(!bench.shard.clients.is_empty());
            bench.ask(&handle, r#"{"type":"subscribe","topics":["a"],"since":0}"#);
            assert!(bench.shard.clients.is_empty() && handle.has_ended());
            assert_eq!(bench.shard.subscriptions, 0);
        }
    }
}

/// Checks it for repeated reports that the socket takes more.
#[tokio::test]
async fn a_connection_waits_once_for_its_turn_to_replay() {
    let mut bench = Bench::new().await;
    for _ in 0..2000 {
        bench
            .context
            .log
            .append(draft(&["b"], "x"), u64::MAX)
            .unwrap();
    }
    let from = crate::wire::cursor::From::Since(crate::wire::cursor::Since {
        epoch: None,
        seq: 0,
    });
    let (_client, handle) = bench.connect(Format::Json, Some(from), &[]).await;
    for _ in 0..100 {
        bench.shard.carry_out(Command::Writable {
            connection: handle.id,
        });
        assert_eq!(bench.shard.replaying, [handle.id]);
    }
    while !bench.shard.replaying.is_empty() {
        bench.shard.replay_round();
        assert!(bench.shard.replaying.len() <= 1);
    }
}

#[test]
fn whichever_shard_makes_room_tells_of_losses() {
    let (log, mut cursors) = Log::new(2);
    let context = context(2, log);
    let message = || draft(&["t"], &"x".repeat(1000));
    let limit = message().footprint() as u64;
    assert_eq!(context.log.append(message(), limit), Ok(1));
    let lost = context.log.append(message(), limit);
    assert_eq!(lost, Err(Rejected::Overload));
    let mailbox = context.mailboxes[1].clone();
    let mut slow = Shard::new(context.clone(), mailbox, cursors.pop().unwrap(), 1);
    let mut fast = cursors.pop().unwrap();
    while fast.next().is_some() {}
    fast.finish();
    slow.take_publications(1);
    slow.end_batch();
    assert_eq!(fast.next().map(|loss| loss.lost_messages()), Some(1));
}

/// A shard that compresses sends what it has before it takes more, so a burst does not wait for its last message.
#[tokio::test]
async fn a_shard_that_compresses_takes_some_of_a_burst_at_once() {
    const COUNT: Seq = 2000;
    let text = "the slot of a process; ".repeat(40);
    for (compression, most) in [(Compression::Off, COUNT), (Compression::Shared, COUNT / 4)] {
        let settings = Settings {
            compression,
            ..Settings::default()
        };
        let mut bench = Bench::with(settings).await;
        let _client = bench.connect(Format::Json, None, &["a"]).await;
        for _ in 0..COUNT {
            let draft = draft(&["a"], &text);
            bench.context.log.append(draft, u64::MAX).unwrap();
        }
        let mut taken = 0;
        while taken < COUNT {
            bench.shard.take_publications(COUNT);
            assert!(bench.shard.seq > taken, "the shard goes on");
            assert!(bench.shard.seq - taken <= most, "{compression:?}");
            assert!(most < COUNT || bench.shard.seq == COUNT);
            taken = bench.shard.seq;
        }
    }
}
