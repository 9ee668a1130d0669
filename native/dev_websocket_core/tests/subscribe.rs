//! The control protocol: what a client asks for, what it is answered, and from which publication on that holds.
#![cfg(test)]

mod support;

use std::time::Duration;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value as Json, json};

use support::{Client, Raw, TEXT, TestServer, seqs};

/// The frames without what differs from run to run.
fn without_time(mut frame: Json) -> Json {
    let time = frame.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(time.as_u64().unwrap() > 1_700_000_000_000, "{time}");
    frame
}

fn seq(frame: &Json) -> u64 {
    frame["seq"].as_u64().unwrap()
}

#[test]
fn the_first_frame_tells_what_holds_for_the_connection() {
    let server = TestServer::with(|settings| {
        settings.max_topics_per_connection = 7;
        settings.max_inbound_bytes = 1000;
        settings.max_inbound_rate = 20;
        settings.max_message_bytes = 5000;
        settings.send_buffer_bytes = 6000;
        settings.ping_interval = Duration::from_millis(9000);
    });
    let first = Client::connect(&server, "").established;
    let epoch = first["epoch"].as_str().unwrap();
    assert_eq!(epoch.len(), 6);
    assert!(epoch.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let seq = server.send("a", "x");
    let _witness = Client::connect(&server, "").up_to(seq);
    let second = Client::connect(&server, "?topic=a&x=1").established;
    assert_eq!(
        without_time(second),
        json!({
            "type": "connection_established",
            "subscribed_topics": ["a"],
            "protocol": 1,
            "epoch": epoch,
            "seq": seq,
            "limits": {
                "max_topics_per_connection": 7,
                "max_regexes_per_connection": 8,
                "max_templates_per_connection": 16,
                "max_last": 1000,
                "max_inbound_bytes": 1000,
                "max_inbound_rate": 20,
                "max_message_bytes": 5000,
                "send_buffer_bytes": 6000,
                "ping_interval": 9000,
            },
            "ignored": ["x"],
        })
    );
    let other = TestServer::start();
    assert_ne!(Client::connect(&other, "").established["epoch"], epoch);
}

#[test]
fn a_publication_carries_its_topics_and_its_message() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=b");
    let seq = server.send("a,b", "text \u{1f680} \"quoted\"");
    assert_eq!(
        without_time(client.next()),
        json!({
            "type": "message",
            "topic": "a",
            "topics": ["a", "b"],
            "seq": seq,
            "data": {"topic": "a,b", "data": "text \u{1f680} \"quoted\""},
        })
    );
}

#[test]
fn subscribing_tells_what_is_new_and_what_there_is() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let reply =
        client.request(&json!({"type": "subscribe", "id": 1, "topics": ["b", "a", "b", "*"]}));
    assert_eq!(
        without_time(reply),
        json!({
            "type": "subscription_response",
            "id": 1,
            "message": "subscribed to 2 new topics",
            "new_topics": ["b", "*"],
            "subscribed_topics": ["a", "b", "*"],
            "seq": 0,
        })
    );
    let reply = client
        .request(&json!({"type": "unsubscribe", "id": "x", "topics": ["never", "a", "*", "a"]}));
    assert_eq!(
        without_time(reply),
        json!({
            "type": "unsubscription_response",
            "id": "x",
            "message": "unsubscribed from 2 topics",
            "removed_topics": ["a", "*"],
            "subscribed_topics": ["b"],
            "seq": 0,
        })
    );
    // Without an id in the request there is none in the reply.
    let reply = client.request(&json!({"type": "subscribe", "topics": ["b"]}));
    assert_eq!(
        without_time(reply),
        json!({
            "type": "subscription_response",
            "message": "subscribed to 0 new topics",
            "new_topics": [],
            "subscribed_topics": ["b"],
            "seq": 0,
        })
    );
}

#[test]
fn what_was_unsubscribed_no_longer_arrives() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a,b");
    let mut expected = vec![server.send("a", ""), server.send("b", "")];
    let mut frames = client.up_to(expected[1]);
    client.request(&json!({"type": "unsubscribe", "topics": ["a"]}));
    server.send("a", "");
    expected.push(server.send("a,b", ""));
    frames.extend(client.up_to(expected[2]));
    client.request(&json!({"type": "unsubscribe", "topics": ["b"]}));
    frames.extend(client.up_to(server.send("a,b", "")));
    client.request(&json!({"type": "subscribe", "topics": ["a"]}));
    expected.push(server.send("a", ""));
    frames.extend(client.up_to(expected[3]));
    assert_eq!(seqs(&frames), expected);
}

