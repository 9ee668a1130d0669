//! What a publisher can rely on: everything arrives, whole, once and in order, and what cannot be sent is counted.
#![cfg(test)]

mod support;

use std::thread;

use dev_websocket_core::message::Value;
use dev_websocket_core::{Rejected, Server};
use serde_json::json;

use support::{Client, Raw, TestServer, message, seqs, until};

/// A message of which the JSON has exactly that many bytes.
fn message_of(bytes: usize, text: &mut String) -> Value<'_> {
    *text = "x".repeat(bytes - r#"{"data":""}"#.len());
    Value::Map(vec![("data".into(), Value::Text(text.as_str().into()))])
}

#[test]
fn everything_arrives_once_and_in_order_from_many_publishers() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 25_000;
    let server = TestServer::with(|settings| {
        settings.shards = 2;
        settings.history_bytes = 1 << 20;
        // No limit may decide what arrives here.
        settings.publish_queue_bytes = 1 << 30;
        settings.send_buffer_bytes = 1 << 30;
    });
    // Each subscriber, and the publishers that it hears.
    let subscribers = [
        ("?topic=*", 0..PUBLISHERS),
        ("?topic=all", 0..PUBLISHERS),
        ("?topic=p1,all,p3", 0..PUBLISHERS),
        ("?topic=p2", 2..3),
    ];
    let mut raws: Vec<_> = subscribers
        .iter()
        .map(|(query, heard)| {
            let mut raw = Raw::upgraded(&server, query);
            assert_eq!(raw.json()["type"], "connection_established");
            (raw, heard.clone())
        })
        .collect();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let server = &server;
            scope.spawn(move || {
                let topics = format!("all,p{publisher}");
                let mut last = 0;
                for n in 0..EACH {
                    let seq = server.send(&topics, &format!("{publisher} {n}"));
                    assert!(seq > last);
                    last = seq;
                }
            });
        }
        for (raw, heard) in &mut raws {
            scope.spawn(move || {
                let mut next = [0; PUBLISHERS];
                let mut last = 0;
                for _ in 0..heard.len() * EACH {
                    let (seq, data) = raw.message();
                    assert!(seq > last, "{seq} after {last}");
                    last = seq;
                    let (publisher, n) = data.split_once(' ').unwrap();
                    let publisher: usize = publisher.parse().unwrap();
                    assert!(heard.contains(&publisher));
                    assert_eq!(n.parse(), Ok(next[publisher]));
                    next[publisher] += 1;
                }
                assert!(next.iter().all(|count| [0, EACH].contains(count)));
            });
        }
    });
    let total = (PUBLISHERS * EACH) as u64;
    assert_eq!(server.counters.publications.get(), total);
    assert_eq!(server.stat("seq"), total);
    server.until_stat("deliveries", 3 * total + EACH as u64);
    server.until_delivered();
    assert_eq!(server.counters.dropped_slow.get(), 0);
    assert!(server.stat("history_kept_bytes") <= 1 << 20);
}

#[test]
fn a_message_without_topics_reaches_only_those_who_want_everything() {
    let server = TestServer::start();
    let mut everything = Client::connect(&server, "?topic=*");
    let mut one = Client::connect(&server, "?topic=a");
    let messages = [
        Value::Text("no map".into()),
        Value::Null,
        Value::List(vec![Value::Integer(1)]),
        message("", "empty topic"),
    ];
    for message in &messages {
        server.publish(message).unwrap();
    }
    let last = server.send("a", "");
    let frames = everything.up_to(last);
    let data: Vec<_> = frames.iter().map(|frame| frame["data"].clone()).collect();
    assert_eq!(data[..3], [json!("no map"), json!(null), json!([1])]);
    for frame in &frames[..4] {
        assert_eq!(
            (&frame["topic"], &frame["topics"]),
            (&json!(null), &json!([]))
        );
    }
    assert_eq!(seqs(&one.up_to(last)), [last]);
    assert_eq!(server.counters.publications.get(), 5);
    assert_eq!(server.counters.publications_without_topic.get(), 4);
}

