//! The other direction: clients are heard by a listener, in order and within a bound, and one of them is answered.
#![cfg(test)]

mod support;

use std::time::Duration;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value as Json, json};

use dev_websocket_core::message::Value;
use dev_websocket_core::{ConnectionInfo, Direct, Listener, Listening, Payload, SendError};
use support::{BINARY, CLOSE, Client, PATIENCE, PING, PONG, Raw, TEXT, TestServer, frame, until};

/// What a message takes of a listener's room beside its bytes.
const PLACE: u64 = 256;

/// A listener as the program has it: what comes, and the room that it gives back.
struct Ear {
    heard: Receiver<(u64, Payload, u32)>,
    listening: Arc<Listening>,
}

struct Drum(Sender<(u64, Payload, u32)>);

impl Listener for Drum {
    fn deliver(&self, connection: u64, payload: Payload, cost: u32) -> bool {
        self.0.send((connection, payload, cost)).is_ok()
    }
}

impl Ear {
    fn open(server: &TestServer, bytes: u64) -> Self {
        let (sender, heard) = channel();
        let listening = server.inbound.listen(Drum(sender), bytes);
        Self { heard, listening }
    }

    /// The next message, not acknowledged.
    fn take(&self) -> (u64, Payload, u32) {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// The next message.
    fn next(&self) -> (u64, Payload) {
        let (connection, payload, cost) = self.take();
        self.listening.acknowledge(cost);
        (connection, payload)
    }

    /// The next message, which must be text.
    fn text(&self) -> (u64, String) {
        match self.next() {
            (connection, Payload::Text(text)) => {
                (connection, String::from_utf8(text.to_vec()).unwrap())
            }
            other => panic!("text was due, not {other:?}"),
        }
    }

    fn is_silent(&self) -> bool {
        self.heard.try_recv().is_err()
    }
}

fn sent(data: impl Into<Json>) -> Json {
    json!({"type": "send", "data": data.into()})
}

fn text(text: &str) -> Payload {
    Payload::Text(text.to_owned().into())
}

/// The number of a client's connection, by what it says.
fn number_of(ear: &Ear, client: &mut Client) -> u64 {
    client.send(&sent("hello"));
    let (connection, text) = ear.text();
    assert_eq!(text, "hello");
    connection
}

#[test]
fn messages_arrive_in_their_order() {
    let server = TestServer::with(|settings| settings.max_inbound_rate = 5);
    let ear = Ear::open(&server, 1 << 20);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&server, "")).collect();
    let numbers: Vec<_> = clients
        .iter_mut()
        .map(|client| number_of(&ear, client))
        .collect();
    // Many more than the rate of control messages allows.
    for round in 0..100 {
        for client in &mut clients {
            client.send(&sent(round));
        }
    }
    let mut next = [0; 3];
    for _ in 0..300 {
        let (connection, text) = ear.text();
        let place = numbers.iter().position(|id| *id == connection).unwrap();
        assert_eq!(text, next[place].to_string());
        next[place] += 1;
    }
    assert_eq!(next, [100; 3]);
    server.until_stat("inbound_delivered", 303);
    assert_eq!(server.stat("inbound_messages"), 303);
    // Control messages are counted as ever.
    for _ in 0..6 {
        clients[0].send(&json!({"type": "ping"}));
    }
    assert_eq!(clients.remove(0).closed().1.0, 1008);
}

