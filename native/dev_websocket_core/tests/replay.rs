//! Past publications: from a cursor, the newest of them, and the seam to what comes live.
#![cfg(test)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value as Json, json};

use support::{Client, Raw, TEXT, TestServer, frame, seqs, upgrade_request};

fn epoch(client: &Client) -> String {
    client.established["epoch"].as_str().unwrap().to_owned()
}

/// The frames of a replay, without its `live`.
fn replay(client: &mut Client) -> Vec<Json> {
    let mut frames = Vec::new();
    loop {
        let frame = client.next();
        if frame["type"] == "live" {
            return frames;
        }
        frames.push(frame);
    }
}

#[test]
fn a_cursor_brings_what_was_missed_and_nothing_twice() {
    let server = TestServer::start();
    for n in 0..1000 {
        server.send(if n % 2 == 0 { "a" } else { "b" }, "x");
    }
    // What the shard has not seen yet would come live.
    server.until_delivered();
    let mut client = Client::connect(&server, "?topic=a&since=990");
    assert_eq!(seqs(&replay(&mut client)), [991, 993, 995, 997, 999]);
    server.send("a", "live");
    assert_eq!(client.message()["seq"], 1001);
    let with_epoch = format!("?topic=a&since={}:998", epoch(&client));
    let mut client = Client::connect(&server, &with_epoch);
    assert_eq!(seqs(&replay(&mut client)), [999, 1001]);
    // Of nothing missed there is nothing to replay.
    let mut client = Client::connect(&server, "?topic=a&since=1001");
    assert!(replay(&mut client).is_empty());
}

#[test]
fn the_newest_are_found_however_far_back() {
    let server = TestServer::start();
    for n in 0..2000 {
        server.send(if n % 400 == 0 { "rare" } else { "b" }, "x");
    }
    server.until_delivered();
    for (last, expected) in [
        ("2", &[1201_u64, 1601][..]),
        ("0", &[]),
        ("5", &[1, 401, 801, 1201, 1601]),
        ("9", &[1, 401, 801, 1201, 1601]),
    ] {
        let mut client = Client::connect(&server, &format!("?topic=rare&last={last}"));
        assert_eq!(seqs(&replay(&mut client)), expected, "{last}");
    }
    let mut raw = Raw::upgraded(&server, "?topic=rare&last=1&format=raw");
    let last = raw.text();
    server.send("rare", "live");
    let frames = [last, raw.text()];
    assert!(
        frames[0].contains("\"x\"") && frames[1].contains("live"),
        "{frames:?}"
    );
}

#[test]
fn what_is_forgotten_or_of_another_epoch_is_told_first() {
    let server = TestServer::with(|settings| settings.history_bytes = 256 * 1024);
    let data = "x".repeat(1000);
    for _ in 0..2000 {
        server.send("a", &data);
        server.until_delivered();
    }
    let mut client = Client::connect(&server, "?topic=a&since=10");
    let frames = replay(&mut client);
    let next = frames[0]["next"].as_u64().unwrap();
    let gap = json!({"type": "gap", "reason": "expired", "dropped": next - 11, "after": 10, "next": next});
    assert_eq!(frames[0], gap);
    assert!(next > 1500);
    assert_eq!(seqs(&frames), (next..=2000).collect::<Vec<_>>());
    let mut client = Client::connect(&server, "?topic=a&since=older1:1999");
    let frames = replay(&mut client);
    assert_eq!(frames[0]["reason"], "epoch");
    assert_eq!(frames[0]["next"], next);
    assert_eq!(seqs(&frames), (next..=2000).collect::<Vec<_>>());
    // `last` asks for no number, so nothing is missing.
    let mut client = Client::connect(&server, "?topic=a&last=1000");
    assert_eq!(
        seqs(&replay(&mut client)),
        (next..=2000).collect::<Vec<_>>()
    );
}

