//! Connections that are reset at any byte: each ends alone, in every format.
//!
//! `RESETS=10000` resets that many connections in each format instead of a few hundred.
#![cfg(test)]

mod support;

use std::time::Duration;

use support::{Raw, TEXT, TestServer, frame, upgrade_request};

/// What a client of each format sends, from the first byte of its request on.
fn scripts() -> [(&'static str, Vec<u8>); 6] {
    let websocket = |query: &str, frames: &[u8]| {
        let mut script = upgrade_request(query).into_bytes();
        script.extend(frame(TEXT, frames));
        script
    };
    let events = |query: &str| {
        format!("GET /events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    };
    [
        (
            "json",
            websocket(
                "?topic=a",
                br#"{"type":"subscribe","topics":["b"],"since":0}"#,
            ),
        ),
        (
            "json with a replay",
            websocket("?topic=a&last=9", br#"{"type":"ping"}"#),
        ),
        ("raw", websocket("?topic=a&format=raw", b"for nobody")),
        (
            "raw with a replay",
            websocket("?topic=a&format=raw&last=9", b"for nobody"),
        ),
        ("events", events("?topic=a")),
        ("events with a replay", events("?topic=a&since=0")),
    ]
}

/// Numbers that look random and are the same in each run.
fn random(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    (*state >> 33) as usize
}

#[test]
fn resets_at_any_byte_end_no_other_connection_and_are_no_faults_in_every_format() {
    let resets: usize = std::env::var("RESETS").map_or(300, |count| count.parse().unwrap());
    let server = TestServer::with(|settings| {
        settings.shards = 2;
        // However long it takes, the bystanders hear of messages only.
        settings.ping_interval = Duration::from_millis(3_600_000);
    });
    let mut bystanders = Raw::crowd(&server, 4, "?topic=a");
    let mut state = 1;
    for (name, script) in scripts() {
        for round in 0..resets {
            let mut raw = Raw::connect(server.address());
            // Every other one right behind all of it, the others at some byte.
            let length = match round % 2 {
                0 => script.len(),
                _ => random(&mut state) % (script.len() + 1),
            };
            raw.write(&script[..length]);
            raw.reset();
            if round % 50 == 0 {
                let seq = server.send("a,b", name);
                for bystander in &mut bystanders {
                    assert_eq!(bystander.message(), (seq, name.to_owned()), "{name}");
                }
            }
        }
    }
    server.until_stat("connections", 4);
    server.until_stat("handshakes", 0);
    assert_eq!(server.counters.panics.get(), 0);
    assert_eq!(server.counters.closed_fault.get(), 0);
}
