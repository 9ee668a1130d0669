//! Tests of every limit in the table of settings: one below it, at it and one above it, each with its exact outcome.
//!
//! The last test keeps this complete: each row of the table has a test here, or is listed as one without a limit.
#![cfg(test)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dev_websocket_core::{Compression, Listener, Payload, Settings};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use support::{
    BINARY, Client, PATIENCE, PING, PONG, Raw, TEXT, TestServer, asked, message, seqs, three,
    until, upgrade_request,
};

#[test]
fn at_the_limit_of_max_connections() {
    let server = three(|settings, n| settings.max_connections = n);
    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(&server, "")).collect();
    clients.push(Client::connect(&server, ""));
    assert_eq!(asked(&server, ""), (503, "full".into()));
    clients.pop();
    server.until_stat("connections", 2);
    Client::connect(&server, "");
}

#[test]
fn at_the_limit_of_max_connections_per_ip() {
    let server = three(|settings, n| settings.max_connections_per_ip = n);
    let from = |last: u8| {
        let mut raw = Raw::connect_with(server.address(), |socket| {
            let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
            socket.bind(&source.into()).unwrap();
        });
        raw.write(upgrade_request(""));
        let response = raw.response();
        (raw, response)
    };
    let clients: Vec<_> = (0..3).map(|_| from(2)).collect();
    assert!(clients.iter().all(|(_, response)| response.status == 101));
    let (_, refused) = from(2);
    assert_eq!(
        (refused.status, refused.refusal().0.as_str()),
        (429, "too_many_connections")
    );
    assert_eq!(from(3).1.status, 101);
}

#[test]
fn at_the_limit_of_max_handshakes() {
    let server = three(|settings, n| settings.max_handshakes = n);
    let silent: Vec<_> = (0..3).map(|_| Raw::connect(server.address())).collect();
    server.until_stat("handshakes", 3);
    assert_eq!(server.stat("handshakes_dropped"), 0);
    // The fourth connection is served, in place of the first.
    Client::connect(&server, "");
    server.until_stat("handshakes", 2);
    assert_eq!(server.stat("handshakes_dropped"), 1);
    silent.into_iter().next().unwrap().drain();
}

#[test]
fn at_the_limit_of_max_last() {
    let server = three(|settings, n| settings.max_last = n);
    for n in 1..=4 {
        server.send("a", &n.to_string());
    }
    for (last, expected) in [(2, vec![3, 4]), (3, vec![2, 3, 4])] {
        let mut client = Client::connect(&server, &format!("?topic=a&last={last}"));
        let mut frames: Vec<_> = (0..last).map(|_| client.next()).collect();
        frames.push(client.next());
        assert_eq!(seqs(&frames), expected);
        assert_eq!(frames[last]["type"], "live");
    }
    assert_eq!(asked(&server, "?topic=a&last=4"), (400, "bad_last".into()));
}

#[test]
fn at_the_limit_of_max_topics_per_message() {
    let server = three(|settings, n| settings.max_topics_per_message = n);
    let mut client = Client::connect(&server, "?topic=*");
    for (topics, kept) in [("a,b", 2), ("a,b,c", 3), ("a,b,c,d", 3)] {
        server.send(topics, "x");
        assert_eq!(client.message()["topics"].as_array().unwrap().len(), kept);
    }
    assert_eq!(server.counters.topics_excess.get(), 1);
}

#[test]
fn at_the_limit_of_max_inbound_bytes() {
    let server = TestServer::with(|settings| settings.max_inbound_bytes = 1000);
    let request = |bytes: usize| format!("{{\"type\":\"ping\"{}}}", " ".repeat(bytes - 15));
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    for bytes in [999, 1000] {
        assert_eq!(request(bytes).len(), bytes);
        raw.send(TEXT, request(bytes).as_bytes());
        assert_eq!(raw.json()["type"], "pong");
    }
    raw.send(TEXT, request(1001).as_bytes());
    assert_eq!(raw.closed().1, (1009, "message too large".into()));
}

#[test]
fn at_the_limit_of_max_inbound_rate() {
    let server = three(|settings, n| settings.max_inbound_rate = n);
    for count in [2, 3] {
        let mut raw = Raw::upgraded(&server, "");
        raw.json();
        raw.write(support::frame(PING, b"x").repeat(count));
        for _ in 0..count {
            assert_eq!(raw.frame().0, PONG);
        }
    }
    let mut raw = Raw::upgraded(&server, "");
    raw.write(support::frame(PING, b"x").repeat(4));
    assert_eq!(raw.closed().1, (1008, "too many messages".into()));
}

/// Records the connections of messages, and never acknowledges them.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u64>>>);

