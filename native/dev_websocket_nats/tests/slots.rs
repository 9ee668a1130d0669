//! Results of processes that several nodes compute: each event comes once, whatever waits where for how long.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{Event, Position, SlotRejected};
use support::client::Client;
use support::proxy::{Mode, Proxy};
use support::{Engine, Node};

fn event() -> Event<'static> {
    Event {
        message: Some(Value::Map(vec![(
            "topic".into(),
            Value::Text("result".into()),
        )])),
        origin: Provenance::default(),
    }
}

/// Publishes slots with two events each, as a node does that computes them.
fn publish(node: &Node, process: &str, slots: std::ops::Range<u64>) {
    for slot in slots {
        let start = Position { slot, part: 0 };
        let events = vec![event(), event()];
        let published = node.server.publish_part(process, start, events, true);
        assert!(
            matches!(published, Ok(()) | Err(SlotRejected::Repeated)),
            "{published:?}"
        );
    }
}

/// Checks that a client has got the slots of a process, with two events each.
fn check(client: &Client, slots: u64) {
    let got: Vec<_> = client
        .slots
        .iter()
        .map(|slot| slot.as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (0..slots).flat_map(|slot| [slot, slot]).collect();
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_two_nodes_compute_are_published_once_and_in_order() {
    let Some(engine) = Engine::start() else {
        return;
    };
    const SLOTS: u64 = 200;
    let process = "p".repeat(43);
    let nodes = [0; 2].map(|_| Node::start(&engine.url()));
    let mut clients = Vec::new();
    for node in &nodes {
        node.marks.set_mark(&process, 0);
        clients.push(Client::connect(&node.uri(), "").await);
    }
    std::thread::scope(|scope| {
        for node in &nodes {
            let process = &process;
            scope.spawn(move || publish(node, process, 0..SLOTS));
        }
    });
    nodes[0].publish("end", 1);
    for client in &mut clients {
        client.take_until_number("end", 1).await;
        assert_eq!(client.messages.len() as u64, 2 * SLOTS + 1);
        check(client, SLOTS);
    }
    assert_eq!(nodes[1].marks.mark(&process).unwrap().next().slot, SLOTS);
}

/// Makes a stream that recognizes records for a short time only, and another one that shows how long that is.
async fn short_memory(context: &Context) {
    let mut config = support::stream_config();
    config.duplicate_window = Duration::from_millis(100);
    context.create_stream(config.clone()).await.unwrap();
    config.name = "probe".into();
    config.subjects = vec!["probe".into()];
    context.create_stream(config).await.unwrap();
}

/// Waits until the stream has forgotten the names of all records that it has: the other one, with the same memory, has
/// forgotten a newer one, three times.
async fn until_forgotten(context: &Context) {
    for _ in 0..3 {
        let mut is_known = true;
        while is_known {
            let probe = PublishMessage::build().message_id("probe");
            let sent = context.send_publish("probe", probe).await.unwrap();
            is_known = sent.await.unwrap().duplicate;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_wait_on_two_nodes_longer_than_the_window_come_once() {
    let Some(engine) = Engine::start() else {
        return;
    };
    const SLOTS: u64 = 50;
    let context = engine.client().await;
    short_memory(&context).await;
    let process = "p".repeat(43);
    let proxies = [
        Proxy::start(engine.port).await,
        Proxy::start(engine.port).await,
    ];
    let nodes = [Node::start(&proxies[0].url), Node::start(&proxies[1].url)];
    let mut clients = Vec::new();
    for node in &nodes {
        node.marks.set_mark(&process, 0);
        clients.push(Client::connect(&node.uri(), "").await);
    }
    for (node, proxy) in nodes.iter().zip(&proxies) {
        proxy.set(Mode::Cut);
        node.until_present(false).await;
    }
    // Both have computed the same slots, and wait to send them behind other messages.
    for (node, topic) in nodes.iter().zip(["first", "second"]) {
        node.publish(topic, 1);
        publish(node, &process, 0..SLOTS);
        node.publish(topic, 2);
    }
    for (node, proxy) in nodes.iter().zip(&proxies) {
        proxy.set(Mode::Pass);
        node.until_present(true).await;
        while node.stat("engine_queued_bytes") > 0 {
            tokio::task::yield_now().await;
        }
        until_forgotten(&context).await;
    }
    for client in &mut clients {
        client.take_until_number("second", 2).await;
        check(client, SLOTS);
        assert!(client.gaps().is_empty());
    }
    // The stream itself has them once as well, so that nobody can see them twice later.
    let mut stream = context.get_stream("dev_websocket").await.unwrap();
    let messages = stream.info().await.unwrap().state.messages;
    assert_eq!(messages, 2 * SLOTS + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_comes_late_is_shown_to_nobody() {
    let Some(engine) = Engine::start() else {
        return;
    };
    const SLOTS: u64 = 20;
    let process = "p".repeat(43);
    let small = [(
        "history_bytes",
        dev_websocket_core::SettingValue::Integer(2000),
    )];
    let nodes = [
        Node::start_with(&engine.url(), &small),
        Node::start(&engine.url()),
    ];
    let mut clients = Vec::new();
    for node in &nodes {
        node.marks.set_mark(&process, 0);
        clients.push(Client::choose(&node.uri(), "?topic=*").await);
    }
    let cursor = clients[0].cursor();
    publish(&nodes[0], &process, 0..SLOTS);
    nodes[0].publish("a", 1);
    clients[0].take_until_number("a", 1).await;
    // Something on the way has kept copies of all events for a very long time, and brings them in another order.
    let context = engine.client().await;
    let stream = context.get_stream("dev_websocket").await.unwrap();
    for number in (1..=2 * SLOTS).rev() {
        let record = stream.get_raw_message(cursor.1 + number).await.unwrap();
        let sent = context
            .publish(record.subject, record.payload)
            .await
            .unwrap();
        assert!(!sent.await.unwrap().duplicate);
    }
    (2..=200).for_each(|number| nodes[1].publish("a", number));
    // A client that reads the stream from its beginning gets no copy either.
    let since = format!("?topic=*&since={}:{}", cursor.0, cursor.1);
    for node in &nodes {
        let mut client = Client::choose(&node.uri(), &since).await;
        client.take_until_number("a", 200).await;
        clients.push(client);
    }
    for client in &mut clients {
        if client.numbers("a").last() != Some(&200) {
            client.take_until_number("a", 200).await;
        }
        check(client, SLOTS);
        assert_eq!(client.numbers("a"), (1..=200).collect::<Vec<_>>());
        assert!(client.gaps().is_empty());
    }
    assert!(nodes[0].counters.engine_records_read.get() > 0);
    assert_eq!(nodes[1].counters.dropped_repeated.get(), 2 * SLOTS);
}
