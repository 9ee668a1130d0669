//! Tests of slot replays whose clients read nothing, and of those that end while slots are published.
#![cfg(test)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use support::slot_reader::{ID, Reader, at, events, from_slot, publish};
use support::{Client, Raw, TestServer};

#[test]
fn a_client_that_reads_nothing_holds_one_step() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..3).for_each(|slot| publish(&server, slot));
    let mut raw = Raw::upgraded(&server, &from_slot(0));
    // Steps of 1 MB are handed over until the socket is full. Then none is due.
    let text = "x".repeat(1_000_000);
    let mut sent = 0;
    let mut position = at(0, 0);
    while server.stat("send_buffer_bytes") == 0 && sent < 100 {
        let Some(due) = server.replays.take_due(1).0.pop() else {
            if reader
                .told
                .recv_timeout(Duration::from_millis(300))
                .is_err()
            {
                break;
            }
            continue;
        };
        assert_eq!(due.next, position);
        server
            .replay_part(due.id, due.next, events(&[&text]), false)
            .unwrap();
        position.part += 1;
        sent += 1;
    }
    assert!((1..100).contains(&sent), "{sent}");
    assert!(server.replays.take_due(1).0.is_empty());
    // Each frame arrives once the client reads.
    let mut arrived = 0;
    while arrived < sent {
        let (_, payload) = raw.frame();
        arrived += usize::from(payload.len() > 1_000_000);
    }
    assert_eq!(reader.due(&server).next, position);
}

/// Ends the threads of a test, also when it fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Replays end while slots are published at full speed. `SEAMS` is the number of replays.
#[test]
fn each_slot_comes_once_at_every_seam() {
    let seams: u64 = std::env::var("SEAMS").map_or(20, |text| text.parse().unwrap());
    let server = TestServer::with(|settings| settings.shards = 2);
    let reader = Reader::new(&server);
    let is_over = AtomicBool::new(false);
    // The client's next slot: the publisher is at most so far ahead, so that a replay can catch up.
    let seen = AtomicU64::new(0);
    let lead = 20;
    let published = || server.slots.mark(ID).unwrap().next().slot;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut slot = 0;
            while !is_over.load(Ordering::Relaxed) {
                if slot < seen.load(Ordering::Relaxed) + lead {
                    publish(&server, slot);
                    slot += 1;
                } else {
                    thread::yield_now();
                }
            }
        });
        let (server, is_over) = (&server, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for due in server.replays.take_due(10).0 {
                    // The connection may have ended.
                    let _ = reader.step(server, due);
                }
                let _ = reader.told.recv_timeout(Duration::from_millis(20));
            }
        });
        let _over = Over(is_over);
        for seam in 0..seams {
            let start = published().saturating_sub(seam % 7);
            let mut client = Client::connect(server, &from_slot(start));
            let mut next = start;
            seen.store(next, Ordering::Relaxed);
            let mut after = None;
            while after.is_none_or(|left| left > 0) {
                let frame = client.next();
                match frame["type"].as_str() {
                    Some("live") => {
                        assert_eq!(frame["slot"], next);
                        after = Some(5);
                    }
                    Some("message") => {
                        assert_eq!(frame["slot"], next, "{frame}");
                        assert_eq!(frame["replayed"].is_null(), after.is_some());
                        if frame["data"]["data"] == "message" {
                            next += 1;
                            seen.store(next, Ordering::Relaxed);
                            after = after.map(|left| left - 1);
                        }
                    }
                    _ => panic!("{frame}"),
                }
            }
        }
    });
}