impl Heard {
    /// Returns the connection of the first message.
    fn connection(&self) -> Option<u64> {
        self.0.lock().first().copied()
    }
}

impl Listener for Heard {
    fn deliver(&self, connection: u64, _: Payload, _: u32) -> bool {
        self.0.lock().push(connection);
        true
    }
}

#[test]
fn at_the_limit_of_inbound_queue_bytes() {
    // A message costs its bytes and 256.
    for (bytes, fits) in [(767, true), (768, true), (769, false)] {
        let server = TestServer::start();
        let heard = Heard::default();
        let listening = server.inbound.listen(heard.clone(), 1280);
        let mut raw = Raw::upgraded(&server, "?format=raw");
        raw.send(TEXT, b"");
        raw.send(BINARY, &vec![0; bytes]);
        if fits {
            until("both messages", || heard.0.lock().len() == 2);
        } else {
            // The connection is not read on until there is room.
            until("one message", || heard.0.lock().len() == 1);
            raw.send(PING, b"later");
            listening.acknowledge(256);
            until("the other message", || heard.0.lock().len() == 2);
            assert_eq!(raw.frame(), (PONG, b"later".to_vec()));
        }
    }
}

#[test]
fn at_the_limit_of_max_message_bytes() {
    let size = |data: usize| r#"{"topic":"a","data":""}"#.len() + data;
    let server = TestServer::with(|settings| settings.max_message_bytes = size(100) as u64);
    let mut client = Client::connect(&server, "?topic=a");
    for data in [99, 100] {
        server.send("a", &"x".repeat(data));
        assert_eq!(
            client.message()["data"]["data"].as_str().unwrap().len(),
            data
        );
    }
    assert!(server.publish(&message("a", &"x".repeat(101))).is_err());
    assert_eq!(server.counters.dropped_too_large.get(), 1);
}

#[cfg(feature = "internals")]
#[test]
fn at_the_limit_of_publish_queue_bytes() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let shard = hold_up_the_shard(&server, &mut client);
    server.send("a", "x");
    let size = server.stat("publish_queued_bytes");
    // Reports of lost messages may take another eighth.
    let settings = Settings {
        publish_queue_bytes: size * 200,
        ..(*server.settings()).clone()
    };
    server.reconfigure(settings).unwrap();
    for n in 2..=200 {
        assert_eq!(server.send("a", "x"), n);
    }
    assert_eq!(server.stat("publish_queued_bytes"), size * 200);
    assert!(server.publish(&message("a", "x")).is_err());
    assert_eq!(server.counters.dropped_overload.get(), 1);
    drop(shard);
    for seq in 1..=200 {
        assert_eq!(client.message()["seq"], seq);
    }
    let gap = client.next();
    assert_eq!(
        (&gap["reason"], &gap["dropped"]),
        (&json!("overload"), &json!(1))
    );
}

#[cfg(feature = "internals")]
/// Blocks the shard of a client until the returned sender is dropped.
fn hold_up_the_shard(server: &TestServer, client: &mut Client) -> std::sync::mpsc::Sender<()> {
    let heard = Heard::default();
    server.inbound.listen(heard.clone(), 1 << 20);
    client.send(&json!({"type": "send", "data": "x"}));
    until("the client to be heard", || heard.connection().is_some());
    let (held, release) = std::sync::mpsc::channel::<()>();
    let connection = heard.connection().unwrap();
    dev_websocket_core::internals::on_shard(server, connection, move || {
        let _ = release.recv();
    });
    held
}

#[test]
fn at_the_limit_of_send_buffer_bytes() {
    // The client reads nothing. The bytes in its socket are unknown; the bytes queued beyond them are counted.
    let pending = 64 * 1024;
    let server = TestServer::with(|settings| settings.send_buffer_bytes = pending);
    let mut raw = Raw::small(&server, "?topic=a");
    raw.json();
    let data = "x".repeat(1000);
    let mut seq = 0;
    while server.counters.dropped_slow.get() == 0 {
        seq = server.send("a", &data);
        server.until_delivered();
        assert!(seq < 100_000, "everything was taken");
    }
    // Exceeding the limit by one has dropped exactly one publication.
    assert_eq!(server.counters.dropped_slow.get(), 1);
    let (mut frames, mut waited, mut gap_at) = (Vec::new(), 0, None);
    while frames.len() < seq as usize {
        let text = raw.text();
        let frame: Json = serde_json::from_str(&text).unwrap();
        if frame["type"] == "gap" {
            assert_eq!(frame["dropped"], 1);
            gap_at = Some(frames.len());
            frames.push(frame);
            waited = 0;
        } else {
            frames.push(frame);
            waited += text.len() as u64 + 4;
        }
    }
    // The publications behind the gap fit, and the dropped one would not have.
    let place = 40;
    let kept = (frames.len() - gap_at.unwrap() - 1) as u64;
    assert!(waited <= pending, "{waited} bytes waited");
    assert!(
        waited + kept * place + 2 * (1200 + place) > pending,
        "{waited} bytes waited"
    );
}

