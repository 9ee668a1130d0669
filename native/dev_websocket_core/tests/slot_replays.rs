//! Tests of slot replays over real sockets, with a reader in place of a node.
#![cfg(test)]

mod support;

use dev_websocket_core::{ReplayFailure, ReplayRejected, SlotGap, SlotRange};
use serde_json::json;

use support::slot_reader::{ID, Reader, at, from_slot, messages, publish, slots};
use support::{Client, Raw, TestServer, asked, three, upgrade_request, upgraded};

#[test]
fn replayed_events_are_those_that_were_published() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    let mut live = Client::connect(&server, &format!("?process={ID}"));
    (0..3).for_each(|slot| publish(&server, slot));
    let mut published = messages(&mut live, 6);
    let mut client = Client::connect(&server, &from_slot(1));
    reader.until_live(&server);
    let mut replayed = messages(&mut client, 4);
    for frame in published.iter_mut().chain(&mut replayed) {
        let fields = frame.as_object_mut().unwrap();
        assert!(fields.remove("timestamp").unwrap().as_u64().unwrap() > 1_600_000_000_000);
        assert_ne!(fields.contains_key("seq"), fields.contains_key("replayed"));
        fields.remove("seq");
        assert!(fields.remove("replayed").is_none_or(|flag| flag == true));
    }
    assert_eq!(published[2..], replayed);
    assert_eq!(
        client.next(),
        json!({"type": "live", "process": ID, "slot": 3, "seq": 6})
    );
    publish(&server, 3);
    assert_eq!(slots(&messages(&mut client, 2)), [3]);
    assert_eq!(server.stat("slots_replayed"), 2);
    server.until_stat("slot_replays", 0);
}

#[test]
fn a_request_replays_and_further_ones_wait() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..3).for_each(|slot| publish(&server, slot));
    let mut client = Client::connect(&server, "?topic=other");
    let reply =
        client.request(&json!({"type": "subscribe", "id": 1, "process": ID, "from-slot": "1"}));
    assert_eq!(reply["new_topics"], json!([format!("process:{ID}")]));
    client.send(&json!({"type": "subscribe", "id": 2, "topics": ["later"]}));
    client.send(&json!({"type": "subscribe", "id": 3, "process": ID, "from-slot": 2}));
    // Messages of other topics come between.
    let seq = server.send("other", "x");
    assert_eq!(client.up_to(seq).len(), 1);
    reader.until_live(&server);
    assert_eq!(slots(&messages(&mut client, 4)), [1, 2]);
    let live = client.next();
    assert_eq!((&live["id"], &live["slot"]), (&json!(1), &json!(3)));
    assert_eq!(client.next()["id"], 2);
    assert_eq!(client.next()["id"], 3);
    reader.until_live(&server);
    assert_eq!(slots(&messages(&mut client, 2)), [2]);
    assert_eq!(client.next()["id"], 3);
    publish(&server, 3);
    assert_eq!(slots(&messages(&mut client, 2)), [3]);
}

#[test]
fn templates_choose_from_replayed_events() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..4).for_each(|slot| publish(&server, slot));
    let template = "%7B%22data%22:%222%22%7D";
    let query = format!("{}&template={template}", from_slot(0));
    let mut client = Client::connect(&server, &query);
    reader.until_live(&server);
    assert_eq!(slots(&messages(&mut client, 1)), [2]);
    assert_eq!(client.next()["type"], "live");
    publish(&server, 4);
    assert!(client.up_to(10).is_empty());
}

#[test]
fn a_cursor_of_events_carries_the_slot() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..3).for_each(|slot| publish(&server, slot));
    let epoch = server.describe().json["epoch"].as_str().unwrap().to_owned();
    let target = format!("/events{}&topic=other", from_slot(1));
    let mut stream = Raw::events(&server, &target, "");
    let id = |seq: u64, rest: &str| Some(format!("{epoch}:{seq};{ID}:{rest}"));
    assert_eq!(stream.event().1, id(6, "1"));
    let due = reader.due(&server);
    reader.step(&server, due).unwrap();
    assert_eq!(stream.event().1, id(6, "1.1"));
    assert_eq!(stream.event().1, id(6, "2"));
    server.send("other", "x");
    assert_eq!(stream.event().1, id(7, "2"));
    reader.until_live(&server);
    assert_eq!(stream.event().1, id(7, "2.1"));
    assert_eq!(stream.event().1, id(7, "3"));
    let (live, cursor) = stream.event();
    assert_eq!((live["type"].as_str(), cursor), (Some("live"), id(7, "3")));
    publish(&server, 3);
    assert_eq!(stream.event().1, id(8, "3.1"));
    drop(stream);
    // It was cut off within a slot. Meanwhile a message came, and the slot after.
    publish(&server, 4);
    server.send("other", "y");
    let header = format!("Last-Event-ID: {}\r\n", id(8, "3.1").unwrap());
    let mut stream = Raw::events(&server, &target, &header);
    assert_eq!(stream.event().0["type"], "connection_established");
    let (other, cursor) = stream.event();
    assert_eq!(
        (other["topic"].as_str(), cursor),
        (Some("other"), id(12, "3.1"))
    );
    assert_eq!(stream.event().0["type"], "live");
    reader.until_live(&server);
    let (rest, cursor) = stream.event();
    assert_eq!(
        (rest["data"]["data"].as_str(), cursor),
        (Some("message"), id(12, "4"))
    );
    assert_eq!(stream.event().0["data"]["data"], "4");
    assert_eq!(stream.event().0["data"]["data"], "message");
    assert_eq!(stream.event().0["slot"], 5);
    // The slot counts only for the process of the URL.
    for bad in [
        "k:1;x",
        &format!("{epoch}:1;{ID}"),
        &format!("{epoch}:1;{ID}:-1"),
    ] {
        let mut raw = Raw::connect(server.address());
        raw.write(format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {bad}\r\n\r\n"
        ));
        assert_eq!(raw.response().refusal().0, "bad_since", "{bad}");
    }
}

