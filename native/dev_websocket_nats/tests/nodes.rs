//! Several nodes on one stream: one order, one set of numbers, and cursors that are good on all.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use dev_websocket_core::SettingValue;
use support::client::Client;
use support::{Engine, Node};

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_node_get_the_same_under_the_same_numbers() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = [0; 3].map(|_| Node::start(&engine.url()));
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect(&node.uri(), "").await);
    }
    const EACH: u64 = 1000;
    std::thread::scope(|scope| {
        for (node, topic) in nodes.iter().zip(["a", "b", "c"]) {
            scope.spawn(move || (1..=EACH).for_each(|number| node.publish(topic, number)));
        }
    });
    for client in &mut clients {
        client.take_messages(3 * EACH as usize).await;
        for topic in ["a", "b", "c"] {
            assert_eq!(
                client.numbers(topic),
                (1..=EACH).collect::<Vec<_>>(),
                "order of {topic}"
            );
        }
        assert!(client.gaps().is_empty());
    }
    assert_eq!(clients[0].messages, clients[1].messages);
    assert_eq!(clients[0].messages, clients[2].messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_one_node_is_good_on_another_and_after_a_restart() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let first = Node::start(&engine.url());
    let mut client = Client::connect(&first.uri(), "").await;
    for number in 1..=100 {
        first.publish("a", number);
    }
    client.take_messages(60).await;
    let (epoch, seq) = client.cursor();
    drop(client);
    // What a node had taken is sent before it stops.
    first.publish("a", 101);
    drop(first);
    let second = Node::start(&engine.url());
    second.publish("a", 102);
    let mut client = Client::resume(&second.uri(), &epoch, seq).await;
    client.take_until_number("a", 102).await;
    assert_eq!(client.numbers("a"), (61..=102).collect::<Vec<_>>());
    assert!(client.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_older_than_what_is_kept_is_told_what_is_missing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let first = Node::start(&engine.url());
    let mut client = Client::connect(&first.uri(), "").await;
    (1..=50).for_each(|number| first.publish("a", number));
    client.take_messages(50).await;
    let (epoch, _) = client.cursor();
    engine
        .client()
        .await
        .get_stream("dev_websocket")
        .await
        .unwrap()
        .purge()
        .sequence(41)
        .await
        .unwrap();
    let second = Node::start(&engine.url());
    let mut client = Client::resume(&second.uri(), &epoch, 10).await;
    client.take_until_number("a", 50).await;
    assert_eq!(client.numbers("a"), (41..=50).collect::<Vec<_>>());
    let gaps = client.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (&gaps[0]["reason"], &gaps[0]["after"], &gaps[0]["next"]),
        (&"expired".into(), &10.into(), &41.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_engine_never_takes_is_told_as_lost() {
    let Some(engine) = Engine::start_with(&["max_payload: 4096"]) else {
        return;
    };
    let node = Node::start(&engine.url());
    let mut client = Client::connect(&node.uri(), "").await;
    node.publish("a", 1);
    let large = dev_websocket_core::message::Value::Text("x".repeat(5000).into());
    assert_eq!(node.server.publish(&large), Ok(0));
    node.publish("a", 2);
    node.publish("a", 3);
    client.take_until("gap").await;
    client.take_messages(3).await;
    assert_eq!(client.numbers("a"), [1, 2, 3]);
    let gap = client.gaps()[0].clone();
    assert_eq!(
        (&gap["reason"], &gap["dropped"]),
        (&"overload".into(), &1.into())
    );
    assert_eq!(node.counters.engine_refused.get(), 1);
    // The operator could see that before.
    let engine = node.server.describe().json["engine"].clone();
    assert_eq!(
        engine,
        serde_json::json!({"state": "present", "max_payload": 4096})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_takes_every_message_is_not_complained_about() {
    // At the limit, and one byte below.
    for (max_payload, told) in [
        (1_048_576 + 65_536, None),
        (1_048_576 + 65_535, Some(1_114_111)),
    ] {
        let line = format!("max_payload: {max_payload}");
        let Some(engine) = Engine::start_with(&[&line]) else {
            return;
        };
        let node = Node::start(&engine.url());
        node.until_present(true).await;
        let engine = node.server.describe().json["engine"].clone();
        assert_eq!(
            engine
                .get("max_payload")
                .and_then(serde_json::Value::as_u64),
            told
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_history_a_node_begins_at_the_end() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let first = Node::start(&engine.url());
    let mut client = Client::connect(&first.uri(), "").await;
    (1..=20).for_each(|number| first.publish("a", number));
    client.take_messages(20).await;
    let second = Node::start_with(
        &engine.url(),
        &[("history_bytes", SettingValue::Integer(0))],
    );
    let mut late = Client::connect(&second.uri(), "").await;
    assert_eq!(late.cursor(), client.cursor());
    first.publish("a", 21);
    late.take_messages(1).await;
    assert_eq!(late.numbers("a"), [21]);
}

/// Returns the subjects of a line in the permissions of docs/CLUSTER.md, and of the lines that continue it.
fn documented(direction: &str) -> Vec<&'static str> {
    const DOCUMENT: &str = include_str!("../../../docs/CLUSTER.md");
    let mut lines = DOCUMENT.lines().map(str::trim_start);
    let first = lines.find_map(|line| line.strip_prefix(direction)).unwrap();
    let more = lines.take_while(|line| line.starts_with('$'));
    std::iter::once(first)
        .chain(more)
        .flat_map(str::split_whitespace)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_needs_the_documented_permissions_and_no_others() {
    let (publish, subscribe) = (documented("publish:"), documented("subscribe:"));
    let users = format!(
        "accounts {{ A {{ jetstream: enabled, users: [{{ user: admin, password: admin }}, {{ user: node, password: node, \
         permissions: {{ publish: {publish:?}, subscribe: {subscribe:?} }} }}] }} }}"
    );
    let Some(engine) = Engine::start_with(&[&users, "no_auth_user: node"]) else {
        return;
    };
    let admin = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
    let admin = async_nats::jetstream::new(admin.connect(engine.url()).await.unwrap());
    let config = support::stream_config();
    admin.create_stream(config).await.unwrap();
    admin.create_stream(support::bucket_config()).await.unwrap();
    let strict = [("engine_create", SettingValue::Boolean(false))];
    let node = Node::start_with(&engine.url(), &strict);
    let mut client = Client::connect(&node.uri(), "").await;
    node.publish("a", 1);
    client.take_messages(1).await;
    // Made anew, and shorter than before: the node reads the stream and raises the generation.
    let stream = admin.get_stream("dev_websocket").await.unwrap();
    let info = stream.cached_info().clone();
    assert_eq!(info.state.last_sequence, 1);
    admin.delete_stream("dev_websocket").await.unwrap();
    admin.create_stream(info.config).await.unwrap();
    node.publish("a", 2);
    client.take_until_number("a", 2).await;
    assert_eq!(client.gaps().len(), 1);
}