#[test]
fn a_cursor_ahead_of_everything_is_refused() {
    let server = TestServer::start();
    server.send("a", "x");
    let response = Raw::ask(&server, upgrade_request("?topic=a&since=2"));
    assert_eq!(response.refusal().0, "bad_since");
    let mut client = Client::connect(&server, "");
    let reply = client.request(&json!({"type": "subscribe", "id": 9, "topics": ["a"], "since": 2}));
    assert_eq!(
        (&reply["code"], &reply["id"]),
        (&json!("bad_since"), &json!(9))
    );
}

#[test]
fn a_subscription_with_a_cursor_replays_only_what_is_new() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    for topics in ["a", "b", "a,b", "b", "c"] {
        server.send(topics, "x");
    }
    assert_eq!(seqs(&client.up_to(5)), [1, 3]);
    client.send(&json!({"type": "subscribe", "id": 1, "topics": ["b"], "since": 0}));
    // This one must wait until the replay is over.
    client.send(&json!({"type": "unsubscribe", "id": 2, "topics": ["b"]}));
    let reply = client.next();
    assert_eq!((&reply["id"], &reply["seq"]), (&json!(1), &json!(5)));
    // The third was had by its other topic.
    assert_eq!(client.message()["seq"], 2);
    assert_eq!(client.message()["seq"], 4);
    assert_eq!(client.next(), json!({"type": "live", "id": 1, "seq": 5}));
    assert_eq!(client.next()["removed_topics"], json!(["b"]));
    server.send("b", "x");
    server.send("a", "x");
    assert_eq!(client.message()["seq"], 7);
}

#[test]
fn a_client_that_does_not_read_its_replay_holds_up_nobody() {
    let server = TestServer::start();
    let data = "x".repeat(16 * 1024);
    for _ in 0..600 {
        server.send("a", &data);
    }
    server.until_delivered();
    let mut lazy = Client::connect(&server, "?topic=a&since=0");
    let mut other = Client::connect(&server, "?topic=b");
    server.send("b", "x");
    assert_eq!(other.message()["seq"], 601);
    assert_eq!(seqs(&replay(&mut lazy)), (1..=600).collect::<Vec<_>>());
}

/// A client in a replay that does not read, so its replay cannot end: what it asks for waits.
fn in_a_replay(server: &TestServer) -> Raw {
    let data = "x".repeat(16 * 1024);
    for _ in 0..600 {
        server.send("a", &data);
    }
    server.until_delivered();
    let mut lazy = Raw::small(server, "?topic=a&since=0");
    lazy.json();
    lazy
}

/// Waits until the server has read so many requests, and goes on with other clients for a while.
fn until_read(server: &TestServer, requests: u64) {
    server.until_stat("inbound_messages", requests);
    let mut other = Client::connect(server, "");
    for _ in 0..50 {
        other.request(&json!({"type": "ping"}));
    }
    assert_eq!(server.stat("inbound_messages"), requests + 50);
}

/// The numbers of the requests that are answered, behind the replay.
fn served(client: &mut Raw, count: usize) -> Vec<u64> {
    let (mut served, mut live) = (Vec::new(), false);
    while served.len() < count {
        let frame = client.json();
        match frame["type"].as_str().unwrap() {
            "message" => assert!(!live),
            "live" => live = true,
            _ => {
                assert!(live, "{frame}");
                served.push(frame["id"].as_u64().unwrap());
            }
        }
    }
    served
}

#[test]
fn requests_that_wait_for_a_replay_hold_back_the_reading_by_their_number() {
    let server = TestServer::start();
    let mut lazy = in_a_replay(&server);
    for id in 0..70 {
        let request = json!({"type": "subscribe", "id": id, "topics": [format!("t{id}")]});
        lazy.send(TEXT, request.to_string().as_bytes());
    }
    until_read(&server, 64);
    assert_eq!(served(&mut lazy, 70), (0..70).collect::<Vec<_>>());
    assert_eq!(server.stat("error_frames"), 0);
}

#[test]
fn requests_that_wait_for_a_replay_hold_back_the_reading_by_their_bytes() {
    let server = TestServer::start();
    let mut lazy = in_a_replay(&server);
    for id in 0..5 {
        let mut request = json!({"type": "unsubscribe", "id": id, "topics": ["t"]}).to_string();
        // 7 KB each: the third is the last that is read.
        request.push_str(&" ".repeat(7 * 1024));
        lazy.send(TEXT, request.as_bytes());
    }
    until_read(&server, 3);
    assert_eq!(served(&mut lazy, 5), (0..5).collect::<Vec<_>>());
}