#[test]
fn data_is_a_text_or_json_as_it_was_written() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1 << 20);
    let mut client = Client::connect(&server, "");
    for (request, text) in [
        (r#"{"type":"send","data":"Gr\u00fc\u00dfe"}"#, "Grüße"),
        (
            r#"{"type":"send","id":5,"data":{"b":1.0, "a":[]}}"#,
            r#"{"b":1.0, "a":[]}"#,
        ),
        (r#"{"type":"send","data":null}"#, "null"),
    ] {
        client.send_text(request);
        assert_eq!(ear.text().1, text);
    }
    let fault = client.request(&json!({"type": "send", "id": 6}));
    assert_eq!(
        (&fault["id"], &fault["code"]),
        (&json!(6), &json!("bad_field"))
    );
}

#[test]
fn raw_frames_are_heard_whatever_they_hold() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1 << 20);
    let mut raw = Raw::upgraded(&server, "?format=raw");
    raw.send(TEXT, br#"{"type":"ping"}"#);
    raw.send(BINARY, b"\xff\x00");
    raw.send(TEXT, b"");
    assert_eq!(ear.next().1, text(r#"{"type":"ping"}"#));
    assert_eq!(ear.next().1, Payload::Binary(vec![0xff, 0].into()));
    let (connection, payload) = ear.next();
    assert_eq!(payload, text(""));

    server.send_to(connection, &Direct::Text("a"));
    server.send_to(connection, &Direct::Binary(b"\xff"));
    server.send_to(connection, &Direct::Value(Value::List(vec![Value::Null])));
    assert_eq!(raw.frame(), (TEXT, b"a".to_vec()));
    assert_eq!(raw.frame(), (BINARY, b"\xff".to_vec()));
    assert_eq!(raw.frame(), (TEXT, b"[null]".to_vec()));
}

#[test]
fn without_a_listener_it_is_said_or_ignored() {
    let server = TestServer::with(|settings| settings.max_inbound_rate = 5);
    let mut client = Client::connect(&server, "");
    let fault = client.request(&json!({"type": "send", "id": 5, "data": "x"}));
    assert_eq!(fault["type"], "error");
    assert_eq!(
        (&fault["id"], &fault["code"]),
        (&json!(5), &json!("no_listener"))
    );
    let mut raw = Raw::upgraded(&server, "?format=raw");
    raw.send(TEXT, b"x");
    raw.send(BINARY, b"x");
    raw.settle();
    // And it is counted.
    for _ in 0..6 {
        client.send(&sent("x"));
    }
    assert_eq!(client.closed().1.0, 1008);
}

#[test]
fn a_client_that_is_not_heard_waits_and_loses_nothing() {
    const MESSAGES: u64 = 500;
    let server = TestServer::with(|settings| {
        settings.ping_interval = Duration::from_millis(500);
        settings.max_inbound_rate = 2;
    });
    let ear = Ear::open(&server, 4 * (PLACE + 3));
    let mut raw = Raw::upgraded(&server, "?topic=a");
    raw.json();
    // All at once, so that most of it waits in the sockets.
    let all: Vec<u8> = (0..MESSAGES)
        .flat_map(|number| {
            let request = json!({"type": "send", "data": format!("{number:03}")}).to_string();
            frame(TEXT, request.as_bytes())
        })
        .collect();
    raw.write(all);
    let mut taken: Vec<_> = (0..4).map(|_| ear.take()).collect();
    // Its pings are not read, nor are its pongs, and it is closed for neither.
    for _ in 0..3 {
        assert_eq!(raw.frame().0, PING);
        raw.send(PONG, b"");
    }
    assert!(ear.is_silent());
    // It is served meanwhile.
    server.send("a", "x");
    while raw.frame().0 == PING {}
    for number in 0..MESSAGES {
        if taken.is_empty() {
            taken.push(ear.take());
        }
        let (_, payload, cost) = taken.remove(0);
        assert_eq!(payload, text(&format!("{number:03}")));
        ear.listening.acknowledge(cost);
    }
    raw.send(PING, b"still here");
    while raw.frame() != (PONG, b"still here".to_vec()) {}
}

#[test]
fn a_message_larger_than_all_room_goes_alone() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1024);
    let mut client = Client::connect(&server, "");
    let large = "x".repeat(50_000);
    for _ in 0..3 {
        client.send(&sent(large.as_str()));
    }
    for _ in 0..3 {
        let (_, payload, cost) = ear.take();
        assert_eq!((payload, cost), (text(&large), 1024));
        assert!(ear.is_silent());
        ear.listening.acknowledge(cost);
    }
}

#[test]
fn who_waits_for_a_listener_that_ends_is_told() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1024);
    let mut client = Client::connect(&server, "");
    for id in 0..10 {
        client.send(&json!({"type": "send", "id": id, "data": "x".repeat(1024)}));
    }
    ear.take();
    server.inbound.unlisten(&ear.listening);
    for id in 1..10 {
        let fault = client.next();
        assert_eq!(
            (&fault["id"], &fault["code"]),
            (&json!(id), &json!("no_listener"))
        );
    }
    assert!(ear.is_silent());
}

#[test]
fn who_waits_for_a_listener_that_is_replaced_waits_for_the_next() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1024);
    let mut client = Client::connect(&server, "");
    for number in 0..10 {
        client.send(&sent(format!("{number}{}", "x".repeat(1024))));
    }
    ear.take();
    let next = Ear::open(&server, 1024);
    for number in 1..10 {
        assert!(next.text().1.starts_with(&number.to_string()));
    }
    assert!(ear.is_silent());
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(300));
    let ear = Ear::open(&server, 1024);
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for _ in 0..3 {
        raw.send(BINARY, &[0; 2000]);
    }
    ear.take();
    assert_eq!(raw.frame().0, PING);
    raw.reset();
    server.until_stat("connections", 0);
}

