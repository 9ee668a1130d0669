//! Tests of process results over real sockets: each event once, and gaps in every format.
#![cfg(test)]

mod support;

use std::collections::HashMap;
use std::thread;

use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{Disconnect, Event, Position, SlotGap, SlotRange, SlotRejected};
use serde_json::{Value as Json, json};

use support::{Client, Connection, FORMATS, Raw, TestServer, connect, message};

/// Returns the id of a process.
fn id(letter: char) -> String {
    letter.to_string().repeat(43)
}

fn at(slot: u64, part: u64) -> Position {
    Position { slot, part }
}

fn range(from: u64, to: u64) -> SlotRange {
    SlotRange::new(from, to).unwrap()
}

fn event(data: &str) -> Event<'_> {
    with_origin("t", data, Provenance::default())
}

fn with_origin<'a>(topics: &'a str, data: &'a str, origin: Provenance<'a>) -> Event<'a> {
    Event {
        message: Some(message(topics, data)),
        origin,
    }
}

fn events<'a>(data: &[&'a str]) -> Vec<Event<'a>> {
    data.iter().map(|data| event(data)).collect()
}

/// Returns the JSON of a gap without its timestamp.
fn gap(process: &str, reason: &str, slots: Option<(u64, u64)>, seq: u64) -> Json {
    let mut gap =
        json!({"type": "gap", "reason": reason, "process": process, "dropped": 0, "seq": seq});
    if let Some((from, to)) = slots {
        gap["from_slot"] = from.into();
        gap["to_slot"] = to.into();
        gap["dropped"] = (to - from + 1).into();
    }
    gap
}

fn without_time(mut frame: Json) -> Json {
    let timestamp = frame.as_object_mut().unwrap().remove("timestamp");
    assert!(timestamp.unwrap().as_u64().unwrap() > 1_600_000_000_000);
    frame
}

/// Publishes one gap of each kind, between two slots.
fn publish_gaps(server: &TestServer, process: &str) -> Vec<Json> {
    let first = server
        .slots
        .mark(process)
        .map_or(0, |mark| mark.next().slot);
    server.slots.set_mark(process, first);
    let seq = server.stat("seq");
    let publish = |slot, data| server.publish_part(process, at(slot, 0), events(&[data]), true);
    let tell = |gap| server.publish_slot_gap(process, gap);
    publish(first, "before").unwrap();
    tell(SlotGap::NotCached(range(first + 1, first + 1))).unwrap();
    tell(SlotGap::Withheld(range(first + 2, first + 4))).unwrap();
    tell(SlotGap::NotFollowed(range(first + 5, first + 6))).unwrap();
    tell(SlotGap::Limit).unwrap();
    publish(first + 7, "after").unwrap();
    vec![
        gap(process, "not_cached", Some((first + 1, first + 1)), seq + 2),
        gap(process, "withheld", Some((first + 2, first + 4)), seq + 3),
        gap(
            process,
            "not_followed",
            Some((first + 5, first + 6)),
            seq + 4,
        ),
        gap(process, "limit", None, seq + 5),
    ]
}

/// Reads the publications of [`publish_gaps`].
fn expect_gaps(connection: &mut Connection, gaps: &[Json], what: &str) {
    let data = |frame: Json, connection: &Connection| match connection {
        Connection::Raw(_) => frame["data"].clone(),
        _ => frame["data"]["data"].clone(),
    };
    let before = connection.next();
    assert_eq!(data(before, connection), "before", "{what}");
    if !matches!(connection, Connection::Raw(_)) {
        for gap in gaps {
            assert_eq!(without_time(connection.next()), *gap, "{what}");
        }
    }
    let after = connection.next();
    assert_eq!(data(after, connection), "after", "{what}");
}

#[test]
fn gaps_reach_everybody_who_could_have_wanted_the_slots() {
    let a = id('a');
    for format in FORMATS {
        let server = TestServer::start();
        let mut connections: Vec<_> = [
            format!("?process={a}"),
            format!("?topic=from:{a}&process={a}"),
            "?topic=*".to_owned(),
            "?topic=process:*".to_owned(),
            "?match=^process:a".to_owned(),
            "?template=%7B%22topic%22:%22t%22%7D".to_owned(),
            format!("?process={a}&template=%7B%22topic%22:%22t%22%7D"),
        ]
        .into_iter()
        .map(|query| (connect(&server, format, &query), query))
        .collect();
        connections
            .iter_mut()
            .for_each(|(connection, _)| connection.settle());
        let mut other = connect(&server, format, &format!("?process={}", id('b')));
        other.settle();
        for _ in 0..2 {
            let gaps = publish_gaps(&server, &a);
            for (connection, query) in &mut connections {
                expect_gaps(connection, &gaps, &format!("{format} {query}"));
            }
        }
        // Subscribers of other processes have not received them.
        let gaps = publish_gaps(&server, &id('b'));
        expect_gaps(&mut other, &gaps, format);
    }
}

