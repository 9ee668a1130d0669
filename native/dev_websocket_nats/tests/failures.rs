//! What breaks: the engine, the way to it, and the stream. Clients get one sequence with told gaps whatever happens.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dev_websocket_core::message::Value;
use dev_websocket_core::{Rejected, SettingValue};
use support::client::Client;
use support::proxy::{Mode, Proxy};
use support::{Engine, Node, copy};

/// Publishes numbers from 1 on while it lives.
struct Feed<'f> {
    is_on: &'f AtomicBool,
    published: &'f AtomicU64,
}

impl Feed<'_> {
    fn run(&self, node: &Node, topic: &str) {
        while self.is_on.load(Ordering::Relaxed) {
            let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
            node.publish(topic, number);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Feeds both nodes while `act` runs, and then checks that both clients have got everything once and in order.
async fn under_load<F: Future<Output = ()>>(nodes: [&Node; 2], clients: [&mut Client; 2], act: F) {
    let is_on = AtomicBool::new(true);
    let published = [const { AtomicU64::new(0) }; 2];
    let runtime = tokio::runtime::Handle::current();
    thread::scope(|scope| {
        for ((node, published), topic) in nodes.iter().zip(&published).zip(["a", "b"]) {
            let feed = Feed {
                is_on: &is_on,
                published,
            };
            scope.spawn(move || feed.run(node, topic));
        }
        tokio::task::block_in_place(|| runtime.block_on(act));
        is_on.store(false, Ordering::Relaxed);
    });
    let published = published.map(AtomicU64::into_inner);
    let total = (published[0] + published[1]) as usize;
    let [first, second] = clients;
    for client in [&mut *first, &mut *second] {
        client.take_messages(total).await;
        for (topic, count) in ["a", "b"].into_iter().zip(published) {
            assert_eq!(
                client.numbers(topic),
                (1..=count).collect::<Vec<_>>(),
                "{topic}"
            );
        }
        assert_eq!(client.gaps(), [&serde_json::Value::Null; 0]);
    }
    assert_eq!(first.messages, second.messages);
}

async fn two_nodes(first: &str, second: &str) -> ([Node; 2], [Client; 2]) {
    let nodes = [Node::start(first), Node::start(second)];
    let clients = [
        Client::connect(&nodes[0].uri(), "").await,
        Client::connect(&nodes[1].uri(), "").await,
    ];
    (nodes, clients)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_again_and_again_costs_nothing() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let (nodes, mut clients) = two_nodes(&engine.url(), &engine.url()).await;
    let [first, second] = &mut clients;
    let mut watcher = Client::connect(&nodes[0].uri(), "").await;
    under_load([&nodes[0], &nodes[1]], [first, second], async {
        for round in 1..=4 {
            let count = watcher.messages.len() + 300 * round;
            watcher.take_messages(count).await;
            engine.kill();
            engine.start_again();
        }
        let count = watcher.messages.len() + 300;
        watcher.take_messages(count).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_cut_or_stalled_costs_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let (nodes, mut clients) = two_nodes(&proxy.url, &engine.url()).await;
    let [first, second] = &mut clients;
    let mut watcher = Client::connect(&nodes[0].uri(), "").await;
    under_load([&nodes[0], &nodes[1]], [first, second], async {
        for mode in [
            Mode::Cut,
            Mode::StallOutgoing,
            Mode::StallIncoming,
            Mode::Cut,
        ] {
            let count = watcher.messages.len() + 300;
            watcher.take_messages(count).await;
            proxy.set(mode);
            nodes[0].until_present(false).await;
            assert_eq!(nodes[1].stat("engine_present"), 1);
            proxy.set(Mode::Pass);
            watcher.take_until("live").await;
        }
    })
    .await;
    let kinds: Vec<_> = watcher.notices.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["stale", "live"].repeat(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_slow_in_one_direction_costs_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let (nodes, mut clients) = two_nodes(&proxy.url, &engine.url()).await;
    let [first, second] = &mut clients;
    let mut watcher = Client::connect(&nodes[0].uri(), "").await;
    under_load([&nodes[0], &nodes[1]], [first, second], async {
        for mode in [Mode::SlowOutgoing, Mode::SlowIncoming, Mode::Pass] {
            proxy.set(mode);
            let count = watcher.messages.len() + 300;
            watcher.take_messages(count).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_makes_nobody_wait() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let (nodes, mut clients) = two_nodes(&engine.url(), &engine.url()).await;
    let [first, second] = &mut clients;
    let mut watcher = Client::connect(&nodes[0].uri(), "").await;
    under_load([&nodes[0], &nodes[1]], [first, second], async {
        watcher.take_messages(300).await;
        engine.signal("STOP");
        // Both nodes publish on, whatever their connection says.
        nodes[0].until_present(false).await;
        // A client that comes now is told, also behind its replay.
        let mut late = Client::connect(&nodes[0].uri(), "").await;
        late.take_until("stale").await;
        let mut late = Client::resume(&nodes[0].uri(), &late.epoch, 1).await;
        late.take_until("live").await;
        late.take_until("stale").await;
        engine.signal("CONT");
        nodes[0].until_present(true).await;
        watcher.take_until("live").await;
    })
    .await;
    assert_eq!(watcher.notices[0]["type"], "stale");
    assert!(watcher.notices[0]["since"].as_u64().unwrap() > 1_600_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_beyond_the_queue_are_told_as_lost_to_everybody() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let small = [("engine_bytes", SettingValue::Integer(65_536))];
    let nodes = [
        Node::start_with(&proxy.url, &small),
        Node::start(&engine.url()),
    ];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect(&node.uri(), "").await);
    }
    proxy.set(Mode::Cut);
    nodes[0].until_present(false).await;
    let mut lost = 0;
    for number in 1..=1000_i64 {
        let message = Value::Map(vec![
            ("topic".into(), Value::Text("a".into())),
            ("n".into(), Value::Integer(number)),
        ]);
        match nodes[0].server.publish(&message) {
            Ok(0) => {}
            Err(Rejected::Overload) => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0 && lost < 1000, "{lost}");
    proxy.set(Mode::Pass);
    nodes[0].until_present(true).await;
    for client in &mut clients {
        client.take_until("gap").await;
        assert_eq!(client.numbers("a"), (1..=1000 - lost).collect::<Vec<_>>());
        let gap = client.gaps()[0];
        assert_eq!(
            (&gap["reason"], gap["dropped"].as_u64()),
            (&"overload".into(), Some(lost))
        );
    }
    assert_eq!(clients[0].cursor(), clients[1].cursor());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_is_another_epoch() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let (nodes, mut clients) = two_nodes(&engine.url(), &engine.url()).await;
    (1..=10).for_each(|number| nodes[0].publish("a", number));
    for client in &mut clients {
        client.take_messages(10).await;
    }
    let before = clients[0].cursor();
    engine
        .client()
        .await
        .delete_stream("dev_websocket")
        .await
        .unwrap();
    nodes[0].publish("a", 11);
    for client in &mut clients {
        let gap = client.take_until("gap").await;
        assert_eq!(
            (&gap["reason"], gap["after"].as_u64()),
            (&"epoch".into(), Some(0))
        );
        client.take_until_number("a", 11).await;
        assert_ne!(client.epoch, before.0);
        assert_eq!(client.numbers("a"), (1..=11).collect::<Vec<_>>());
    }
    // An old cursor never means a new message.
    let mut old = Client::resume(&nodes[1].uri(), &before.0, before.1).await;
    let gap = old.take_until("gap").await;
    assert_eq!(
        (&gap["reason"], &gap["epoch"]),
        (&"epoch".into(), &clients[0].epoch.clone().into())
    );
    old.take_until_number("a", 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_mean_other_messages_are_another_epoch() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let (nodes, mut clients) = two_nodes(&proxy.url, &engine.url()).await;
    (1..=10).for_each(|number| nodes[0].publish("a", number));
    for client in &mut clients {
        client.take_messages(10).await;
    }
    engine.stop();
    let saved = engine.folder.path().join("saved");
    copy(&engine.store(), &saved);
    engine.start_again();
    (11..=20).for_each(|number| nodes[0].publish("a", number));
    for client in &mut clients {
        client.take_messages(20).await;
    }
    let epoch = clients[0].epoch.clone();
    // The engine loses its end, and one node returns only when others have published under the lost numbers.
    proxy.set(Mode::Cut);
    engine.kill();
    std::fs::remove_dir_all(engine.store()).unwrap();
    copy(&saved, &engine.store());
    engine.start_again();
    (1..=30).for_each(|number| nodes[1].publish("b", number));
    let gap = clients[1].take_until("gap").await;
    assert_eq!(gap["reason"], "epoch");
    clients[1].take_until_number("b", 30).await;
    proxy.set(Mode::Pass);
    let gap = clients[0].take_until("gap").await;
    assert_eq!(
        (&gap["reason"], &gap["epoch"]),
        (&"epoch".into(), &clients[1].epoch.clone().into())
    );
    clients[0].take_until_number("b", 30).await;
    assert_ne!(clients[0].epoch, epoch);
    assert_eq!(clients[0].cursor(), clients[1].cursor());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_before_a_node_reads_them_are_a_gap() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let (nodes, mut clients) = two_nodes(&proxy.url, &engine.url()).await;
    nodes[1].publish("a", 1);
    for client in &mut clients {
        client.take_messages(1).await;
    }
    proxy.set(Mode::Cut);
    nodes[0].until_present(false).await;
    (2..=30).for_each(|number| nodes[1].publish("a", number));
    clients[1].take_messages(30).await;
    let end = clients[1].seq;
    let stream = engine
        .client()
        .await
        .get_stream("dev_websocket")
        .await
        .unwrap();
    stream.purge().sequence(end - 4).await.unwrap();
    proxy.set(Mode::Pass);
    clients[0].take_until_number("a", 30).await;
    assert_eq!(clients[0].numbers("a"), [1, 26, 27, 28, 29, 30]);
    let gap = clients[0].gaps()[0];
    assert_eq!(
        (&gap["reason"], gap["dropped"].as_u64()),
        (&"expired".into(), Some(24))
    );
    assert_eq!(nodes[0].counters.engine_missing.get(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_stream_refuses_clients_and_says_why() {
    let mut settings = vec![("engine_timeout", SettingValue::Integer(500))];
    let url = format!("nats://127.0.0.1:{}", support::free_port());
    let node = Node::start_with(&url, &settings);
    let refused = tokio_tungstenite::connect_async(node.uri())
        .await
        .unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else {
        panic!("{refused}")
    };
    assert_eq!(answer.status(), 503);
    let body = String::from_utf8(answer.body().clone().unwrap()).unwrap();
    assert!(body.contains("engine_away"), "{body}");
    // A caller does not wait, and what it publishes is kept.
    node.publish("a", 1);
    assert_eq!(node.stat("engine_present"), 0);
    assert_eq!(node.server.describe().json["engine"]["state"], "away");
    assert!(node.stat("engine_queued_bytes") > 0);
    settings.push(("engine_credentials", SettingValue::Text("/nowhere".into())));
    let node = Node::start_with(&url, &settings);
    assert_eq!(node.stat("engine_present"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_node_that_is_ahead_waits_until_this_one_has_caught_up() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let (nodes, mut clients) = two_nodes(&proxy.url, &engine.url()).await;
    nodes[1].publish("a", 1);
    clients[0].take_messages(1).await;
    proxy.set(Mode::Cut);
    nodes[0].until_present(false).await;
    (2..=20).for_each(|number| nodes[1].publish("a", number));
    clients[1].take_messages(20).await;
    let (epoch, seq) = clients[1].cursor();
    let mut moved = Client::resume(&nodes[0].uri(), &epoch, seq).await;
    moved.take_until("stale").await;
    proxy.set(Mode::Pass);
    nodes[0].until_present(true).await;
    nodes[1].publish("a", 21);
    moved.take_until_number("a", 21).await;
    assert_eq!(moved.numbers("a"), [21]);
    assert!(moved.gaps().is_empty());
    // A number that no node can have is refused.
    let far = format!("{}?topic=a&since={epoch}:{}", nodes[0].uri(), 1_u64 << 40);
    let refused = tokio_tungstenite::connect_async(far).await.unwrap_err();
    assert!(refused.to_string().contains("400"), "{refused}");
}