#[test]
fn a_restarted_server_loses_no_slot_of_a_cursor() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..2).for_each(|slot| publish(&server, slot));
    let target = format!("/events{}", from_slot(1));
    let next = server.next();
    drop(server);
    publish(&next, 2);
    let header = format!("Last-Event-ID: old123:4;{ID}:1\r\n");
    let mut stream = Raw::events(&next, &target, &header);
    assert_eq!(stream.event().0["type"], "connection_established");
    assert_eq!(stream.event().0["reason"], "epoch");
    assert_eq!(stream.event().0["type"], "live");
    reader.until_live(&next);
    for data in ["1", "message", "2", "message"] {
        assert_eq!(stream.event().0["data"]["data"], data);
    }
    assert_eq!(stream.event().0["slot"], 3);
}

#[test]
fn missing_slots_are_told_and_late_ones_come() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    publish(&server, 0);
    let hole = SlotRange::new(1, 2).unwrap();
    server
        .publish_slot_gap(ID, SlotGap::NotCached(hole))
        .unwrap();
    publish(&server, 3);
    let mut client = Client::connect(&server, &from_slot(0));
    let due = reader.due(&server);
    reader.step(&server, due).unwrap();
    assert_eq!(slots(&messages(&mut client, 2)), [0]);
    let due = reader.due(&server);
    assert_eq!(
        server.replay_gap(due.id, SlotGap::NotCached(SlotRange::new(2, 2).unwrap())),
        Err(ReplayRejected::Expected(at(1, 0)))
    );
    server.replay_gap(due.id, SlotGap::NotCached(hole)).unwrap();
    let mut gap = client.next();
    gap.as_object_mut().unwrap().remove("timestamp");
    assert_eq!(
        gap,
        json!({"type": "gap", "reason": "not_cached", "process": ID, "from_slot": 1, "to_slot": 2, "dropped": 2, "replayed": true})
    );
    // A slot of the gap comes live during the replay, and one after it.
    publish(&server, 1);
    assert_eq!(slots(&messages(&mut client, 2)), [1]);
    reader.until_live(&server);
    assert_eq!(slots(&messages(&mut client, 2)), [3]);
    assert_eq!(client.next()["slot"], 4);
    publish(&server, 2);
    publish(&server, 4);
    assert_eq!(slots(&messages(&mut client, 4)), [2, 4]);
    assert_eq!(server.stat("slots_not_replayed"), 2);
}

#[test]
fn a_replay_that_fails_tells_what_is_missing() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..5).for_each(|slot| publish(&server, slot));
    for (failure, code) in [
        (ReplayFailure::NoNode, "no_cache"),
        (ReplayFailure::NoLocalStore, "no_cache"),
        (ReplayFailure::UnknownProcess, "unknown_process"),
        (ReplayFailure::TooManyProcesses, "too_many_processes"),
        (ReplayFailure::Unreadable, "replay_failed"),
    ] {
        let mut client = Client::connect(&server, "");
        client.request(&json!({"type": "subscribe", "id": 7, "process": ID, "from-slot": 3}));
        let due = reader.due(&server);
        server.replay_failed(due.id, failure).unwrap();
        let error = client.next();
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!(7)));
        let gap = client.next();
        assert_eq!(
            (&gap["reason"], &gap["from_slot"], &gap["to_slot"]),
            (&json!("not_replayed"), &json!(3), &json!(4))
        );
        assert_eq!(client.next()["slot"], 5);
        assert_eq!(server.replay_live(due.id), Err(ReplayRejected::Ended));
    }
    // Nothing is missing.
    let mut client = Client::connect(&server, &from_slot(5));
    let due = reader.due(&server);
    server
        .replay_failed(due.id, ReplayFailure::Unreadable)
        .unwrap();
    assert_eq!(client.next()["code"], "replay_failed");
    assert_eq!(client.next()["slot"], 5);
}