#[test]
fn the_newest_are_exactly_so_many_at_any_size_in_every_format() {
    for size in [100, 2_000, 10_000, 300_000] {
        let server = TestServer::start();
        let data = "x".repeat(size);
        for n in 0..40 {
            server.send(if n % 2 == 0 { "a" } else { "b" }, &data);
        }
        server.until_delivered();
        for last in [0, 1, 9, 10, 11] {
            let newest: Vec<u64> = (1..=39).step_by(2).collect();
            let expected = &newest[newest.len() - last..];
            let mut client = Client::connect(&server, &format!("?topic=a&last={last}"));
            assert_eq!(seqs(&replay(&mut client)), expected, "{last} of {size}");
            let mut events = Raw::events(&server, &format!("/events?topic=a&last={last}"), "");
            events.event();
            for seq in expected {
                assert_eq!(events.event().0["seq"], *seq);
            }
            assert_eq!(events.event().0["type"], "live");
            let mut raw = Raw::upgraded(&server, &format!("?topic=a&format=raw&last={last}"));
            for _ in expected {
                assert!(raw.text().len() > size);
            }
            raw.settle();
        }
    }
}

/// The bound holds at once, without another publication.
#[test]
fn history_that_is_lowered_or_off_is_gone_at_once() {
    let server = TestServer::start();
    for _ in 0..200 {
        server.send("a", "x");
    }
    server.until_delivered();
    let each = server.stat("history_kept_bytes") / 200;
    for (limit, kept) in [(10 * each, 10), (10 * each - 1, 9), (each - 1, 0), (0, 0)] {
        let settings = dev_websocket_core::Settings {
            history_bytes: limit,
            ..(*server.settings()).clone()
        };
        server.reconfigure(settings).unwrap();
        assert_eq!(server.stat("history_kept_bytes"), kept * each);
        let mut client = Client::connect(&server, "?topic=a&last=1000");
        assert_eq!(seqs(&replay(&mut client)).len() as u64, kept);
        let mut client = Client::connect(&server, "?topic=a&since=100");
        let frames = replay(&mut client);
        let gap = json!({"type": "gap", "reason": "expired", "dropped": 100 - kept, "after": 100, "next": 201 - kept});
        assert_eq!(frames[0], gap);
        assert_eq!(seqs(&frames).len() as u64, kept);
        let mut client = Client::connect(&server, "?topic=a&since=another:1");
        let frames = replay(&mut client);
        assert_eq!(frames[0]["dropped"], 200 - kept);
        assert_eq!(seqs(&frames).len() as u64, kept);
    }
    // Without a history the live publications still come, and nothing of them stays.
    let mut client = Client::connect(&server, "?topic=a&since=200");
    assert_eq!(client.next()["type"], "live");
    assert_eq!(server.send("a", "x"), 201);
    assert_eq!(client.message()["seq"], 201);
    assert_eq!(server.stat("history_kept_bytes"), 0);
}

