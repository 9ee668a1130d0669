//! How connections end: goodbyes of the client, rules that it breaks, and clients that are gone without a word.
//!
//! Whenever the server closes, the client must be able to read why: the close frame comes whole, then the stream ends.
#![cfg(test)]

mod support;

use std::time::Duration;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::Message;

use support::{CLOSE, Client, PING, PONG, Raw, TEXT, TestServer, frame, seqs, until};

/// What a new raw connection is told after it sent these bytes.
fn closed_after(server: &TestServer, bytes: &[u8]) -> (u16, String) {
    let mut raw = Raw::upgraded(server, "");
    assert_eq!(raw.json()["type"], "connection_established");
    raw.write(bytes);
    let (texts, close) = raw.closed();
    assert_eq!(texts, Vec::<String>::new());
    close
}

/// Nothing of any connection is left.
fn nobody_is_left(server: &TestServer) {
    server.until_stat("connections", 0);
    server.until_stat(
        "connections_closed",
        server.counters.connections_opened.get(),
    );
    server.until_topics(&[]);
}

#[test]
fn a_goodbye_of_the_client_is_returned() {
    let server = TestServer::start();
    for (code, reason) in [(1000, "bye"), (1001, ""), (4321, "own code")] {
        let client = Client::connect(&server, "?topic=a");
        assert_eq!(client.close(code, reason), (code, reason.to_owned()));
    }
    // A close frame may be empty.
    let mut raw = Raw::upgraded(&server, "?topic=a");
    raw.json();
    raw.send(CLOSE, b"");
    assert_eq!(raw.frame(), (CLOSE, Vec::new()));
    raw.end();
    nobody_is_left(&server);
}

#[test]
fn what_was_asked_before_the_goodbye_is_still_answered() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    let mut bytes = frame(TEXT, br#"{"type":"ping","id":"last"}"#);
    bytes.extend(frame(CLOSE, &1000_u16.to_be_bytes()));
    bytes.extend(frame(TEXT, b"nobody reads this"));
    raw.write(bytes);
    let (texts, (code, _)) = raw.closed();
    assert_eq!(code, 1000);
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains(r#""id":"last""#), "{texts:?}");
    nobody_is_left(&server);
}

#[test]
fn publications_before_the_goodbye_arrive() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?topic=a");
    raw.json();
    for _ in 0..10 {
        server.send("a", "x");
    }
    server.until_delivered();
    raw.send(CLOSE, &1000_u16.to_be_bytes());
    let (texts, (code, _)) = raw.closed();
    assert_eq!((texts.len(), code), (10, 1000));
    server.until_stat("connections", 0);
}

#[test]
fn nothing_follows_a_close_frame_however_much_is_published() {
    let server = TestServer::with(|settings| settings.history_bytes = 0);
    // So many that they are served in turns, and are told goodbye between two of them.
    let mut crowd = Raw::crowd(&server, 300, "?topic=a");
    let goodbye = frame(CLOSE, &1000_u16.to_be_bytes());
    let broken = frame(0x83, b"");
    let all_said = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5000 {
                if all_said.load(Ordering::Relaxed) {
                    break;
                }
                server.send("a", "x");
            }
        });
        for (raw, end) in crowd
            .iter_mut()
            .zip([&goodbye, &broken].into_iter().cycle())
        {
            raw.write(end);
        }
        all_said.store(true, Ordering::Relaxed);
        // This looks for the end of the stream behind the close frame.
        crowd.into_iter().for_each(|raw| drop(raw.closed()));
    });
    server.until_stat("connections", 0);
}

#[test]
fn a_ping_is_answered_with_its_payload_in_both_formats() {
    let server = TestServer::start();
    for query in ["?topic=a", "?topic=a&format=raw"] {
        let mut raw = Raw::upgraded(&server, query);
        if !query.contains("raw") {
            raw.json();
        }
        for payload in [&b""[..], b"\0\xff", &[7; 125]] {
            raw.send(PING, payload);
            assert_eq!(raw.frame(), (PONG, payload.to_vec()));
        }
        // A pong that nobody asked for is no fault.
        raw.send(PONG, b"unasked");
        raw.send(PING, b"end");
        assert_eq!(raw.frame(), (PONG, b"end".to_vec()));
    }
    nobody_is_left(&server);
}