#[test]
fn a_subscription_holds_from_the_number_in_its_reply_on() {
    let server = TestServer::with(|settings| {
        settings.history_bytes = 0;
        settings.send_buffer_bytes = 1 << 30;
        settings.shards = 1;
    });
    // So many that they are served in turns: requests come in between two of them.
    let _crowd = Raw::crowd(&server, 300, "?topic=a");
    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(&server, "")).collect();
    let published = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                server.send("a", "x");
            }
            published.store(true, Ordering::Relaxed);
        });
        for client in &mut clients {
            scope.spawn(|| {
                while !published.load(Ordering::Relaxed) {
                    client.send(&json!({"type": "subscribe", "topics": ["a"]}));
                    let reply = client.next();
                    assert_eq!(reply["type"], "subscription_response");
                    let mut last = seq(&reply);
                    client.send(&json!({"type": "unsubscribe", "topics": ["a"]}));
                    let reply = loop {
                        let frame = client.next();
                        if frame["type"] != "message" {
                            break frame;
                        }
                        last += 1;
                        assert_eq!(seq(&frame), last);
                    };
                    assert_eq!(reply["type"], "unsubscription_response");
                    assert_eq!(seq(&reply), last);
                }
            });
        }
    });
}

#[test]
fn a_client_that_changes_its_mind_while_others_publish_misses_nothing() {
    const TOTAL: u64 = 5000;
    let server = TestServer::with(|settings| {
        settings.send_buffer_bytes = 1 << 30;
        settings.shards = 2;
    });
    let mut clients: Vec<_> = (0..2)
        .map(|_| Client::connect(&server, "?topic=b"))
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..TOTAL {
                server.send("a,b", "x");
            }
        });
        for client in &mut clients {
            scope.spawn(|| {
                // It has one of the two topics at any time, so it gets everything, and once.
                let mut last = 0;
                for round in 0.. {
                    let (new, old) = [("a", "b"), ("b", "a")][round % 2];
                    client.send(&json!({"type": "subscribe", "topics": [new]}));
                    client.send(&json!({"type": "unsubscribe", "topics": [old]}));
                    for kind in ["subscription_response", "unsubscription_response"] {
                        let reply = loop {
                            let frame = client.next();
                            if frame["type"] != "message" {
                                break frame;
                            }
                            last += 1;
                            assert_eq!(seq(&frame), last);
                        };
                        assert_eq!(reply["type"], kind);
                        assert_eq!(seq(&reply), last);
                    }
                    if last == TOTAL {
                        break;
                    }
                }
            });
        }
    });
}

#[test]
fn a_ping_is_answered_behind_everything_published_before() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let reply = client.request(&json!({"type": "ping", "id": 3}));
    assert_eq!(
        without_time(reply),
        json!({"type": "pong", "id": 3, "seq": 0})
    );
    let last = (0..100).map(|_| server.send("a", "x")).max().unwrap();
    // Publications of others count too.
    let other = server.send("b", "x");
    assert_eq!(seqs(&client.up_to(last)), (1..=last).collect::<Vec<_>>());
    assert_eq!(client.up_to(other), Vec::<Json>::new());
    let reply = client.request(&json!({"type": "ping"}));
    assert_eq!(without_time(reply), json!({"type": "pong", "seq": other}));
}