/// Clients come and go at random during casts at full speed; each continues where it was.
#[test]
fn resuming_at_random_loses_and_repeats_nothing() {
    let resumes: usize = std::env::var("RESUMES").map_or(100, |count| count.parse().unwrap());
    let casts: u64 = std::env::var("CASTS").map_or(20_000, |count| count.parse().unwrap());
    let server = TestServer::with(|settings| {
        settings.shards = 2;
        settings.history_bytes = 256 * 1024 * 1024;
        settings.send_buffer_bytes = 256 * 1024 * 1024;
    });
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..casts {
                server.send(if n % 3 == 0 { "a" } else { "b" }, "x");
                if n % 64 == 0 {
                    thread::yield_now();
                }
            }
            is_done.store(true, Ordering::Release);
        });
        let mut cursor = 0;
        let mut got = Vec::new();
        let mut resumed = 0;
        while resumed < resumes || !is_done.load(Ordering::Acquire) {
            let mut client = Client::connect(&server, &format!("?topic=a*&since={cursor}"));
            resumed += 1;
            // A different number of frames each time, and not even those may come at the end.
            for _ in 0..resumed % 97 {
                let frame = client.next();
                match frame["type"].as_str().unwrap() {
                    "message" => {
                        cursor = frame["seq"].as_u64().unwrap();
                        got.push(cursor);
                    }
                    "live" if is_done.load(Ordering::Acquire) => break,
                    "live" => {}
                    other => panic!("{other}"),
                }
                if is_done.load(Ordering::Acquire) && cursor + 3 > casts {
                    break;
                }
            }
        }
        let mut client = Client::connect(&server, &format!("?topic=a&since={cursor}"));
        got.extend(seqs(&replay(&mut client)));
        let expected: Vec<u64> = (1..=casts).filter(|seq| (seq - 1) % 3 == 0).collect();
        assert_eq!(got, expected);
    });
}

/// `last` asks for no number, but what is published once the client is there is the client's, also if the server forgets
/// it before it has found the newest.
#[test]
fn nothing_is_missing_without_a_word_after_the_newest() {
    let server = TestServer::with(|settings| {
        settings.history_bytes = 64 * 1024;
        settings.send_buffer_bytes = 256 * 1024 * 1024;
    });
    let casts = 5_000;
    let is_done = AtomicBool::new(false);
    let (clients, last) = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for _ in 0..casts {
                server.send("b", "x");
            }
            let last = server.send("a", "x");
            is_done.store(true, Ordering::Release);
            last
        });
        let mut clients = Vec::new();
        while !is_done.load(Ordering::Acquire) {
            clients.push(Client::connect(&server, "?topic=*&last=1"));
        }
        (clients, publisher.join().unwrap())
    });
    for mut client in clients {
        let mut next = client.established["seq"].as_u64().unwrap() + 1;
        while next <= last {
            let frame = client.next();
            let number = |key: &str| frame[key].as_u64().unwrap();
            match frame["type"].as_str().unwrap() {
                // That of before the client was there.
                "message" if number("seq") < next => {}
                "message" => {
                    assert_eq!(number("seq"), next);
                    next += 1;
                }
                "gap" => {
                    assert_eq!(
                        (number("after") + 1, &frame["reason"]),
                        (next, &json!("expired"))
                    );
                    next = number("next");
                }
                _ => assert_eq!(frame["type"], "live"),
            }
        }
    }
}

/// A pong is no cursor before it is known where the newest begin.
#[test]
fn a_pong_while_the_newest_are_looked_for_says_nothing() {
    let server = TestServer::start();
    for _ in 0..50_000 {
        server.send("b", "x");
    }
    server.until_delivered();
    let mut raw = Raw::connect(server.address());
    let mut early = upgrade_request("?topic=a&last=1").into_bytes();
    early.extend(frame(TEXT, br#"{"type":"ping"}"#));
    raw.write(early);
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["seq"], 50_000);
    let (first, second) = (raw.json(), raw.json());
    // Unless they were found at once.
    if first["type"] == "pong" {
        assert_eq!((&first["seq"], &second["seq"]), (&json!(0), &json!(50_000)));
    } else {
        assert_eq!(
            (&first["type"], &second["seq"]),
            (&json!("live"), &json!(50_000))
        );
    }
}

/// There is no frame to tell a raw connection of what was forgotten before it got it.
#[test]
fn a_raw_connection_is_closed_when_the_server_forgets_what_it_was_to_get() {
    let server = TestServer::start();
    let data = "x".repeat(16 * 1024);
    for _ in 0..600 {
        server.send("a", &data);
    }
    server.until_delivered();
    let mut lazy = Raw::small(&server, "?topic=a&format=raw&last=600");
    // It does not read on, so the rest of its replay waits, and is forgotten meanwhile.
    lazy.text();
    for _ in 0..1500 {
        server.send("b", &data);
    }
    server.until_delivered();
    let (frames, (code, _)) = lazy.closed();
    assert!(frames.len() < 599);
    assert_eq!(code, 1013);
}
