//! Clients that read slowly, or not at all: what they miss is told exactly, and nobody else notices.
#![cfg(test)]

mod support;

use std::thread;

use serde_json::{Value as Json, json};

use support::{Client, PING, PONG, Raw, TEXT, TestServer, until};

/// What may wait for one connection in these tests.
const PENDING: u64 = 256 * 1024;
/// The text of one publication.
const DATA: usize = 16 * 1024;

fn server() -> TestServer {
    TestServer::with(|settings| {
        settings.send_buffer_bytes = PENDING;
        settings.history_bytes = 0;
    })
}

/// A client that reads all there is at once.
struct Healthy {
    raw: Raw,
    read: u64,
}

impl Healthy {
    /// Connects before anything is published.
    fn connect(server: &TestServer) -> Self {
        let mut raw = Raw::upgraded(server, "?topic=a");
        raw.json();
        Self { raw, read: 0 }
    }

    /// Publishes to `a` and reads along, so that this client never falls behind. Every publication must arrive.
    fn publish(&mut self, server: &TestServer, count: u64) {
        let data = "x".repeat(DATA);
        for _ in 0..count {
            server.send("a", &data);
            if server.stat("seq") - self.read >= 8 {
                self.catch_up(server);
            }
        }
        self.catch_up(server);
    }

    fn catch_up(&mut self, server: &TestServer) {
        while self.read < server.stat("seq") {
            self.read += 1;
            assert_eq!(self.raw.message().0, self.read);
        }
    }

    /// Publishes until somebody else has lost so many publications.
    fn publish_until_dropped(&mut self, server: &TestServer, dropped: u64) {
        while server.counters.dropped_slow.get() < dropped {
            self.publish(server, 8);
            assert!(self.read < 10_000, "nobody was slow");
        }
        server.until_delivered();
    }
}

/// What a connection was told in place of everything up to the publication `last`.
#[derive(Default)]
struct Account {
    next: u64,
    delivered: u64,
    dropped: u64,
    gaps: u64,
    /// The publication that the last gap announced.
    announced: Option<u64>,
    /// Bytes of publications since the last gap.
    bytes_after_gap: u64,
    /// Everything that is neither a publication nor a gap.
    replies: Vec<Json>,
}

impl Account {
    /// Reads up to a publication; each one since the last call is there or in a gap, in order.
    fn read(&mut self, raw: &mut Raw, last: u64) {
        while self.next <= last {
            let text = raw.text();
            let frame: Json = serde_json::from_str(&text).unwrap();
            let number = |key: &str| frame[key].as_u64().unwrap();
            match frame["type"].as_str().unwrap() {
                "message" => {
                    assert_eq!(number("seq"), self.next);
                    assert_eq!(self.announced.take().unwrap_or(self.next), self.next);
                    self.next += 1;
                    self.delivered += 1;
                    self.bytes_after_gap += text.len() as u64;
                }
                "gap" => {
                    assert_eq!(frame["reason"], "slow");
                    assert_eq!(number("after") + 1, self.next);
                    assert!(number("dropped") > 0);
                    self.next += number("dropped");
                    // A reply may part a gap in two; both announce the publication behind them.
                    assert!(number("next") >= self.next);
                    self.announced = Some(number("next"));
                    self.dropped += number("dropped");
                    self.gaps += 1;
                    self.bytes_after_gap = 0;
                }
                _ => {
                    // It stands behind the publications that the server had dealt with.
                    assert_eq!(number("seq") + 1, self.next);
                    self.replies.push(frame);
                }
            }
        }
    }
}

/// The account of a client that begins to read now, after everything was published.
fn account(raw: &mut Raw, first: u64, last: u64) -> Account {
    let mut account = Account {
        next: first,
        ..Account::default()
    };
    account.read(raw, last);
    assert_eq!(account.next, last + 1);
    account
}

#[test]
fn a_client_that_stops_reading_is_told_exactly_what_it_missed() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    healthy.publish_until_dropped(&server, 300);
    let told = account(&mut slow, 1, healthy.read);
    assert_eq!(told.delivered + told.dropped, healthy.read);
    assert_eq!(told.dropped, server.counters.dropped_slow.get());
    // One hole in one place.
    assert_eq!(told.gaps, 1);
    assert_eq!(told.replies, Vec::<Json>::new());
    // What waited was bounded; the newest was kept.
    assert!((PENDING - 2 * DATA as u64..=PENDING).contains(&told.bytes_after_gap));
    server.until_stat("deliveries", healthy.read + told.delivered);

    // It has caught up: from here on it gets everything again.
    healthy.publish(&server, 8);
    let told = account(&mut slow, healthy.read - 7, healthy.read);
    assert_eq!((told.delivered, told.dropped), (8, 0));
}