#[test]
fn every_fault_has_its_code_and_the_connection_lives_on() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let long = "t".repeat(256);
    let cases = [
        ("", None, "bad_json"),
        ("{\"type\":\"ping\"", None, "bad_json"),
        ("{\"type\":\"ping\"} x", None, "bad_json"),
        ("[]", None, "bad_message"),
        ("null", None, "bad_message"),
        ("\"ping\"", None, "bad_message"),
        (r#"{"id":1}"#, Some(json!(1)), "bad_message"),
        (r#"{"type":7,"id":"i"}"#, Some(json!("i")), "bad_message"),
        (r#"{"type":"ping","id":[1]}"#, None, "bad_id"),
        (r#"{"type":"ping","id":true}"#, None, "bad_id"),
        (r#"{"type":"dance","id":2}"#, Some(json!(2)), "unknown_type"),
        (r#"{"type":"Ping","id":2}"#, Some(json!(2)), "unknown_type"),
        (
            r#"{"type":"ping","id":3,"x":0}"#,
            Some(json!(3)),
            "unknown_field",
        ),
        (
            r#"{"type":"subscribe","id":4,"topics":["b"],"topic":"b"}"#,
            Some(json!(4)),
            "unknown_field",
        ),
        (
            r#"{"type":"subscribe","id":5}"#,
            Some(json!(5)),
            "bad_field",
        ),
        (
            r#"{"type":"subscribe","id":5,"topics":[]}"#,
            Some(json!(5)),
            "bad_field",
        ),
        (
            r#"{"type":"subscribe","id":5,"topics":"b"}"#,
            Some(json!(5)),
            "bad_field",
        ),
        (
            r#"{"type":"subscribe","id":5,"topics":["b",1]}"#,
            Some(json!(5)),
            "bad_field",
        ),
        (
            r#"{"type":"unsubscribe","id":5.5}"#,
            Some(json!(5.5)),
            "bad_field",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["b",""]}"#,
            Some(json!(6)),
            "bad_topic",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["a\nb"]}"#,
            Some(json!(6)),
            "bad_topic",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["a,b"]}"#,
            Some(json!(6)),
            "bad_topic",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["a,*"]}"#,
            Some(json!(6)),
            "bad_topic",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["b"],"match":["("]}"#,
            Some(json!(6)),
            "bad_regex",
        ),
        (
            r#"{"type":"subscribe","id":6,"match":["\\w{1000}"]}"#,
            Some(json!(6)),
            "regex_too_big",
        ),
        (
            r#"{"type":"subscribe","id":6,"template":[7]}"#,
            Some(json!(6)),
            "bad_template",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["b"],"since":"x"}"#,
            Some(json!(6)),
            "bad_since",
        ),
        (
            r#"{"type":"subscribe","id":6,"topics":["b"],"since":99}"#,
            Some(json!(6)),
            "bad_since",
        ),
        (
            &format!(r#"{{"type":"unsubscribe","topics":["{long}"]}}"#),
            None,
            "bad_topic",
        ),
    ];
    for (request, id, code) in &cases {
        client.send_text(request);
        let mut error = without_time(client.next());
        let message = error["message"].take();
        assert!(!message.as_str().unwrap().is_empty(), "{request}");
        let mut expected = json!({"type": "error", "code": code, "message": null});
        if let Some(id) = id {
            expected["id"] = id.clone();
        }
        assert_eq!(error, expected, "{request}: {message}");
    }
    assert_eq!(server.counters.error_frames.get(), cases.len() as u64);
    // No faulty request changed anything.
    let seq = server.send("a,b", "x");
    server.send("b", "x");
    assert_eq!(seqs(&client.up_to(seq + 1)), [seq]);
}

#[test]
fn a_request_for_one_topic_too_many_is_refused_whole() {
    let server = TestServer::with(|settings| settings.max_topics_per_connection = 3);
    let mut client = Client::connect(&server, "?topic=a");
    let mut subscribe = |topics: Json| {
        let reply = client.request(&json!({"type": "subscribe", "id": 9, "topics": topics}));
        assert_eq!(reply["id"], 9);
        match reply["type"].as_str().unwrap() {
            "subscription_response" => reply["subscribed_topics"].clone(),
            "error" => reply["code"].clone(),
            other => panic!("{other} is no answer"),
        }
    };
    assert_eq!(subscribe(json!(["b", "c", "d"])), "too_many_topics");
    assert_eq!(subscribe(json!(["b"])), json!(["a", "b"]));
    assert_eq!(subscribe(json!(["c", "*"])), "too_many_topics");
    // What the connection has, and what is said twice, counts once.
    assert_eq!(
        subscribe(json!(["a", "c", "c", "b"])),
        json!(["a", "b", "c"])
    );
    assert_eq!(subscribe(json!(["*"])), "too_many_topics");
    assert_eq!(subscribe(json!(["a"])), json!(["a", "b", "c"]));
    client.request(&json!({"type": "unsubscribe", "topics": ["b"]}));
    let reply = client.request(&json!({"type": "subscribe", "topics": ["d"]}));
    assert_eq!(reply["subscribed_topics"], json!(["a", "c", "d"]));
    let sent = ["a", "b", "c", "d", "e"].map(|topic| server.send(topic, ""));
    assert_eq!(seqs(&client.up_to(sent[4])), [sent[0], sent[2], sent[3]]);
}