#[test]
fn a_client_that_answers_pings_stays() {
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(300));
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for _ in 0..4 {
        let (first, payload) = raw.frame();
        assert_eq!(first, PING);
        raw.send(PONG, &payload);
    }
    assert_eq!(server.stat("connections"), 1);
}

#[test]
fn any_message_is_a_sign_of_life() {
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(300));
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    for _ in 0..4 {
        assert_eq!(raw.frame().0, PING);
        raw.send(TEXT, br#"{"type":"ping"}"#);
        assert_eq!(raw.json()["type"], "pong");
    }
}

#[test]
fn a_client_that_misses_two_pings_is_closed() {
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(50));
    for query in ["?topic=a", "?topic=a&format=raw"] {
        let mut raw = Raw::upgraded(&server, query);
        if !query.contains("raw") {
            raw.json();
        }
        assert_eq!(raw.frame().0, PING);
        assert_eq!(raw.frame().0, PING);
        let (first, payload) = raw.frame();
        assert_eq!(first, CLOSE);
        assert_eq!(payload[..2], 1008_u16.to_be_bytes());
        assert_eq!(payload[2..], *b"no answer to two pings");
        raw.end();
    }
    nobody_is_left(&server);
}

#[test]
fn a_client_that_neither_reads_nor_answers_is_forgotten() {
    let server = TestServer::with(|settings| {
        settings.ping_interval = Duration::from_millis(500);
        settings.max_topics_per_connection = 500;
    });
    let mut raw = Raw::small(&server, "?topic=a");
    let data = "x".repeat(60_000);
    until("the socket to take no more", || {
        server.send("a", &data);
        server.counters.dropped_slow.get() > 0
    });
    // A reply waits, longer than the server wants to keep for one client, and the pings would wait behind it.
    let topics: Vec<_> = (0..200)
        .map(|n| format!("{n}{}", "t".repeat(250)))
        .collect();
    let request = json!({"type": "subscribe", "topics": topics}).to_string();
    raw.send(TEXT, request.as_bytes());
    server.until_stat("connections", 0);
    assert!(server.counters.inbound_messages.get() > 0);
    drop(raw);
}

/// It takes far longer to come to the first ping than it may be silent. Time is told by the pings of another client.
#[test]
fn a_client_that_reads_slowly_behind_many_bytes_stays_and_gets_its_gaps() {
    const INTERVALS: usize = 10;
    const BYTES_PER_INTERVAL: usize = 100_000;
    for (query, end) in [
        ("?topic=a", "\"}}"),
        ("?topic=a&format=raw&slow=latest", "\"}"),
    ] {
        let server =
            TestServer::with(|settings| settings.ping_interval = Duration::from_millis(500));
        let mut clock = Raw::upgraded(&server, "?format=raw");
        let mut slow = Raw::small(&server, query);
        until("the socket to take no more", || {
            server.send("a", &"x".repeat(60_000));
            server.counters.dropped_slow.get() > 100
        });
        let (mut intervals, mut read) = (0, 0);
        while intervals < INTERVALS {
            clock.send(PING, b"");
            match clock.frame().0 {
                PING => {
                    intervals += 1;
                    clock.send(PONG, b"");
                }
                first => assert_eq!(first, PONG),
            }
            if read < (intervals + 1) * BYTES_PER_INTERVAL {
                read += slow.skip(512);
            }
        }
        assert_eq!(server.stat("connections"), 2, "{query}");
        assert_eq!(server.counters.closed_no_pong.get(), 0);
        // It is served to the end when it reads on.
        server.send("a", "the last one");
        slow.skip_until(format!("the last one{end}").as_bytes());
        slow.send(PING, b"");
        while slow.frame().0 != PONG {}
    }
}