#[test]
fn a_client_that_was_slow_is_still_heard() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    for dropped in [100, 300, 500] {
        let first = healthy.read + 1;
        healthy.publish_until_dropped(&server, dropped);
        let told = account(&mut slow, first, healthy.read);
        assert!(told.dropped > 0);
        slow.send(TEXT, br#"{"type":"ping","id":"here"}"#);
        let pong = slow.json();
        assert_eq!(
            (&pong["id"], pong["seq"].as_u64()),
            (&json!("here"), Some(healthy.read))
        );
        slow.send(PING, b"and here");
        assert_eq!(slow.frame(), (PONG, b"and here".to_vec()));
    }
}

#[test]
fn replies_are_not_dropped_and_keep_their_place() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    healthy.publish_until_dropped(&server, 10);
    for id in 0..20 {
        slow.send(
            TEXT,
            json!({"type": "ping", "id": id}).to_string().as_bytes(),
        );
        server.until_stat("inbound_messages", id + 1);
        healthy.publish(&server, 16);
    }
    server.until_delivered();
    let mut told = account(&mut slow, 1, healthy.read);
    assert_eq!(told.delivered + told.dropped, healthy.read);
    assert_eq!(told.dropped, server.counters.dropped_slow.get());
    while told.replies.len() < 20 {
        told.replies.push(slow.json());
    }
    let ids: Vec<_> = told
        .replies
        .iter()
        .map(|reply| reply["id"].as_u64())
        .collect();
    assert_eq!(ids, (0..20).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_client_that_reads_a_little_from_time_to_time_is_told_of_every_hole() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    let mut told = Account {
        next: 1,
        ..Account::default()
    };
    for round in 1..=10 {
        healthy.publish_until_dropped(&server, round * 40);
        // Some of what waits goes out, in the middle of which more is dropped.
        told.read(&mut slow, told.next + 20);
    }
    told.read(&mut slow, healthy.read);
    assert_eq!(told.next, healthy.read + 1);
    assert_eq!(told.dropped, server.counters.dropped_slow.get());
    assert_eq!(told.delivered + told.dropped, healthy.read);
    assert!(told.gaps > 1);
}

#[test]
fn a_gap_counts_only_what_was_meant_for_the_client() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    healthy
        .raw
        .send(TEXT, br#"{"type":"subscribe","topics":["other"]}"#);
    healthy.raw.json();
    let data = "x".repeat(DATA);
    // Every third publication is for the slow client.
    while server.counters.dropped_slow.get() < 100 {
        for topic in ["other", "a", "other"] {
            server.send(topic, &data);
        }
        healthy.catch_up(&server);
    }
    server.until_delivered();
    let (mut delivered, mut dropped, mut last) = (0, 0, 0);
    while last + 1 < healthy.read {
        let frame = slow.json();
        let number = |key: &str| frame[key].as_u64().unwrap();
        if frame["type"] == "gap" {
            dropped += number("dropped");
            assert!(number("after") >= last);
            // All that is missing lies between, and `next` is the publication that follows.
            last = number("next") - 3;
        } else {
            assert_eq!(number("seq"), if last == 0 { 2 } else { last + 3 });
            last = number("seq");
            delivered += 1;
        }
    }
    assert_eq!(delivered + dropped, healthy.read / 3);
    assert_eq!(dropped, server.counters.dropped_slow.get());
}

#[test]
fn a_slow_raw_client_is_closed_with_1013_after_an_unbroken_run() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a&format=raw");
    slow.settle();
    let mut healthy = Healthy::connect(&server);
    healthy.publish_until_dropped(&server, 1);
    let (texts, close) = slow.closed();
    assert_eq!(close, (1013, "client too slow".to_owned()));
    let whole = json!({"topic": "a", "data": "x".repeat(DATA)});
    for text in &texts {
        assert_eq!(serde_json::from_str::<Json>(text).unwrap(), whole);
    }
    let missed = server.counters.dropped_slow.get() + server.counters.dropped_disconnected.get();
    assert_eq!(texts.len() as u64 + missed, healthy.read);
    server.until_stat("connections", 1);
}