#[test]
fn gaps_alone_are_nothing_on_a_raw_connection() {
    let server = TestServer::start();
    let a = id('a');
    let mut raw = Raw::upgraded(&server, &format!("?process={a}&format=raw"));
    raw.settle();
    server.slots.set_mark(&a, 0);
    for slot in 0..10 {
        let gap = SlotGap::NotCached(range(slot, slot));
        assert_eq!(server.publish_slot_gap(&a, gap), Ok(()));
        server.until_delivered();
    }
    raw.settle();
    server
        .publish_part(&a, at(10, 0), events(&["x"]), true)
        .unwrap();
    assert_eq!(raw.json()["data"], "x");
    // Gaps do not count as messages.
    server.until_stat("deliveries_expected", 1);
    assert_eq!(server.stat("publications"), 1);
    let mut replayed = Raw::upgraded(&server, &format!("?process={a}&format=raw&last=100"));
    assert_eq!(replayed.json()["data"], "x");
}

#[test]
fn gaps_are_replayed_like_messages_in_every_format() {
    let server = TestServer::start();
    let a = id('a');
    let gaps = publish_gaps(&server, &a);
    server.until_delivered();
    for format in FORMATS {
        let mut queries = vec![
            format!("?process={a}&last=100"),
            "?topic=*&last=100".to_owned(),
        ];
        if format != "raw" {
            queries.push(format!("?process={a}&since=0"));
            queries.push("?template=%7B%22topic%22:%22t%22%7D&since=0".to_owned());
        }
        for query in queries {
            let mut connection = connect(&server, format, &query);
            expect_gaps(&mut connection, &gaps, &format!("{format} {query}"));
        }
    }
    // A cursor may lie between them; a client of events gets it from the gap.
    let epoch = server.describe().json["epoch"].as_str().unwrap().to_owned();
    let cursor = format!("{epoch}:3");
    let headers = format!("Last-Event-ID: {cursor}\r\n");
    let mut events = Raw::events(&server, &format!("/events?process={a}"), &headers);
    events.event();
    for (seq, gap) in [(4, &gaps[2]), (5, &gaps[3])] {
        let (frame, id) = events.event();
        assert_eq!(without_time(frame), *gap);
        assert_eq!(id, Some(format!("{epoch}:{seq}")));
    }
    // A request with a cursor replays the same.
    let mut client = Client::connect(&server, "");
    let reply = client.request(
        &json!({"type": "subscribe", "topics": [format!("process:{a}")], "since": cursor}),
    );
    assert_eq!(reply["type"], "subscription_response");
    assert_eq!(without_time(client.next()), gaps[2]);
    assert_eq!(without_time(client.next()), gaps[3]);
    assert_eq!(client.message()["slot"], 7);
    assert_eq!(client.next()["type"], "live");
}

#[test]
fn a_restart_goes_on_in_the_middle_of_a_slot() {
    let first = TestServer::start();
    let a = id('a');
    assert_eq!(
        first.publish_part(&a, at(3, 0), events(&["x"]), true),
        Err(SlotRejected::NoMark)
    );
    first.slots.set_mark(&a, 3);
    first
        .publish_part(&a, at(3, 0), events(&["0", "1"]), false)
        .unwrap();
    first.stop(Disconnect::Restarting);
    let second = first.next();
    let mut client = Client::connect(&second, &format!("?process={a}"));
    assert_eq!(
        second.publish_part(&a, at(3, 3), events(&["3"]), true),
        Err(SlotRejected::Expected(at(3, 2)))
    );
    second
        .publish_part(&a, at(3, 0), events(&["0", "1", "2"]), true)
        .unwrap();
    assert_eq!(client.message()["data"]["data"], "2");
    assert_eq!(
        second.publish_part(&a, at(3, 0), events(&["0"]), true),
        Err(SlotRejected::Repeated)
    );
    assert_eq!(second.stat("dropped_repeated"), 1);
}

/// Checks that the events of one call stand together during other publications, and that those of several calls are in
/// order.
#[test]
fn events_of_a_part_stand_together_in_the_order_of_their_slots() {
    const SLOTS: u64 = 500;
    const EVENTS: [&str; 3] = ["0", "1", "2"];
    let server = TestServer::with(|settings| {
        settings.publish_queue_bytes = 1 << 30;
        settings.send_buffer_bytes = 1 << 30;
    });
    let mut raw = Raw::upgraded(&server, "?topic=*");
    raw.json();
    thread::scope(|scope| {
        for process in ["p", "q"] {
            server.slots.set_mark(process, 0);
            let server = &server;
            scope.spawn(move || {
                for slot in 0..SLOTS {
                    let published =
                        server.publish_part(process, at(slot, 0), events(&EVENTS), true);
                    assert_eq!(published, Ok(()));
                    server.send("plain", "x");
                }
            });
        }
    });
    let mut next = HashMap::from([("p".to_owned(), 0), ("q".to_owned(), 0)]);
    let mut left = (EVENTS.len() as u64 + 1) * 2 * SLOTS;
    while left > 0 {
        let mut frame = raw.json();
        left -= 1;
        let Some(process) = frame["process"].as_str().map(str::to_owned) else {
            continue;
        };
        let slot = next.get_mut(&process).unwrap();
        for expected in EVENTS {
            if expected != EVENTS[0] {
                frame = raw.json();
                left -= 1;
            }
            assert_eq!(
                (&frame["process"], &frame["slot"], &frame["data"]["data"]),
                (&json!(process), &json!(slot), &json!(expected))
            );
        }
        *slot += 1;
    }
    assert!(next.into_values().all(|slots| slots == SLOTS));
}