#[test]
fn bad_input_is_refused_with_the_name_of_the_field() {
    let server = TestServer::start();
    let _reader = Reader::new(&server);
    for (query, code) in [
        (format!("?process={ID}&from-slot=x"), "bad_from_slot"),
        (format!("?process={ID}&from-slot=-1"), "bad_from_slot"),
        ("?from-slot=1".to_owned(), "bad_from_slot"),
        (format!("{}&since=1", from_slot(1)), "bad_from_slot"),
        (format!("{}&last=1", from_slot(1)), "bad_from_slot"),
        (format!("{}&format=raw", from_slot(1)), "bad_from_slot"),
        ("?process=x&from-slot=1".to_owned(), "bad_process"),
        (
            format!("?process={ID}&process=b&from-slot=1"),
            "bad_process",
        ),
    ] {
        assert_eq!(asked(&server, &query), (400, code.into()), "{query}");
    }
    let mut client = Client::connect(&server, "");
    for (request, code, name) in [
        (
            json!({"process": ID, "from-slot": "x"}),
            "bad_from_slot",
            "from-slot",
        ),
        (
            json!({"process": ID, "from-slot": -1}),
            "bad_from_slot",
            "from-slot",
        ),
        (
            json!({"process": ID, "from-slot": 1.5}),
            "bad_from_slot",
            "from-slot",
        ),
        (
            json!({"process": ID, "from-slot": []}),
            "bad_field",
            "from-slot",
        ),
        (
            json!({"process": ID, "from-slot": 1, "since": 0}),
            "bad_from_slot",
            "since",
        ),
        (
            json!({"topics": ["a"], "from-slot": 1}),
            "bad_from_slot",
            "process",
        ),
        (
            json!({"process": "x", "from-slot": 1}),
            "bad_process",
            "process",
        ),
        (
            json!({"process": [ID, ID], "from-slot": 1}),
            "bad_field",
            "process",
        ),
        (json!({"process": ""}), "bad_topic", "process"),
        (json!({"process": "a,b"}), "bad_topic", "process"),
        (json!({"process": 5}), "bad_field", "process"),
    ] {
        let mut request = request;
        request["type"] = "subscribe".into();
        let error = client.request(&request);
        assert_eq!(error["code"], code, "{request}: {error}");
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
    }
    let unsubscribed = json!({"type": "unsubscribe", "process": ID, "from-slot": 1});
    assert_eq!(client.request(&unsubscribed)["code"], "unknown_field");
    // Without a slot the field is short for a topic.
    for kind in ["subscribe", "unsubscribe"] {
        let reply = client.request(&json!({"type": kind, "process": ID}));
        let names = if kind == "subscribe" {
            "new_topics"
        } else {
            "removed_topics"
        };
        assert_eq!(reply[names], json!([format!("process:{ID}")]));
    }
}

#[test]
fn a_server_without_a_node_replays_nothing() {
    let server = TestServer::start();
    let response = Raw::ask(&server, upgrade_request(&from_slot(1)));
    assert_eq!(response.status, 400);
    assert_eq!(response.refusal().0, "no_cache");
    let mut client = Client::connect(&server, "");
    let error = client.request(&json!({"type": "subscribe", "process": ID, "from-slot": 1}));
    assert_eq!(error["code"], "no_cache");
    let reply = client.request(&json!({"type": "ping"}));
    assert_eq!(reply["type"], "pong");
}

#[test]
fn at_the_limit_of_max_slot_replays() {
    let server = three(|settings, n| settings.max_slot_replays = n);
    let reader = Reader::new(&server);
    let mut clients: Vec<_> = (0..3)
        .map(|_| Client::connect(&server, &from_slot(0)))
        .collect();
    server.until_stat("slot_replays", 3);
    let response = Raw::ask(&server, upgrade_request(&from_slot(0)));
    assert_eq!(response.status, 503);
    assert_eq!(response.refusal().0, "too_many_slot_replays");
    let mut other = Client::connect(&server, "");
    let ask = json!({"type": "subscribe", "id": 1, "process": ID, "from-slot": 0});
    let error = other.request(&ask);
    assert_eq!(error["code"], "too_many_slot_replays");
    // The whole request was refused.
    publish(&server, 0);
    assert!(other.up_to(2).is_empty());
    // A client that leaves makes room.
    drop(clients.pop());
    server.until_stat("slot_replays", 2);
    assert_eq!(other.request(&ask)["type"], "subscription_response");
    // So does one that is live.
    (0..3).for_each(|_| reader.until_live(&server));
    server.until_stat("slot_replays", 0);
    assert_eq!(asked(&server, &from_slot(0)), upgraded());
    // None at all.
    let server = TestServer::with(|settings| settings.max_slot_replays = 0);
    let _reader = Reader::new(&server);
    assert_eq!(asked(&server, &from_slot(0)).1, "too_many_slot_replays");
}
