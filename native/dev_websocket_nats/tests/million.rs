//! A million publications while the engine is killed and clients move between nodes.
//!
//! It takes minutes: `cargo test --release --package dev_websocket_nats --test million -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the figures of a test"
)]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::client::Client;
use support::{Engine, Node};
use tokio::sync::Barrier;

const NODES: usize = 3;
const EACH: u64 = 333_334;

/// The publications in flight of one publisher, so that its queue never overflows.
const AHEAD: u64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_million_publications_are_one_sequence_for_clients_that_move() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let nodes = [0; NODES].map(|_| Node::start(&engine.url()));
    let uris: Vec<String> = nodes.iter().map(Node::uri).collect();
    // Nobody publishes before everybody is there.
    let all_there = Arc::new(Barrier::new(2 * NODES + 1));
    let ways = (0..NODES).map(|first| {
        (0..NODES)
            .map(|step| uris[(first + step) % NODES].clone())
            .collect()
    });
    let ways: Vec<Vec<String>> = ways
        .chain(uris.iter().map(|uri| vec![uri.clone()]))
        .collect();
    let readers: Vec<_> = ways
        .into_iter()
        .map(|way| tokio::spawn(read_moving(way, all_there.clone())))
        .collect();
    all_there.wait().await;
    let start = Instant::now();
    let feeds = thread::spawn(move || {
        thread::scope(|scope| {
            for (node, topic) in nodes.iter().zip(["a", "b", "c"]) {
                scope.spawn(move || feed(node, topic));
            }
            for _ in 0..5 {
                thread::sleep(Duration::from_secs(4));
                engine.kill();
                engine.start_again();
            }
        });
        (nodes, engine)
    });
    let mut all = Vec::new();
    for reader in readers {
        all.push(reader.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    let (sequence, _) = &all[0];
    for (other, moves) in &all {
        assert!(other == sequence, "two clients have another sequence");
        println!("{} publications, {moves} moves", other.len());
    }
    for topic in ["a", "b", "c"] {
        let numbers = sequence
            .iter()
            .filter(|(of, _)| of == topic)
            .map(|(_, number)| *number);
        assert!(
            numbers.eq(1..=EACH),
            "messages of {topic} are missing or doubled"
        );
    }
    println!(
        "{:.0} publications a second",
        sequence.len() as f64 / seconds
    );
    drop(feeds.join());
}

fn feed(node: &Node, topic: &str) {
    for number in 1..=EACH {
        node.publish(topic, number);
        while number % 1000 == 0 && node.stat("engine_queued_bytes") > AHEAD * 300 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads everything, from the next node after every so many messages.
async fn read_moving(uris: Vec<String>, all_there: Arc<Barrier>) -> (Vec<(String, u64)>, usize) {
    const STAY: usize = 50_000;
    let mut place = 0;
    let mut client = Client::connect(&uris[0], "").await;
    all_there.wait().await;
    let mut got = Vec::new();
    let total = NODES * EACH as usize;
    loop {
        let want = if uris.len() > 1 {
            STAY.min(total - got.len())
        } else {
            total
        };
        client.take_messages(want).await;
        assert!(client.gaps().is_empty(), "{:?}", client.gaps());
        let messages = client.messages.iter().map(|(_, _, data)| {
            (
                data["topic"].as_str().unwrap().to_owned(),
                data["n"].as_u64().unwrap(),
            )
        });
        got.extend(messages);
        if got.len() >= total {
            return (got, place);
        }
        place += 1;
        let (epoch, seq) = client.cursor();
        client = Client::resume(&uris[place % uris.len()], &epoch, seq).await;
    }
}
