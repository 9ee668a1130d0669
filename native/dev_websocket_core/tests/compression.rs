//! Tests of compressed WebSocket messages in both directions.
#![cfg(test)]

mod support;

use std::sync::mpsc::channel;

use dev_websocket_core::{Compression, ConnectionInfo, Direct, Server, Settings};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value as Json, json};
use support::{
    Client, PATIENCE, PING, PONG, Raw, TEXT, TestServer, asked, settings, until, upgrade_request,
    upgraded,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const COMPRESSED: u8 = TEXT | 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

fn shared(settings: &mut Settings) {
    settings.compression = Compression::Shared;
}

fn start() -> TestServer {
    TestServer::with(shared)
}

fn offering(query: &str) -> String {
    upgrade_request(query).replace("\r\n\r\n", &format!("\r\n{OFFER}\r\n"))
}

/// Connects a client that negotiates compression, and reads its welcome frame if it gets one.
fn connect(server: &TestServer, query: &str) -> Raw {
    let mut raw = Raw::connect(server.address());
    raw.write(offering(query));
    let response = raw.response();
    assert_eq!(response.status, 101);
    let extension = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(response.header("sec-websocket-extensions"), Some(extension));
    if !query.contains("format=raw") {
        assert_eq!(raw.json()["type"], "connection_established");
    }
    raw
}

/// Inflates a message by itself; a client that keeps no window does the same.
fn inflated(payload: &[u8]) -> String {
    let mut inflated = Vec::with_capacity(1 << 20);
    let bytes = [payload, &TAIL].concat();
    Decompress::new(false)
        .decompress_vec(&bytes, &mut inflated, FlushDecompress::Sync)
        .unwrap();
    String::from_utf8(inflated).unwrap()
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(1000 + message.len());
    Compress::new(flate2::Compression::default(), false)
        .compress_vec(message, &mut deflated, FlushCompress::Sync)
        .unwrap();
    deflated.truncate(deflated.len() - TAIL.len());
    deflated
}

/// Returns the next message of either kind, and whether it was compressed.
fn next(raw: &mut Raw) -> (Json, bool) {
    let (first, payload) = raw.frame();
    let is_compressed = match first {
        COMPRESSED => true,
        TEXT => false,
        other => panic!("{other:x}"),
    };
    let text = if is_compressed {
        inflated(&payload)
    } else {
        String::from_utf8(payload).unwrap()
    };
    (serde_json::from_str(&text).unwrap(), is_compressed)
}

/// Text that a compressor makes shorter, and that differs for each number.
fn text(number: usize) -> String {
    format!("the slot {number} of a process; ").repeat(20)
}

/// Text of random characters that JSON does not escape.
fn noise(length: usize) -> String {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
        match b' ' + ((state >> 33) % 95) as u8 {
            b'"' | b'\\' => 'x',
            byte => char::from(byte),
        }
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn without_the_setting_nothing_is_negotiated() {
    let server = TestServer::start();
    let response = Raw::ask(&server, offering("?topic=a"));
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

#[test]
fn publications_arrive_compressed_and_are_compressed_once_for_all() {
    let server = start();
    let mut clients: Vec<_> = (0..5).map(|_| connect(&server, "?topic=a")).collect();
    let mut edges = connect(&server, "?topic=a&match=^b");
    let mut plain = Client::connect(&server, "?topic=a");
    for number in 0..20 {
        server.send("a", &text(number));
        let expected = plain.message();
        assert_eq!(expected["data"]["data"], text(number));
        for client in clients.iter_mut().chain([&mut edges]) {
            assert_eq!(next(client), (expected.clone(), true));
        }
    }
    assert_eq!(server.counters.compressed.get(), 20);
    assert_eq!(server.counters.compression_skipped.get(), 0);
    server.until_stat("deliveries", 140);
    let saved = server.counters.compression_saved_bytes.get();
    assert!(saved > 6 * 20 * 400, "{saved}");
}

/// A burst is written as runs of joined frames, which are of one kind.
#[test]
fn a_burst_arrives_in_order_for_clients_of_both_kinds() {
    const MESSAGES: usize = 3000;
    let server = start();
    let mut clients: Vec<_> = (0..6).map(|_| connect(&server, "?topic=a")).collect();
    let mut raw: Vec<_> = (0..6)
        .map(|_| connect(&server, "?topic=a&format=raw"))
        .collect();
    let mut plain: Vec<_> = (0..6)
        .map(|_| Client::connect(&server, "?topic=a"))
        .collect();
    for number in 0..MESSAGES {
        // Every third message is too small.
        let data = if number % 3 == 0 {
            number.to_string()
        } else {
            text(number)
        };
        server.send("a", &data);
    }
    for number in 0..MESSAGES {
        let expected = plain[0].message();
        for client in &mut plain[1..] {
            assert_eq!(client.message(), expected);
        }
        for client in &mut clients {
            assert_eq!(next(client), (expected.clone(), number % 3 > 0));
        }
        for client in &mut raw {
            assert_eq!(next(client), (expected["data"].clone(), number % 3 > 0));
        }
    }
    let both = 2 * (MESSAGES - MESSAGES / 3) as u64;
    assert_eq!(server.counters.compressed.get(), both);
}

#[test]
fn replies_and_direct_frames_are_plain() {
    let server = start();
    let mut client = connect(&server, "?topic=a");
    let topics: Vec<_> = (0..40)
        .map(|n| format!("a rather long topic {n}"))
        .collect();
    let request = json!({"type": "subscribe", "id": 1, "topics": topics}).to_string();
    client.send(COMPRESSED, &deflated(request.as_bytes()));
    let (reply, is_compressed) = next(&mut client);
    assert_eq!(reply["new_topics"], json!(topics));
    assert!(!is_compressed);
    let (sender, answer) = channel();
    let tell = move |found: Vec<ConnectionInfo>| sender.send(found[0].connection).unwrap();
    server.connections(0, 10, tell).unwrap();
    let connection = answer.recv_timeout(PATIENCE).unwrap();
    let direct = "direct ".repeat(100);
    Server::send(&server, connection, &Direct::Text(&direct)).unwrap();
    let (frame, is_compressed) = next(&mut client);
    assert_eq!(frame["type"], "direct");
    assert!(!is_compressed);
}

#[test]
fn replays_use_the_compressed_form_where_it_exists() {
    let server = start();
    server.send("a", &text(0));
    let mut live = connect(&server, "?topic=a");
    server.send("a", &text(1));
    assert!(next(&mut live).1);
    for _ in 0..2 {
        let mut client = connect(&server, "?topic=a&since=0");
        for number in 0..2 {
            let (message, is_compressed) = next(&mut client);
            assert_eq!(message["data"]["data"], text(number));
            assert_eq!(is_compressed, number == 1);
        }
        assert_eq!(next(&mut client).0["type"], "live");
    }
    assert_eq!(server.counters.compressed.get(), 1);
}

#[test]
fn what_does_not_become_smaller_stays_plain() {
    let server = start();
    let mut client = connect(&server, "?topic=a&format=raw");
    let noise = noise(300);
    server.send("a", &noise);
    let (message, is_compressed) = next(&mut client);
    assert_eq!(message["data"], noise);
    assert!(!is_compressed);
    assert_eq!(server.counters.compression_not_smaller.get(), 1);
    assert_eq!(server.counters.compression_saved_bytes.get(), 0);
}

#[test]
fn a_slow_client_gets_gaps_and_its_order() {
    let server = TestServer::with(|settings| {
        shared(settings);
        settings.send_buffer_bytes = 64 * 1024;
    });
    let mut slow = Raw::connect_with(server.address(), |socket| {
        socket.set_recv_buffer_size(4096).unwrap();
    });
    slow.write(offering("?topic=a"));
    assert_eq!(slow.response().status, 101);
    assert_eq!(slow.json()["type"], "connection_established");
    let data = noise(30_000);
    until("the server to drop messages", || {
        server.send("a", &data);
        server.counters.dropped_slow.get() > 20
    });
    server.until_delivered();
    let sent = server.counters.publications.get();
    assert!(server.counters.compressed.get() > 20);
    let (mut expected, mut dropped) = (1, 0);
    while expected <= sent {
        let (frame, is_compressed) = next(&mut slow);
        if frame["type"] == "gap" {
            assert!(!is_compressed);
            dropped += frame["dropped"].as_u64().unwrap();
            expected = frame["next"].as_u64().unwrap();
        } else {
            assert_eq!(frame["seq"], expected);
            expected += 1;
        }
    }
    assert_eq!(dropped, server.counters.dropped_slow.get());
}

#[test]
fn the_setting_may_change_while_clients_are_connected() {
    let server = start();
    let mut client = connect(&server, "?topic=a");
    let change = |compression| {
        let settings = Settings {
            compression,
            ..server.settings().as_ref().clone()
        };
        server.reconfigure(settings).unwrap();
    };
    for (compression, expected) in [
        (Compression::Off, false),
        (Compression::Shared, true),
        (Compression::Off, false),
    ] {
        change(compression);
        server.send("a", &text(3));
        assert_eq!(next(&mut client).1, expected);
        // The client may go on as it has negotiated.
        client.send(COMPRESSED, &deflated(br#"{"type":"ping","id":1}"#));
        assert_eq!(next(&mut client).0["type"], "pong");
    }
    assert_eq!(asked(&server, ""), upgraded());
}

/// Sends bytes and returns the code and the reason of the close frame.
fn closed_by(server: &TestServer, bytes: &[u8]) -> (u16, String) {
    let mut client = connect(server, "");
    client.write(bytes);
    client.closed().1
}

#[test]
fn messages_of_clients_are_bounded_and_checked() {
    let server = start();
    let frame = support::frame;
    let limit = settings().max_inbound_bytes as usize;
    let digits: String = (0..limit).map(|n| n.to_string()).collect();
    let too_large = (1009, "message too large".to_owned());
    let broken = (1007, "compressed data is broken".to_owned());
    let protocol = (1002, "protocol error".to_owned());
    let invalid = (1007, "text is not UTF-8".to_owned());
    let whole = deflated(b"{}");
    for (bytes, expected) in [
        (
            frame(COMPRESSED, &deflated(&digits.as_bytes()[..limit + 1])),
            &too_large,
        ),
        (
            frame(COMPRESSED, &deflated(&vec![b' '; 10 << 20])),
            &too_large,
        ),
        // A ratio of more than 64, within the limit.
        (frame(COMPRESSED, &deflated(&vec![b' '; limit])), &too_large),
        (frame(COMPRESSED, &[6, 6, 6]), &broken),
        (frame(COMPRESSED, &deflated(b"\xff\xfe")), &invalid),
        (frame(PING | 0x40, b""), &protocol),
        (frame(TEXT | 0x20, b""), &protocol),
        (frame(TEXT | 0x10, b""), &protocol),
        ([frame(0x41, &whole), frame(0xc0, &[])].concat(), &protocol),
    ] {
        assert_eq!(&closed_by(&server, &bytes), expected);
    }
    assert_eq!(server.counters.closed_invalid_data.get(), 1);
    // At the limit the message is read: it is no JSON, which is told.
    let mut client = connect(&server, "");
    client.send(COMPRESSED, &deflated(&digits.as_bytes()[..limit]));
    assert_eq!(next(&mut client).0["type"], "error");
    client.send(PING, b"still there");
    assert_eq!(client.frame(), (PONG, b"still there".to_vec()));
}

/// The first frames may arrive together with the request.
#[test]
fn a_compressed_message_may_follow_the_request_at_once() {
    let server = start();
    let mut raw = Raw::connect(server.address());
    let ping = deflated(br#"{"type":"ping","id":7}"#);
    let mut bytes = offering("").into_bytes();
    bytes.extend(support::frame(COMPRESSED, &ping));
    raw.write(bytes);
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["type"], "connection_established");
    assert_eq!(raw.json()["id"], 7);
}

#[test]
fn the_history_keeps_its_bound_with_compressed_forms() {
    const LIMIT: u64 = 256 * 1024;
    let kept = |change: fn(&mut Settings)| {
        let server = TestServer::with(|settings| {
            settings.history_bytes = LIMIT;
            change(settings);
        });
        for number in 0..1000 {
            server.send("a", &text(number));
        }
        server.until_delivered();
        let bytes = server.stat("history_kept_bytes");
        assert!(bytes <= LIMIT, "{bytes}");
        let mut client = Client::connect(&server, "?topic=a&since=0");
        assert_eq!(client.next()["type"], "gap");
        let mut count = 0;
        while client.next()["type"] == "message" {
            count += 1;
        }
        count
    };
    let (plain, reserved) = (kept(|_| ()), kept(shared));
    // Room for the compressed forms is reserved: at most as much again.
    assert!(
        reserved < plain && reserved * 2 + 20 >= plain,
        "{reserved} of {plain}"
    );
}
