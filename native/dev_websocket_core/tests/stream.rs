//! A stream whose engine the program provides: publications come back from it, and a panic of it ends nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dev_websocket_core::message::Value;
use dev_websocket_core::{Counters, Disconnect, Server, SettingValue, Stream, StreamEngine};
use support::{PATIENCE, settings};

/// A stream of one server, in memory.
struct Loop {
    last: Arc<AtomicU64>,
    /// Runs that end with a panic after their first record.
    panics: u64,
}

impl StreamEngine for Loop {
    fn run(&mut self, stream: &Stream) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        stream.begin("loop", 1);
        stream.send_again();
        stream.set_present();
        runtime.block_on(async {
            while !stream.is_stopping() {
                while let Some(record) = stream.next_outgoing(8) {
                    stream.room().await;
                    let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                    stream.receive(number, &record.bytes).unwrap();
                    stream.settle(record.number);
                    if self.panics > 0 {
                        self.panics -= 1;
                        panic!("as the test wants");
                    }
                }
                tokio::select! {
                    () = stream.outgoing() => {}
                    () = stream.stopping() => {}
                }
            }
        });
    }
}

fn start(panics: u64) -> (Server, Arc<Counters>) {
    let mut chosen = settings();
    let url = SettingValue::Text("nats://127.0.0.1:4222".into());
    chosen.set("engine", url).unwrap();
    let counters = Arc::new(Counters::default());
    let last = Arc::default();
    let server = Server::builder(chosen)
        .counters(counters.clone())
        .engine(Box::new(Loop { last, panics }))
        .start()
        .unwrap();
    (server, counters)
}

fn stat(server: &Server, name: &str) -> u64 {
    let stats = server.stats();
    stats.iter().find(|(stat, _)| *stat == name).unwrap().1
}

fn publish_until(server: &Server, count: u64) {
    let message = Value::Text("hi".into());
    for _ in 0..count {
        assert_eq!(server.publish(&message), Ok(0));
    }
    let start = std::time::Instant::now();
    while stat(server, "seq") < count {
        assert!(start.elapsed() < PATIENCE, "seq is {}", stat(server, "seq"));
        std::thread::yield_now();
    }
}

#[test]
fn what_a_program_carries_comes_back_under_its_numbers() {
    let (server, counters) = start(0);
    // A description from before the stream is there is not used again.
    let _ = server.describe();
    publish_until(&server, 100);
    assert_eq!(counters.publications.get(), 100);
    assert_eq!(stat(&server, "engine_present"), 1);
    assert_eq!(stat(&server, "engine_queued_bytes"), 0);
    assert_eq!(server.describe().json["epoch"], "loop");
    assert_eq!(server.describe().json["engine"]["state"], "present");
    server.shutdown(Disconnect::Stopping, PATIENCE);
}

#[test]
fn an_engine_that_panics_runs_again_and_loses_nothing() {
    let (server, counters) = start(2);
    publish_until(&server, 100);
    assert_eq!(counters.panics.get(), 2);
    assert_eq!(counters.publications.get(), 100);
    assert_eq!(stat(&server, "engine_present"), 1);
}