#[test]
fn tags_make_topics_that_can_be_subscribed_to() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=action:Transfer");
    let text = |text: &'static str| Value::Text(text.into());
    let tag = |name, value| {
        Value::Map(vec![
            ("name".into(), text(name)),
            ("value".into(), text(value)),
        ])
    };
    let top = Value::Map(vec![
        ("Action".into(), text("Transfer")),
        ("topic".into(), text("prices")),
        ("data".into(), text("x")),
    ]);
    let listed = Value::Map(vec![(
        "Tags".into(),
        Value::List(vec![tag("Action", "Transfer")]),
    )]);
    let reserved = Value::Map(vec![
        ("topic".into(), text("process:me")),
        ("action".into(), text("transfer")),
    ]);
    let sent = [&top, &listed, &reserved].map(|message| server.publish(message).unwrap());
    let frames = client.up_to(sent[2]);
    assert_eq!(seqs(&frames), sent[..2]);
    assert_eq!(frames[0]["topic"], "prices");
    assert_eq!(frames[0]["topics"], json!(["prices", "action:Transfer"]));
    assert_eq!(frames[1]["topic"], "action:Transfer");
    assert_eq!(server.counters.topics_reserved.get(), 1);
}

#[test]
fn info_lists_topics_with_subscribers_or_recent_publications() {
    let server = TestServer::with(|settings| {
        settings.max_known_topics = 4;
        settings.shards = 2;
    });
    assert_eq!(server.info().topics, Vec::<String>::new());
    let first = Client::connect(&server, "?topic=b,a,*");
    let mut second = Client::connect(&server, "?topic=b");
    server.until_topics(&["a", "b"]);
    server.send("published,b", "");
    server.until_topics(&["a", "b", "published"]);
    drop(first);
    server.until_topics(&["b", "published"]);
    second.request(&json!({"type": "unsubscribe", "topics": ["b"]}));
    second.request(&json!({"type": "subscribe", "topics": ["kept"]}));
    // `b` was published to, so it is still known.
    server.until_topics(&["b", "kept", "published"]);
    // What was published to the longest ago gives way, what has subscribers does not.
    for topic in ["kept", "x1", "x2", "x3", "x4", "x5"] {
        server.send(topic, "");
    }
    until("x1 to be forgotten", || {
        let topics = server.info().topics;
        topics.len() == 4 && topics[0] == "kept" && topics[1] == "x2"
    });
    drop(second);
    server.until_topics(&["x2", "x3", "x4", "x5"]);
    assert_eq!(server.stat("topics"), 4);
}

