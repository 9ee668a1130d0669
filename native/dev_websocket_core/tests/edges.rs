//! Tests of `format=edges` over real sockets: one frame for each slot, live and replayed.
#![cfg(test)]

mod support;

use std::borrow::Cow;
use std::thread;

use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{Event, ReplayRejected, SlotGap, SlotRange, SlotRejected};
use serde_json::{Value as Json, json};

use support::slot_reader::{ID, Reader, at, events, publish};
use support::{Client, Raw, TestServer, asked};

const OTHER: &str = "2ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

/// Makes the events of a slot with its edge, as a node makes them while a client wants edges.
fn with_edge(slot: u64) -> Vec<Event<'static>> {
    let text = |text: &str| Value::Text(Cow::Owned(text.to_owned()));
    let cursor = slot.to_string();
    let mut all = events(&["result", "message"]);
    all.push(Event {
        message: Some(Value::Map(vec![
            ("cursor".into(), text(&cursor)),
            (
                "node".into(),
                Value::Map(vec![("Output".into(), text("o"))]),
            ),
        ])),
        origin: Provenance {
            path: Some("/p".into()),
            is_edge: true,
            ..Provenance::default()
        },
    });
    all
}

fn publish_edge(server: &TestServer, slot: u64) {
    server
        .publish_part(ID, at(slot, 0), with_edge(slot), true)
        .unwrap();
}

fn edge(slot: u64) -> Json {
    json!({"cursor": slot.to_string(), "node": {"Output": "o"}})
}

fn query(rest: &str) -> String {
    format!("?format=edges&process={ID}{rest}")
}

/// Serves a replay until it goes live.
fn until_live(reader: &Reader, server: &TestServer) {
    loop {
        let due = reader.due(server);
        let is_last = due.next.slot >= server.slots.mark(ID).unwrap().next().slot;
        if is_last {
            server.replay_live(due.id).unwrap();
            return;
        }
        let rest = with_edge(due.next.slot)
            .into_iter()
            .skip(due.next.part as usize)
            .collect();
        server.replay_part(due.id, due.next, rest, true).unwrap();
    }
}

/// Waits until the clients for edges have left.
fn until_unwanted(server: &TestServer) {
    while server.wants_edges(ID) {
        thread::yield_now();
    }
}

#[test]
fn a_slot_is_one_frame_without_a_type() {
    let server = TestServer::start();
    server.slots.set_mark(ID, 0);
    let mut everything = Client::connect(&server, "?topic=*&topic=process:*&match=edges");
    let mut template = Client::connect(&server, "?template=%7B%22process%22:%22x%22%7D");
    assert!(!server.wants_edges(ID));
    let mut client = Client::connect(&server, &query(""));
    assert!(server.wants_edges(ID) && !server.wants_edges(OTHER));
    (0..3).for_each(|slot| publish_edge(&server, slot));
    for slot in 0..3 {
        assert_eq!(client.next(), edge(slot));
    }
    // Other formats get the events alone.
    let seq = server.send("other", "x");
    assert_eq!(everything.up_to(seq).len(), 7);
    assert!(template.up_to(seq).is_empty());
    let topics = server.describe().json["topics"].clone();
    assert_eq!(
        topics,
        json!([format!("edges:{ID}"), "other", format!("process:{ID}"), "t"])
    );
    drop(client);
    until_unwanted(&server);
    server.until_stat("connections_edges", 0);
}

#[test]
fn processes_come_and_go_by_request() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, &query(""));
    let reply = client.request(&json!({"type": "subscribe", "id": 1, "process": OTHER}));
    assert_eq!(reply["new_topics"], json!([format!("edges:{OTHER}")]));
    let reply = client.request(&json!({"type": "unsubscribe", "id": 2, "process": ID}));
    assert_eq!(
        reply["subscribed_topics"],
        json!([format!("edges:{OTHER}")])
    );
    for (request, code) in [
        (json!({"topics": ["a"]}), "bad_field"),
        (json!({"process": ID, "match": ["a"]}), "bad_field"),
        (json!({"process": ID, "template": [{"a": 1}]}), "bad_field"),
        (json!({"process": 1}), "bad_field"),
        (json!({}), "bad_field"),
        (json!({"process": "x"}), "bad_process"),
        (json!({"process": "*"}), "bad_process"),
        (json!({"process": ID, "since": 0}), "bad_since"),
        (json!({"process": ID, "from-slot": "x"}), "bad_from_slot"),
    ] {
        let mut request = request;
        request["type"] = "subscribe".into();
        request["id"] = 3.into();
        let reply = client.request(&request);
        assert_eq!(reply["code"], code, "{request}");
    }
    // Other formats do not have edges.
    let mut json = Client::connect(&server, "?topic=a");
    let topics = json!([format!("edges:{ID}")]);
    let reply = json.request(&json!({"type": "subscribe", "id": 4, "topics": topics}));
    assert_eq!(reply["code"], "bad_topic");
}