#[test]
fn a_broken_rule_of_the_protocol_closes_with_1002() {
    let server = TestServer::start();
    let ping = br#"{"type":"ping"}"#;
    let mut unmasked = vec![TEXT, ping.len() as u8];
    unmasked.extend(ping);
    let long = [b'x'; 126];
    for (rule, bytes) in [
        ("a client's frames are masked", unmasked),
        (
            "the first reserved bit is for extensions",
            frame(0xc1, ping),
        ),
        (
            "the second reserved bit is for extensions",
            frame(0xa1, ping),
        ),
        (
            "the third reserved bit is for extensions",
            frame(0x91, ping),
        ),
        ("opcode 3 is reserved", frame(0x83, ping)),
        ("opcode 11 is reserved", frame(0x8b, ping)),
        ("a control frame is short", frame(PING, &long)),
        ("a control frame is whole", frame(0x09, b"")),
        ("a continuation continues something", frame(0x80, ping)),
        (
            "a message in parts is ended before the next",
            [frame(0x01, b"{"), frame(TEXT, ping)].concat(),
        ),
        ("a close frame has no half code", frame(CLOSE, b"\x03")),
        ("999 is no close code", frame(CLOSE, &999_u16.to_be_bytes())),
        ("1005 is not sent", frame(CLOSE, &1005_u16.to_be_bytes())),
    ] {
        assert_eq!(closed_after(&server, &bytes).0, 1002, "{rule}");
    }
    nobody_is_left(&server);
}

