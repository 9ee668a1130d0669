//! Clients whose cursor is older than the history of their node: they get what the stream has, and then go on live.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use dev_websocket_core::SettingValue;
use support::client::Client;
use support::events::Events;
use support::proxy::{Mode, Proxy};
use support::{Engine, Node};

/// A node that keeps some messages in memory, and a stream with many more.
fn forgetful(url: &str) -> Node {
    Node::start_with(url, &[("history_bytes", SettingValue::Integer(20_000))])
}

/// The messages that make sure that no socket buffer holds what is read, and the bytes of each.
const MANY: u64 = 20_000;
const LARGE: usize = 2000;

/// Publishes so many large messages, and returns the epoch and the number before the first.
async fn fill(node: &Node) -> (String, u64) {
    let mut client = Client::connect(&node.uri(), "").await;
    let cursor = client.cursor();
    for number in 1..=MANY {
        node.publish_large("a", number, LARGE);
        if number % 1000 == 0 {
            client.take_until_number("a", number).await;
        }
    }
    cursor
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_history_has_forgotten_comes_from_the_stream_and_joins_what_is_live() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let node = forgetful(&engine.url());
    let mut first = Client::connect(&node.uri(), "").await;
    let (epoch, before) = first.cursor();
    (1..=5000).for_each(|number| node.publish("a", number));
    first.take_messages(5000).await;
    assert!(node.stat("history_kept_bytes") <= 20_000);
    // Publications go on while four clients read, over both kinds of connections, from different places.
    let (mut early, mut late, mut events) = (
        Client::resume(&node.uri(), &epoch, before).await,
        Client::resume(&node.uri(), &epoch, before + 2500).await,
        Events::resume(&node.uri(), &format!("{epoch}:{before}")).await,
    );
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| (5001..=10_000).for_each(|number| node.publish("a", number)));
        });
    });
    early.take_messages(10_000).await;
    assert_eq!(early.numbers("a"), (1..=10_000).collect::<Vec<_>>());
    late.take_messages(7500).await;
    assert_eq!(late.numbers("a"), (2501..=10_000).collect::<Vec<_>>());
    events.take_until(10_000).await;
    assert_eq!(events.numbers, (1..=10_000).collect::<Vec<_>>());
    // The browser sends the id of the last event.
    let last = events
        .numbers
        .iter()
        .position(|number| *number == 3000)
        .unwrap();
    let mut again = Events::resume(&node.uri(), &events.ids[last].clone()).await;
    again.take_until(10_000).await;
    assert_eq!(again.numbers, (3001..=10_000).collect::<Vec<_>>());
    assert_eq!(early.gaps().len() + late.gaps().len(), 0);
    assert_eq!(node.counters.panics.get(), 0);
    assert!(node.counters.engine_records_read.get() > 7000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_chooses_from_the_stream_as_from_everything() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let node = forgetful(&engine.url());
    let first = Client::connect(&node.uri(), "").await;
    let (epoch, before) = first.cursor();
    for number in 1..=3000 {
        node.publish(["a", "b", "room:1"][number as usize % 3], number);
    }
    let choice = format!(
        "?match=^room:&template=%7B%22n%22:2999%7D&template=%7B%22n%22:5%7D&since={epoch}:{before}"
    );
    let mut client = Client::choose(&node.uri(), &choice).await;
    client.take_until("live").await;
    let numbers: Vec<_> = client.numbers("room:1");
    assert_eq!(numbers, [5, 2999]);
    // A subscription that comes later reads the stream as well.
    let mut client = Client::choose(&node.uri(), "?topic=a").await;
    let subscribe = format!(
        r#"{{"type":"subscribe","id":1,"topics":["b"],"since":{}}}"#,
        before + 1500
    );
    client.send(&subscribe).await;
    client.take_until("live").await;
    let expected: Vec<u64> = (1501..=3000).filter(|number| number % 3 == 1).collect();
    assert_eq!(client.numbers("b"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_away_in_the_middle_is_told_and_costs_nothing() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let proxy = Proxy::start(engine.port).await;
    let node = forgetful(&proxy.url);
    let (epoch, before) = fill(&node).await;
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    client.take_messages(100).await;
    for mode in [Mode::StallIncoming, Mode::Cut] {
        proxy.set(mode);
        client.take_until("stale").await;
        assert!(
            (client.messages.len() as u64) < MANY,
            "the stream was read to its end"
        );
        proxy.set(Mode::Pass);
        node.until_present(true).await;
        let count = client.messages.len() + 100;
        client.take_messages(count).await;
    }
    engine.kill();
    engine.start_again();
    client.take_messages(MANY as usize).await;
    client.take_until("live").await;
    assert_eq!(client.numbers("a"), (1..=MANY).collect::<Vec<_>>());
    assert!(client.gaps().is_empty());
    assert_eq!(node.stat("engine_reads"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_below_a_reader_is_a_gap_with_its_number() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let node = forgetful(&engine.url());
    let (epoch, before) = fill(&node).await;
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    client.take_messages(100).await;
    let kept = before + MANY - 500;
    let stream = engine
        .client()
        .await
        .get_stream("dev_websocket")
        .await
        .unwrap();
    stream.purge().sequence(kept).await.unwrap();
    client.take_until_number("a", MANY).await;
    client.take_until("live").await;
    let gaps = client.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (&gaps[0]["reason"], &gaps[0]["next"]),
        (&"expired".into(), &kept.into())
    );
    let dropped = gaps[0]["dropped"].as_u64().unwrap();
    assert_eq!(client.messages.len() as u64 + dropped, MANY);
    // Nothing is left in the stream: the gap goes to where the history begins.
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    stream.purge().await.unwrap();
    node.publish_large("a", MANY + 1, LARGE);
    client.take_until_number("a", MANY + 1).await;
    let got = client.messages.len() as u64;
    let gaps = client.gaps();
    let dropped = gaps.iter().map(|gap| gap["dropped"].as_u64().unwrap());
    assert_eq!(got + dropped.sum::<u64>(), MANY + 1);
    // The reader may have had some of what the first purge had left.
    assert!(matches!(gaps.len(), 1 | 2), "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slower_than_the_retention_is_told_what_it_misses() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let mut config = support::stream_config();
    config.max_messages = 5000;
    engine.client().await.create_stream(config).await.unwrap();
    let node = forgetful(&engine.url());
    let mut first = Client::connect(&node.uri(), "").await;
    let (epoch, before) = first.cursor();
    (1..=5000).for_each(|number| node.publish_large("a", number, LARGE));
    first.take_messages(5000).await;
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    client.take_messages(50).await;
    for round in 1..=3 {
        let begin = 5000 * round + 1;
        (begin..begin + 5000).for_each(|number| node.publish_large("a", number, LARGE));
        first.take_until_number("a", begin + 4999).await;
        let count = client.messages.len() + 50;
        client.take_messages(count).await;
    }
    client.take_until_number("a", 20_000).await;
    client.take_until("live").await;
    let dropped: u64 = client
        .gaps()
        .iter()
        .map(|gap| gap["dropped"].as_u64().unwrap())
        .sum();
    assert!(dropped > 0 && client.gaps().iter().all(|gap| gap["reason"] == "expired"));
    assert_eq!(client.messages.len() as u64 + dropped, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_larger_than_a_chunk_come_as_well() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let node = forgetful(&engine.url());
    let mut first = Client::connect(&node.uri(), "").await;
    let (epoch, before) = first.cursor();
    for (number, bytes) in [(1, 900_000), (2, 10), (3, 300_000), (4, 900_000), (5, 10)] {
        node.publish_large("a", number, bytes);
    }
    (6..=300).for_each(|number| node.publish("a", number));
    first.take_messages(300).await;
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    client.take_messages(300).await;
    assert_eq!(client.messages, first.messages);
    assert!(client.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_not_read_for_any_more() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let node = forgetful(&engine.url());
    let (epoch, before) = fill(&node).await;
    let mut client = Client::resume(&node.uri(), &epoch, before).await;
    client.take_messages(10).await;
    assert_eq!(node.stat("engine_reads"), 1);
    drop(client);
    while node.stat("engine_reads") > 0 {
        tokio::task::yield_now().await;
    }
    assert!(node.counters.engine_records_read.get() < MANY);
}