#[test]
fn a_star_is_everything_also_without_topics() {
    let server = TestServer::start();
    let mut everything = Client::connect(&server, "?topic=*");
    let mut later = Client::connect(&server, "");
    let mut sent = vec![
        server.send("a", ""),
        server.send("", ""),
        server.send("b,c", ""),
    ];
    assert_eq!(seqs(&everything.up_to(sent[2])), sent);
    assert_eq!(seqs(&later.up_to(sent[2])), Vec::<u64>::new());
    later.request(&json!({"type": "subscribe", "topics": ["*"]}));
    sent.push(server.send("", ""));
    assert_eq!(seqs(&later.up_to(sent[3])), sent[3..]);
    assert_eq!(seqs(&everything.up_to(sent[3])), sent[3..]);
}

#[test]
fn a_message_with_several_of_a_clients_topics_is_one_frame() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a,b,c,*");
    let mut expected = Vec::new();
    for topics in ["a,b", "c,b,a", "d", "b", "a,d,c", "", "a,a"] {
        expected.push(server.send(topics, "x"));
    }
    assert_eq!(seqs(&client.up_to(expected[6])), expected);
    assert_eq!(server.counters.deliveries.get(), 7);
}

#[test]
fn topics_are_told_apart_by_letter_case_and_processes_have_two_names() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=Prices&topic=/abc~process@1.0");
    assert_eq!(
        client.established["subscribed_topics"],
        json!(["Prices", "process:abc"])
    );
    let sent = ["prices", "Prices", "PRICES"].map(|topic| server.send(topic, ""));
    assert_eq!(seqs(&client.up_to(sent[2])), [sent[1]]);
    let reply = client.request(&json!({"type": "unsubscribe", "topics": ["process:abc"]}));
    assert_eq!(reply["removed_topics"], json!(["process:abc"]));
}

#[test]
fn the_raw_format_is_data_alone() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?format=raw&topic=a,b&unknown=1");
    // A raw connection has no welcome and no replies.
    raw.settle();
    raw.send(TEXT, br#"{"type":"ping","id":1}"#);
    raw.send(TEXT, b"not even JSON");
    server.until_stat("inbound_messages", 2);
    for data in ["one", "zw\u{f6}lf", ""] {
        server.send("a,b", data);
    }
    for data in ["one", "zw\u{f6}lf", ""] {
        assert_eq!(raw.json(), json!({"topic": "a,b", "data": data}));
    }
}

#[test]
fn a_request_may_come_in_fragments_around_a_ping() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "");
    raw.json();
    let request = br#"{"type":"ping","id":"in parts"}"#;
    raw.send(0x01, &request[..5]);
    raw.send(0x00, b"");
    raw.send(support::PING, b"between");
    raw.send(0x00, &request[5..9]);
    raw.send(0x80, &request[9..]);
    assert_eq!(raw.frame(), (support::PONG, b"between".to_vec()));
    assert_eq!(raw.json()["id"], "in parts");
}

#[test]
fn many_clients_each_get_their_own_topics_only() {
    let server = TestServer::with(|settings| settings.shards = 3);
    let topics: Vec<_> = (0..24).map(|n| format!("t{n}")).collect();
    let mut clients: Vec<_> = topics
        .iter()
        .zip(topics.iter().cycle().skip(1))
        .map(|(own, next)| Client::connect(&server, &format!("?topic={own},{next}")))
        .collect();
    let sent: Vec<_> = topics.iter().map(|topic| server.send(topic, "x")).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        let expected = BTreeSet::from([sent[place], sent[(place + 1) % sent.len()]]);
        let got = seqs(&client.up_to(sent[23]));
        assert_eq!(got, Vec::from_iter(expected));
    }
}