#[test]
fn text_that_is_not_utf_8_closes_with_1007() {
    let server = TestServer::start();
    for bytes in [
        frame(TEXT, b"{\"type\":\"\xff\"}"),
        frame(TEXT, b"\xed\xa0\x80"),
        // Cut within a character, and never finished.
        [frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(),
        frame(CLOSE, b"\x03\xe8\xff"),
    ] {
        let (code, reason) = closed_after(&server, &bytes);
        assert_eq!((code, reason.as_str()), (1007, "text is not UTF-8"));
    }
    // A character may be cut by fragments.
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    raw.send(0x01, b"{\"type\":\"ping\",\"id\":\"\xc3");
    raw.send(0x80, b"\xbc\"}");
    assert_eq!(raw.json()["id"], "\u{fc}");
    drop(raw);
    nobody_is_left(&server);
}

#[test]
fn a_message_larger_than_the_limit_closes_with_1009() {
    let server = TestServer::with(|settings| settings.max_inbound_bytes = 1000);
    let request = |bytes: usize| {
        let id = "i".repeat(100);
        let padding = " ".repeat(bytes - id.len() - r#"{"type":"ping","id":""}"#.len());
        format!(r#"{{"type":"ping","id":"{id}"{padding}}}"#)
    };
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    for bytes in [999, 1000] {
        raw.send(TEXT, request(bytes).as_bytes());
        assert_eq!(raw.json()["type"], "pong");
    }
    let too_large = request(1001);
    for bytes in [
        frame(TEXT, too_large.as_bytes()),
        frame(0x82, too_large.as_bytes()),
        // In parts that each are small enough.
        [
            frame(0x01, &too_large.as_bytes()[..600]),
            frame(0x80, &too_large.as_bytes()[600..]),
        ]
        .concat(),
    ] {
        let (code, reason) = closed_after(&server, &bytes);
        assert_eq!((code, reason.as_str()), (1009, "message too large"));
    }
    drop(raw);
    nobody_is_left(&server);
}

#[test]
fn a_message_may_come_byte_by_byte_and_empty_frames_do_not_go_on_for_ever() {
    let server = TestServer::with(|settings| settings.max_inbound_bytes = 1000);
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    let request = format!(r#"{{"type":"ping"{}}}"#, " ".repeat(1000 - 15));
    let (first, rest) = request.as_bytes().split_at(1);
    let mut bytes = frame(0x01, first);
    for byte in rest {
        bytes.extend(frame(0x00, &[*byte]));
    }
    bytes.extend(frame(0x80, b""));
    // The count begins anew with each message.
    for _ in 0..10 {
        raw.write(&bytes);
        assert_eq!(raw.json()["type"], "pong");
    }
    drop(raw);
    let mut bytes = frame(0x01, b"{");
    bytes.extend(frame(0x00, b"").repeat(10_000));
    let (code, reason) = closed_after(&server, &bytes);
    assert_eq!((code, reason.as_str()), (1009, "message too large"));
    nobody_is_left(&server);
}

#[test]
fn the_reason_is_readable_while_ten_megabytes_are_still_being_sent() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?topic=a");
    raw.json();
    let mut writer = raw.writer();
    thread::scope(|scope| {
        // Not one write may fail: the server takes what was on its way.
        scope.spawn(move || {
            writer
                .write_all(&frame(TEXT, &vec![b'x'; 10 << 20]))
                .unwrap()
        });
        let (texts, close) = raw.closed();
        assert_eq!(texts, Vec::<String>::new());
        assert_eq!(close, (1009, "message too large".to_owned()));
    });
    nobody_is_left(&server);
}

#[test]
fn a_binary_frame_is_answered_with_an_error() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    client.send_frame(Message::binary(&b"{\"type\":\"ping\"}"[..]));
    let error = client.next();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("bad_frame"))
    );
    assert_eq!(error.get("id"), None);
    let seq = server.send("a", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
}

#[test]
fn more_messages_than_the_rate_close_with_1008() {
    let server = TestServer::with(|settings| settings.max_inbound_rate = 10);
    let ping = frame(TEXT, br#"{"type":"ping"}"#);
    for query in ["", "?format=raw"] {
        for count in [9, 10] {
            let mut raw = Raw::upgraded(&server, query);
            raw.write(ping.repeat(count));
            if query.is_empty() {
                for kind in [&["connection_established"][..], &["pong"].repeat(count)].concat() {
                    assert_eq!(raw.json()["type"], kind);
                }
            }
            raw.half_close();
            raw.end();
        }
        let mut raw = Raw::upgraded(&server, query);
        raw.write(ping.repeat(11));
        let (texts, (code, reason)) = raw.closed();
        assert_eq!((code, reason.as_str()), (1008, "too many messages"));
        assert_eq!(texts.len(), if query.is_empty() { 11 } else { 0 });
    }
    // Control frames count as well.
    for first in [PING, PONG] {
        let mut raw = Raw::upgraded(&server, "");
        raw.write(frame(first, b"").repeat(11));
        assert_eq!(raw.closed().1.0, 1008);
    }
    nobody_is_left(&server);
}

#[test]
fn a_client_that_asks_faster_than_it_reads_gets_every_answer() {
    const REQUESTS: u64 = 30_000;
    let server = TestServer::start();
    let mut raw = Raw::small(&server, "");
    let mut writer = raw.writer();
    let padding = "p".repeat(200);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..REQUESTS {
                let ping = json!({"type": "ping", "id": format!("{n} {padding}")}).to_string();
                writer.write_all(&frame(TEXT, ping.as_bytes())).unwrap();
            }
        });
        until("many requests to be read", || {
            server.counters.inbound_messages.get() > 2_000
        });
        raw.json();
        for n in 0..REQUESTS {
            let text = raw.text();
            let expected = format!(r#"{{"type":"pong","id":"{n} {padding}","#);
            assert!(text.starts_with(&expected), "{text}");
        }
    });
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let server = TestServer::start();
    for query in ["?topic=a,b", "?topic=a&format=raw", ""] {
        drop(Raw::upgraded(&server, query));
        Raw::upgraded(&server, query).reset();
        let mut raw = Raw::upgraded(&server, query);
        raw.half_close();
        if !query.contains("raw") {
            raw.json();
        }
        raw.end();
        // Within a frame.
        let mut raw = Raw::upgraded(&server, query);
        raw.write(&frame(TEXT, b"{\"type\":\"ping\"}")[..9]);
        raw.half_close();
        raw.drain();
    }
    nobody_is_left(&server);
    assert_eq!(server.counters.connections_opened.get(), 12);
}