#[test]
fn clients_that_vanish_in_the_middle_cost_nobody_else_a_frame() {
    const TOTAL: u64 = 10_000;
    let server = TestServer::with(|settings| {
        settings.history_bytes = 0;
        settings.publish_queue_bytes = 1 << 30;
        settings.send_buffer_bytes = 1 << 30;
        settings.shards = 2;
    });
    let connect = |query| {
        let mut raw = Raw::upgraded(&server, query);
        raw.json();
        raw
    };
    let mut healthy: Vec<_> = (0..4).map(|_| connect("?topic=a")).collect();
    let vanishing: Vec<_> = (0..12).map(|_| connect("?topic=a,*")).collect();
    thread::scope(|scope| {
        for raw in &mut healthy {
            scope.spawn(|| {
                for seq in 1..=TOTAL {
                    assert_eq!(raw.message(), (seq, seq.to_string()));
                }
            });
        }
        for (place, mut raw) in vanishing.into_iter().enumerate() {
            scope.spawn(move || {
                // All that arrives until then is in order for them, too.
                for seq in 1..=100 * place as u64 {
                    assert_eq!(raw.message().0, seq);
                }
                match place % 4 {
                    0 => drop(raw),
                    1 => raw.reset(),
                    2 => {
                        raw.half_close();
                        raw.drain();
                    }
                    // Unread bytes behind a broken rule.
                    _ => {
                        raw.write([0xff; 100]);
                        drop(raw);
                    }
                }
            });
        }
        for seq in 1..=TOTAL {
            assert_eq!(server.send("a", &seq.to_string()), seq);
        }
    });
    server.until_stat("connections", 4);
    // And the survivors go on.
    let seq = server.send("a", "last");
    for raw in &mut healthy {
        assert_eq!(raw.message(), (seq, "last".to_owned()));
    }
}

#[test]
fn every_publication_of_every_subscriber_is_counted_once() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    let mut never = Raw::small(&server, "?topic=a,*");
    never.json();
    let other = Client::connect(&server, "?topic=b");
    let mut healthy = Healthy::connect(&server);
    healthy.publish_until_dropped(&server, 200);
    healthy.publish(&server, 16);
    server.until_delivered();
    account(&mut slow, 1, healthy.read);
    // What waits for this one is lost with it.
    never.reset();
    drop((other, slow));
    server.until_stat("connections", 1);
    server.until_stat("connections_closed", 3);
    let counters = &server.counters;
    until("all to be counted", || {
        counters.deliveries.get()
            + counters.dropped_slow.get()
            + counters.dropped_disconnected.get()
            == 3 * healthy.read
    });
    assert!(counters.dropped_slow.get() > 0);
    assert!(counters.dropped_disconnected.get() > 0);
}

#[test]
fn a_slow_client_keeps_no_other_of_its_shard_waiting() {
    let server = TestServer::with(|settings| {
        settings.send_buffer_bytes = PENDING;
        settings.history_bytes = 0;
        settings.shards = 1;
    });
    let mut slow: Vec<_> = (0..10)
        .map(|_| {
            let mut raw = Raw::small(&server, "?topic=a");
            raw.json();
            raw
        })
        .collect();
    let mut healthy = Healthy::connect(&server);
    healthy.publish_until_dropped(&server, 10 * 50);
    for raw in &mut slow {
        let told = account(raw, 1, healthy.read);
        assert_eq!(told.delivered + told.dropped, healthy.read);
    }
}

#[test]
fn the_latest_of_each_topic_outlives_older_ones() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a,b&slow=latest");
    slow.json();
    let mut healthy = Healthy::connect(&server);
    server.send("b", "the only one");
    healthy.read += 1;
    healthy.publish_until_dropped(&server, 100);
    let last = server.stat("seq");
    let (mut seen, mut got_b, mut dropped) = (0, false, 0);
    while seen < last {
        let frame = slow.json();
        match frame["type"].as_str() {
            Some("gap") => {
                assert_eq!(frame["after"], seen);
                dropped += frame["dropped"].as_u64().unwrap();
                seen = frame["next"].as_u64().unwrap() - 1;
            }
            _ => {
                seen += 1;
                assert_eq!(frame["seq"], seen);
                got_b |= frame["topic"] == "b";
            }
        }
    }
    assert!(got_b);
    assert_eq!(dropped, server.counters.dropped_slow.get());
}

#[test]
fn who_would_rather_go_than_miss_something_is_closed() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a&slow=close");
    slow.json();
    Healthy::connect(&server).publish_until_dropped(&server, 1);
    let (frames, (code, _)) = slow.closed();
    assert_eq!(code, 1013);
    // What came before is whole.
    for (place, frame) in frames.iter().enumerate() {
        let frame: Json = serde_json::from_str(frame).unwrap();
        assert_eq!(frame["seq"], place as u64 + 1);
    }
}

/// An answer says that everything up to its number came before it. That is not so any more for who is being closed.
#[test]
fn who_is_being_closed_gets_no_more_answers() {
    let server = server();
    let mut slow = Raw::small(&server, "?topic=a&slow=close");
    slow.json();
    let data = "x".repeat(DATA);
    while server.counters.dropped_slow.get() == 0 {
        server.send("a", &data);
        slow.send(TEXT, br#"{"type":"ping"}"#);
    }
    let (frames, (code, _)) = slow.closed();
    assert_eq!(code, 1013);
    let mut next = 1;
    for frame in frames {
        let frame: Json = serde_json::from_str(&frame).unwrap();
        if frame["type"] == "message" {
            assert_eq!(frame["seq"], next);
            next += 1;
        } else {
            assert_eq!(
                (&frame["type"], &frame["seq"]),
                (&json!("pong"), &json!(next - 1))
            );
        }
    }
}