#[test]
fn an_event_keeps_an_origin_of_its_own() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=*");
    server.slots.set_mark("p", 1);
    let own = Provenance {
        process: Some("inner".into()),
        slot: Some(9),
        from: vec!["p".into()],
        ..Provenance::default()
    };
    server
        .publish_part("p", at(1, 0), vec![with_origin("", "x", own)], true)
        .unwrap();
    let frame = client.message();
    assert_eq!(
        (&frame["process"], &frame["slot"]),
        (&json!("inner"), &json!(9))
    );
    assert_eq!(frame["topics"], json!(["process:inner", "from:p"]));
    assert_eq!(server.slots.mark("p").unwrap().next(), at(2, 0));
    assert_eq!(server.slots.mark("inner"), None);
}

#[test]
fn an_event_that_is_too_large_says_where_it_is() {
    let server = TestServer::with(|settings| settings.max_message_bytes = 100);
    let mut client = Client::connect(&server, "?topic=t");
    server.slots.set_mark("p", 1);
    let large = "x".repeat(100);
    let with_path = Provenance {
        path: Some("/p/compute&slot=1/outbox/2".into()),
        ..Provenance::default()
    };
    let all = vec![
        event("small"),
        with_origin("t,u", &large, with_path.clone()),
        event(&large),
        Event {
            message: None,
            origin: Provenance {
                topics: Some(Value::Text("t".into())),
                ..with_path
            },
        },
        event("last"),
    ];
    assert_eq!(server.publish_part("p", at(1, 0), all, true), Ok(()));
    let frames = client.up_to(5);
    let data: Vec<_> = frames.iter().map(|frame| frame["data"].clone()).collect();
    assert_eq!(
        data,
        [
            json!({"topic": "t", "data": "small"}),
            json!({"$omitted": "too_large", "$get": "/p/compute&slot=1/outbox/2"}),
            json!({"$omitted": "too_large"}),
            json!({"$omitted": "too_large", "$get": "/p/compute&slot=1/outbox/2"}),
            json!({"topic": "t", "data": "last"}),
        ]
    );
    assert_eq!(frames[1]["topics"], json!(["t", "u", "process:p"]));
    assert_eq!(frames[2]["topics"], json!(["t", "process:p"]));
    assert_eq!(frames[3]["topics"], json!(["t", "process:p"]));
    assert_eq!(server.stat("dropped_too_large"), 0);
}

/// Runs several readers of the same cache, which do not know of each other.
#[test]
fn concurrent_publishers_of_the_same_parts_publish_each_event_once_and_in_order() {
    const SLOTS: u64 = 300;
    const PARTS: u64 = 7;
    const CHUNK: u64 = 3;
    let server = TestServer::with(|settings| {
        settings.publish_queue_bytes = 1 << 30;
        settings.send_buffer_bytes = 1 << 30;
    });
    let (a, b) = (id('a'), id('b'));
    server.slots.set_mark(&a, 0);
    server.slots.set_mark(&b, 0);
    let mut raw = Raw::upgraded(&server, "?topic=*");
    raw.json();
    let numbered = |from: u64, to: u64| -> Vec<Event<'static>> {
        let event = |part: u64| Event {
            message: Some(Value::Map(vec![("n".into(), Value::Integer(part as i64))])),
            origin: Provenance::default(),
        };
        (from..to).map(event).collect()
    };
    thread::scope(|scope| {
        for publisher in 0..4_u64 {
            let (server, process) = (&server, if publisher % 2 == 0 { &a } else { &b });
            scope.spawn(move || {
                for slot in 0..SLOTS {
                    for from in (0..PARTS).step_by(CHUNK as usize) {
                        let to = PARTS.min(from + CHUNK);
                        loop {
                            let events = numbered(from, to);
                            let is_last = to == PARTS;
                            match server.publish_part(process, at(slot, from), events, is_last) {
                                Ok(()) | Err(SlotRejected::Repeated) => break,
                                // Another publisher has just published some of it.
                                Err(SlotRejected::Overload) => {}
                                Err(other) => panic!("{other}"),
                            }
                        }
                    }
                }
            });
        }
    });
    let mut next = HashMap::from([(a, 0), (b, 0)]);
    for _ in 0..2 * SLOTS * PARTS {
        let frame = raw.json();
        let place = frame["slot"].as_u64().unwrap() * PARTS + frame["data"]["n"].as_u64().unwrap();
        let next = next.get_mut(frame["process"].as_str().unwrap()).unwrap();
        assert_eq!(place, *next);
        *next += 1;
    }
    assert_eq!(server.stat("publications"), 2 * SLOTS * PARTS);
    assert_eq!(server.stat("results_published"), 2 * SLOTS);
}