#[test]
fn a_message_may_be_as_large_as_the_limit() {
    const LIMIT: usize = 1 << 20;
    let server = TestServer::start();
    assert_eq!(server.settings().max_message_bytes, LIMIT as u64);
    let mut raw = Raw::upgraded(&server, "?topic=*&format=raw");
    raw.settle();
    let mut client = Client::connect(&server, "?topic=*");
    let mut text = String::new();
    let mut seq = 0;
    for bytes in [LIMIT - 1, LIMIT] {
        seq += 1;
        assert_eq!(server.publish(&message_of(bytes, &mut text)), Ok(seq));
        assert_eq!(raw.text(), format!(r#"{{"data":"{text}"}}"#));
        assert_eq!(client.message()["data"]["data"], text);
    }
    let too_large = server.publish(&message_of(LIMIT + 1, &mut text));
    assert_eq!(too_large, Err(Rejected::TooLarge));
    assert_eq!(server.counters.dropped_too_large.get(), 1);
    assert_eq!(server.counters.publications.get(), 2);
    // It took no number.
    assert_eq!(server.send("", ""), 3);
    assert_eq!(client.message()["seq"], 3);
}

#[test]
fn frames_are_whole_around_the_boundaries_of_the_length_field() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?topic=*&format=raw");
    raw.settle();
    let mut client = Raw::upgraded(&server, "?topic=*");
    client.json();
    let mut text = String::new();
    for boundary in [125, 126, 65_535, 65_536] {
        for size in boundary - 1..=boundary + 1 {
            server.publish(&message_of(size, &mut text)).unwrap();
            let data = format!(r#"{{"data":"{text}"}}"#);
            assert_eq!(raw.text(), data);
            let frame = client.text();
            assert!(frame.ends_with(&format!(r#","data":{data}}}"#)), "{size}");
        }
    }
    // The same for the JSON format, where a probe tells how much it adds; all these numbers have two digits.
    for size in [65_534, 65_535, 65_536, 65_537] {
        server.publish(&message_of(20, &mut text)).unwrap();
        let added = client.text().len() - raw.text().len();
        server
            .publish(&message_of(size - added, &mut text))
            .unwrap();
        assert_eq!(raw.text().len(), size - added);
        assert_eq!(client.text().len(), size);
    }
}

#[test]
fn more_than_may_wait_is_refused_and_counted() {
    let server = TestServer::with(|settings| {
        settings.publish_queue_bytes = 65_536;
        settings.send_buffer_bytes = 1 << 30;
    });
    let mut client = Client::connect(&server, "?topic=*");
    let mut text = String::new();
    // One message alone is too much.
    let overload = server.publish(&message_of(70_000, &mut text));
    assert_eq!(overload, Err(Rejected::Overload));
    assert_eq!(server.counters.dropped_overload.get(), 1);
    let gap = json!({"type": "gap", "reason": "overload", "dropped": 1, "after": 0, "next": 2});
    assert_eq!(client.next(), gap);
    assert_eq!(server.send("", "x"), 2);
    assert_eq!(client.message()["seq"], 2);
    // Those that were subscribed are told of each that was refused, where it would have come.
    let mut taken = Vec::new();
    let mut refused = 0;
    for _ in 0..500 {
        match server.publish(&message_of(20_000, &mut text)) {
            Ok(seq) => taken.push(seq),
            Err(Rejected::Overload) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    server.until_delivered();
    let frames = client.up_to(server.stat("seq"));
    assert_eq!(seqs(&frames), taken);
    let gaps = frames.iter().filter(|frame| frame["type"] == "gap");
    let told: u64 = gaps.map(|gap| gap["dropped"].as_u64().unwrap()).sum();
    assert_eq!(told, refused);
    assert_eq!(server.counters.dropped_overload.get(), refused + 1);
    assert_eq!(server.counters.deliveries.get(), taken.len() as u64 + 1);
    // Every number is a message's, or that of a gap which says so.
    let numbers = frames.iter().map(|frame| match frame["type"].as_str() {
        Some("gap") => frame["after"].as_u64().unwrap() + 1,
        _ => frame["seq"].as_u64().unwrap(),
    });
    let numbers: Vec<u64> = numbers.collect();
    assert_eq!(numbers, (3..3 + numbers.len() as u64).collect::<Vec<_>>());
    // A raw connection cannot be told, so it is closed.
    let mut raw = Raw::upgraded(&server, "?topic=*&format=raw");
    raw.settle();
    let overload = server.publish(&message_of(70_000, &mut text));
    assert_eq!(overload, Err(Rejected::Overload));
    assert_eq!(raw.closed().1.0, 1013);
}

#[test]
fn nothing_is_published_when_nobody_would_ever_get_it() {
    let server = TestServer::with(|settings| settings.history_bytes = 0);
    let nobody = |server: &Server| server.publish(&message("a", "x"));
    assert_eq!(server.has_audience(), Err(Rejected::NoAudience));
    assert_eq!(nobody(&server), Err(Rejected::NoAudience));
    assert_eq!(server.counters.dropped_no_audience.get(), 2);
    let client = Client::connect(&server, "");
    assert_eq!(nobody(&server), Ok(1));
    drop(client);
    server.until_stat("connections", 0);
    assert_eq!(nobody(&server), Err(Rejected::NoAudience));
    assert_eq!(server.stat("seq"), 1);

    let keeps = TestServer::start();
    assert_eq!(keeps.has_audience(), Ok(()));
    assert_eq!(nobody(&keeps), Ok(1));
}

#[test]
fn history_is_bounded_in_bytes() {
    let server = TestServer::with(|settings| {
        settings.history_bytes = 1 << 20;
        // Nothing waits on the shard, so nothing is refused.
        settings.publish_queue_bytes = 1 << 30;
    });
    let mut text = String::new();
    let message = message_of(10_000, &mut text);
    for _ in 0..1000 {
        server.publish(&message).unwrap();
    }
    // What has been sent becomes history, and the shard forgets what of it is too much.
    until("history is short", || {
        let kept = server.stat("history_kept_bytes");
        server.stat("publish_queued_bytes") == 0 && (1 << 19..=1 << 20).contains(&kept)
    });
}

#[test]
fn a_server_may_be_shared_by_threads_that_publish_while_clients_come_and_go() {
    let server = TestServer::with(|settings| settings.shards = 2);
    let mut witness = Client::connect(&server, "?topic=*");
    thread::scope(|scope| {
        let publisher = scope.spawn(|| (0..2_000).map(|_| server.send("a,b", "x")).max().unwrap());
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..40 {
                    let query = ["?topic=a", "?topic=b,*", "?topic=c", ""][round % 4];
                    let mut client = Client::connect(&server, query);
                    if query.contains('a') {
                        client.send(&json!({"type": "ping", "id": round}));
                        assert_eq!(client.reply()["id"], round);
                    }
                }
            });
        }
        let last = publisher.join().unwrap();
        assert_eq!(seqs(&witness.up_to(last)), (1..=last).collect::<Vec<_>>());
    });
    drop(witness);
    server.until_stat("connections", 0);
    assert_eq!(server.counters.connections_opened.get(), 81);
    server.until_stat("connections_closed", 81);
}