#[test]
fn a_server_that_stops_closes_who_waits() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1024);
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for _ in 0..3 {
        raw.send(BINARY, &[0; 2000]);
    }
    ear.take();
    thread::scope(|scope| {
        scope.spawn(|| server.stop(dev_websocket_core::Disconnect::Stopping));
        let (first, payload) = raw.frame();
        assert_eq!((first, &payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
        drop(raw);
    });
}

#[test]
fn what_is_sent_to_one_stands_between_publications_in_its_place() {
    const ROUNDS: u64 = 2000;
    let server = TestServer::with(|settings| {
        settings.shards = 2;
        settings.send_buffer_bytes = 1 << 26;
    });
    let ear = Ear::open(&server, 1 << 20);
    // Others take the shards' time, so that publications and commands meet in every way.
    let mut crowd = Raw::crowd(&server, 50, "?topic=a");
    let mut clients: Vec<_> = (0..4)
        .map(|_| Client::connect(&server, "?topic=a"))
        .collect();
    let numbers: Vec<_> = clients
        .iter_mut()
        .map(|client| number_of(&ear, client))
        .collect();
    thread::scope(|scope| {
        for raw in &mut crowd {
            scope.spawn(|| (1..=ROUNDS).for_each(|seq| assert_eq!(raw.message().0, seq)));
        }
        for client in &mut clients {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    assert_eq!(client.message()["seq"], round);
                    let direct = client.next();
                    assert_eq!(
                        (&direct["type"], &direct["data"]),
                        (&json!("direct"), &json!(round))
                    );
                }
            });
        }
        for round in 1..=ROUNDS {
            assert_eq!(server.send("a", "x"), round);
            for number in &numbers {
                server.send_to(*number, &Direct::Value(Value::Integer(round as i64)));
            }
        }
    });
    assert_eq!(server.stat("direct_messages"), 4 * ROUNDS);
}

#[test]
fn a_connection_that_takes_nothing_is_busy_and_loses_nothing() {
    let server = TestServer::with(|settings| settings.send_buffer_bytes = 256 * 1024);
    let ear = Ear::open(&server, 1 << 20);
    let mut slow = Raw::small(&server, "");
    slow.json();
    slow.send(TEXT, sent("hello").to_string().as_bytes());
    let connection = ear.next().0;
    let data = "x".repeat(16 * 1024);
    let mut taken = 0;
    let busy = loop {
        match server.server().send(connection, &Direct::Text(&data)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "it was never busy");
    };
    assert_eq!(busy, SendError::Busy);
    // It is still heard.
    slow.send(TEXT, sent("here").to_string().as_bytes());
    assert_eq!(ear.text().1, "here");
    for _ in 0..taken {
        assert_eq!(slow.json()["data"], data);
    }
    until("room", || {
        server
            .server()
            .send(connection, &Direct::Text("again"))
            .is_ok()
    });
    assert_eq!(slow.json()["data"], "again");
    let large = "x".repeat(2 << 20);
    assert_eq!(
        server.server().send(connection, &Direct::Text(&large)),
        Err(SendError::TooLarge)
    );
}

#[test]
fn a_connection_is_known_until_it_ends() {
    let server = TestServer::start();
    let ear = Ear::open(&server, 1 << 20);
    let mut client = Client::connect(&server, "?topic=a,*");
    let connection = number_of(&ear, &mut client);
    let known = server.known(connection).unwrap();
    assert_eq!(known.topics, ["a", "*"]);
    assert!(known.peer.ip().is_loopback());
    assert_eq!((known.connection, known.format), (connection, "json"));
    let host = server.address().to_string().into_bytes();
    assert_eq!(known.headers, [(b"host".to_vec(), host)]);

    client.request(&json!({"type": "unsubscribe", "topics": ["*"]}));
    assert_eq!(server.known(connection).unwrap().topics, ["a"]);
    assert!(server.server().has_connection(connection));
    client.close(1000, "");
    until("its end", || !server.server().has_connection(connection));
    assert_eq!(server.known(connection), None);
    for connection in [connection, 0, u64::MAX] {
        let sent = server.server().send(connection, &Direct::Text("x"));
        assert_eq!(sent, Err(SendError::NoConnection));
    }
}

#[test]
fn a_number_never_comes_again() {
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let server = TestServer::start();
        let ear = Ear::open(&server, 1 << 20);
        for _ in 0..3 {
            numbers.push(number_of(&ear, &mut Client::connect(&server, "")));
        }
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

/// `TestServer::send` publishes; these address one connection.
impl TestServer {
    fn server(&self) -> &dev_websocket_core::Server {
        self
    }

    fn send_to(&self, connection: u64, direct: &Direct<'_>) {
        self.server().send(connection, direct).unwrap();
    }

    fn known(&self, connection: u64) -> Option<ConnectionInfo> {
        let (sender, answer) = channel();
        self.server()
            .connection(connection, move |known| sender.send(known).unwrap())
            .ok()?;
        answer.recv_timeout(PATIENCE).unwrap()
    }
}