#[test]
fn bad_requests_name_the_parameter() {
    let server = TestServer::start();
    for (query, code) in [
        ("?format=edges".to_owned(), "bad_format"),
        ("?format=edges&process=x".to_owned(), "bad_process"),
        (query("&topic=a"), "bad_format"),
        (query("&last=1"), "bad_format"),
        (query("&from-slot=x"), "bad_from_slot"),
        (format!("?topic=edges:{ID}"), "bad_topic"),
    ] {
        let refused = (400, code.to_owned());
        assert_eq!(asked(&server, &query), refused, "{query}");
        let request = format!("GET /events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = Raw::ask(&server, request);
        assert_eq!((response.status, response.refusal().0), refused, "{query}");
    }
}

#[test]
fn past_edges_join_new_ones() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..4).for_each(|slot| publish(&server, slot));
    let mut client = Client::connect(&server, &query("&from-slot=1"));
    let due = reader.due(&server);
    server
        .replay_part(due.id, due.next, with_edge(1), true)
        .unwrap();
    assert_eq!(client.next(), edge(1));
    let due = reader.due(&server);
    let gap = SlotGap::NotCached(SlotRange::new(2, 2).unwrap());
    server.replay_gap(due.id, gap).unwrap();
    let told = client.next();
    assert_eq!(
        (&told["type"], &told["from_slot"], &told["to_slot"]),
        (&json!("gap"), &json!(2), &json!(2))
    );
    until_live(&reader, &server);
    assert_eq!(client.next(), edge(3));
    let live = client.next();
    assert_eq!((&live["type"], &live["slot"]), (&json!("live"), &json!(4)));
    publish_edge(&server, 4);
    assert_eq!(client.next(), edge(4));
    // A late slot of the hole has its edge as well.
    let gap = SlotGap::NotCached(SlotRange::new(5, 6).unwrap());
    server.publish_slot_gap(ID, gap).unwrap();
    assert_eq!(client.next()["reason"], "not_cached");
    publish_edge(&server, 5);
    assert_eq!(client.next(), edge(5));
}

#[test]
fn a_slot_does_not_end_without_the_edge_that_a_client_wants() {
    let server = TestServer::start();
    server.slots.set_mark(ID, 0);
    let part = |slot, part, edge: bool, is_last| {
        let mut all = with_edge(slot);
        if !edge {
            all.truncate(2);
        }
        let rest = all.into_iter().skip(part as usize).collect();
        server.publish_part(ID, at(slot, part), rest, is_last)
    };
    // The events of the slot were published before the client came, and not its end.
    part(0, 0, false, false).unwrap();
    let mut client = Client::connect(&server, &query(""));
    assert_eq!(part(0, 2, false, true), Err(SlotRejected::EdgeWanted));
    part(0, 2, true, true).unwrap();
    assert_eq!(client.next(), edge(0));
    assert_eq!(part(1, 0, false, true), Err(SlotRejected::EdgeWanted));
    assert_eq!(server.slots.mark(ID).unwrap().next(), at(1, 0));
    part(1, 0, true, true).unwrap();
    assert_eq!(client.next(), edge(1));
    drop(client);
    until_unwanted(&server);
    part(2, 0, false, true).unwrap();
}

#[test]
fn an_edge_that_is_too_large_is_replaced_by_its_path() {
    let server = TestServer::with(|settings| settings.max_message_bytes = 1000);
    server.slots.set_mark(ID, 0);
    let mut client = Client::connect(&server, &query(""));
    let omitted = json!({"$omitted": "too_large", "$get": "/p"});
    for slot in 0..2 {
        let mut all = with_edge(slot);
        let edge = all.last_mut().unwrap();
        edge.message = (slot == 0).then(|| Value::Text("x".repeat(2000).into()));
        server.publish_part(ID, at(slot, 0), all, true).unwrap();
        assert_eq!(
            client.next(),
            json!({"cursor": slot.to_string(), "node": omitted})
        );
    }
}

#[test]
fn events_resume_at_the_slot_behind_the_last_edge() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..3).for_each(|slot| publish(&server, slot));
    let target = format!("/events{}", query("&from-slot=1"));
    let mut stream = Raw::events(&server, &target, "");
    assert_eq!(stream.event().0["type"], "connection_established");
    until_live(&reader, &server);
    let (first, cursor) = stream.event();
    assert_eq!(first, edge(1));
    assert!(cursor.unwrap().ends_with(&format!(";{ID}:2")));
    let (second, _) = stream.event();
    assert_eq!(second, edge(2));
    assert_eq!(stream.event().0["type"], "live");
    publish_edge(&server, 3);
    let (third, cursor) = stream.event();
    assert_eq!(third, edge(3));
    drop(stream);
    until_unwanted(&server);
    publish(&server, 4);
    let header = format!("Last-Event-ID: {}\r\n", cursor.unwrap());
    let mut stream = Raw::events(&server, &target, &header);
    assert_eq!(stream.event().0["type"], "connection_established");
    until_live(&reader, &server);
    assert_eq!(stream.event().0, edge(4));
    assert_eq!(stream.event().0["type"], "live");
    drop(stream);
    // Without a slot there is nothing to resume: the history has no edges of slots between.
    let target = format!("/events{}", query(""));
    let mut stream = Raw::events(&server, &target, "Last-Event-ID: 1\r\n");
    assert_eq!(stream.event().0["type"], "connection_established");
    publish_edge(&server, 5);
    assert_eq!(stream.event().0, edge(5));
}

#[test]
fn a_replay_of_edges_takes_each_event_once() {
    let server = TestServer::start();
    let reader = Reader::new(&server);
    (0..2).for_each(|slot| publish(&server, slot));
    let _client = Client::connect(&server, &query("&from-slot=0"));
    let due = reader.due(&server);
    server
        .replay_part(due.id, due.next, with_edge(0), true)
        .unwrap();
    assert!(matches!(
        server.replay_part(due.id, due.next, with_edge(0), true),
        Err(ReplayRejected::Expected(_))
    ));
}