#[test]
fn at_the_limit_of_history_bytes() {
    let limit = 256 * 1024;
    let server = TestServer::with(|settings| settings.history_bytes = limit);
    for n in 1..=2000 {
        server.send("a", &format!("{n}{}", "x".repeat(500)));
    }
    server.until_delivered();
    // The history holds as many as fit: the next older one does not.
    let kept = server.stat("history_kept_bytes");
    assert!((limit - 1500..=limit).contains(&kept), "{kept}");
    // The history holds none at all.
    let server = TestServer::with(|settings| settings.history_bytes = 0);
    let _client = Client::connect(&server, "");
    server.send("a", "x");
    assert_eq!(server.stat("history_kept_bytes"), 0);
}

#[test]
fn at_the_limit_of_max_known_topics() {
    let server = three(|settings, n| settings.max_known_topics = n);
    for (topic, known) in [
        ("a", &["a"][..]),
        ("b", &["a", "b"]),
        ("c", &["a", "b", "c"]),
        ("d", &["b", "c", "d"]),
    ] {
        server.send(topic, "x");
        server.until_topics(known);
    }
}

#[test]
fn at_the_limit_of_compression_min_bytes() {
    const MIN: usize = 400;
    let server = TestServer::with(|settings| {
        settings.compression = Compression::Shared;
        settings.compression_min_bytes = MIN as u64;
    });
    let mut raw = Raw::connect(server.address());
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    raw.write(upgrade_request("?topic=a").replace("\r\n\r\n", offer));
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["type"], "connection_established");
    let mut plain = Client::connect(&server, "?topic=a");
    server.send("a", "");
    let empty = plain.message().to_string().len();
    raw.frame();
    for (bytes, is_compressed) in [(MIN - 1, false), (MIN, true), (MIN + 1, true)] {
        server.send("a", &"x".repeat(bytes - empty));
        assert_eq!(plain.message().to_string().len(), bytes);
        assert_eq!(raw.frame().0 == TEXT | 0x40, is_compressed, "{bytes}");
    }
}

#[test]
fn at_the_limit_of_handshake_timeout() {
    let timeout = Duration::from_millis(300);
    let server =
        TestServer::with(|settings| settings.handshake_timeout = Duration::from_millis(300));
    let start = Instant::now();
    let mut raw = Raw::connect(server.address());
    raw.write("GET /ws HTTP/1.1\r\nHost: te");
    raw.drain();
    // The timeout is neither early nor missing; a busy machine may be late.
    assert!((timeout..PATIENCE).contains(&start.elapsed()));
}

#[test]
fn at_the_limit_of_ping_interval() {
    let interval = Duration::from_millis(200);
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(200));
    let start = Instant::now();
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for n in 1..=2 {
        assert_eq!(raw.frame(), (PING, Vec::new()));
        assert!(start.elapsed() >= interval * n);
    }
    // A third ping would be one too many.
    assert_eq!(raw.closed().1, (1008, "no answer to two pings".into()));
    assert!(start.elapsed() >= interval * 3);
}

/// Rows that are no limits, and rows that the Erlang side enforces, with their tests.
const ELSEWHERE: &[(&str, &str)] = &[
    ("port", "a place"),
    ("operator_port", "a place"),
    ("shards", "a number of threads"),
    ("workers", "a number of threads"),
    ("max_data_bytes", "test/recorded_results_tests.erl"),
    ("max_output_events", "test/output_event_tests.erl"),
    ("max_replay_slots", "test/slot_replay_tests.erl"),
    ("max_tails", "test/tails_tests.erl"),
    ("tail_interval", "test/tails_tests.erl"),
    ("follow_share", "test/follow_tests.erl"),
    ("engine_bytes", "src/cluster/outgoing_tests.rs"),
    ("engine_timeout", "dev_websocket_nats/tests/failures.rs"),
];

#[test]
fn every_limit_of_the_table_has_its_test() {
    let source = concat!(
        include_str!("limits.rs"),
        include_str!("limits_of_choice.rs"),
        include_str!("slot_replays.rs"),
        include_str!("token_life.rs")
    );
    let numbers = Settings::table()
        .into_iter()
        .filter(|row| matches!(row.default, dev_websocket_core::SettingValue::Integer(_)));
    for row in numbers {
        let name = format!("fn at_the_limit_of_{}()", row.name);
        let is_elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == row.name);
        assert!(
            is_elsewhere != source.contains(&name),
            "{} has no test",
            row.name
        );
    }
}
