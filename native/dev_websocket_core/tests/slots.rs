//! The results of a process: each slot once, in order, and its events together.
#![cfg(test)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dev_websocket_core::message::Value;
use dev_websocket_core::message::origin::Origin;
use dev_websocket_core::{Disconnect, Event, Rejected};
use serde_json::json;

use support::{Client, Raw, TestServer, message, seqs};

fn event(data: &str) -> Event<'_> {
    with_origin("t", data, Origin::default())
}

fn with_origin<'a>(topics: &'a str, data: &'a str, origin: Origin<'a>) -> Event<'a> {
    Event {
        message: Some(message(topics, data)),
        origin,
    }
}

fn events<'a>(data: &[&'a str]) -> Vec<Event<'a>> {
    data.iter().map(|data| event(data)).collect()
}

#[test]
fn each_slot_is_published_once_and_never_after_a_later_one() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?process=p");
    assert_eq!(server.wants_slot("p", 3), Ok(()));
    assert_eq!(server.publish_slot("p", 3, events(&["a", "b"])), Ok(()));
    assert_eq!(server.wants_slot("p", 3), Err(Rejected::Repeated));
    assert_eq!(server.stat("dropped_repeated"), 0);
    for past in [3, 2, 0] {
        let repeated = server.publish_slot("p", past, events(&["again", "again"]));
        assert_eq!(repeated, Err(Rejected::Repeated));
    }
    assert_eq!(server.stat("dropped_repeated"), 3);
    // A slot without events is published too.
    assert_eq!(server.publish_slot("p", 4, vec![]), Ok(()));
    assert_eq!(server.wants_slot("p", 4), Err(Rejected::Repeated));
    assert_eq!(server.publish_slot("other", 3, events(&["x"])), Ok(()));
    assert_eq!(server.publish_slot("p", 5, events(&["c"])), Ok(()));
    let frames = client.up_to(4);
    assert_eq!(seqs(&frames), [1, 2, 4]);
    let told: Vec<_> = frames
        .iter()
        .map(|frame| json!([frame["process"], frame["slot"], frame["data"]["data"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["p", 3, "a"]),
            json!(["p", 3, "b"]),
            json!(["p", 5, "c"])
        ]
    );
    assert_eq!(server.stat("publications"), 4);
}

#[test]
fn an_event_keeps_an_origin_of_its_own() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=*");
    let own = Origin {
        process: Some("inner".into()),
        slot: Some(9),
        from: vec!["p".into()],
        ..Origin::default()
    };
    server
        .publish_slot("p", 1, vec![with_origin("", "x", own)])
        .unwrap();
    let frame = client.message();
    assert_eq!(
        (&frame["process"], &frame["slot"]),
        (&json!("inner"), &json!(9))
    );
    assert_eq!(frame["topics"], json!(["process:inner", "from:p"]));
    assert_eq!(server.wants_slot("p", 1), Err(Rejected::Repeated));
    assert_eq!(server.wants_slot("inner", 1), Ok(()));
}

#[test]
fn without_an_audience_no_slot_is_marked() {
    let server = TestServer::with(|settings| settings.history_bytes = 0);
    assert!(!server.is_heard());
    assert_eq!(server.stat("dropped_no_audience"), 0);
    assert_eq!(server.wants_slot("p", 1), Err(Rejected::NoAudience));
    assert_eq!(
        server.publish_slot("p", 1, events(&["x"])),
        Err(Rejected::NoAudience)
    );
    assert_eq!(server.stat("dropped_no_audience"), 2);
    let mut client = Client::connect(&server, "?process=p");
    assert!(server.is_heard());
    assert_eq!(server.publish_slot("p", 1, events(&["x"])), Ok(()));
    assert_eq!(client.message()["slot"], 1);
}

#[test]
fn a_restart_repeats_nothing() {
    let first = TestServer::start();
    assert_eq!(first.publish_slot("p", 3, events(&["x"])), Ok(()));
    first.stop(Disconnect::Restarting);
    let second = first.next();
    assert_eq!(second.wants_slot("p", 3), Err(Rejected::Repeated));
    assert_eq!(
        second.publish_slot("p", 3, events(&["x"])),
        Err(Rejected::Repeated)
    );
    assert_eq!(second.publish_slot("p", 4, events(&["x"])), Ok(()));
    assert_eq!(second.stat("seq"), 1);
}

#[test]
fn an_event_that_is_too_large_says_where_it_is() {
    let server = TestServer::with(|settings| settings.max_message_bytes = 100);
    let mut client = Client::connect(&server, "?topic=t");
    let large = "x".repeat(100);
    let with_path = Origin {
        path: Some("/p/compute&slot=1/outbox/2".into()),
        ..Origin::default()
    };
    let all = vec![
        event("small"),
        with_origin("t,u", &large, with_path.clone()),
        event(&large),
        Event {
            message: None,
            origin: Origin {
                topics: Some(Value::Text("t".into())),
                ..with_path
            },
        },
        event("last"),
    ];
    assert_eq!(server.publish_slot("p", 1, all), Ok(()));
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

#[test]
fn an_event_without_room_is_lost_in_its_place() {
    let server = TestServer::with(|settings| {
        settings.ingress_bytes = 64 << 10;
        settings.history_bytes = 1 << 20;
    });
    let mut client = Client::connect(&server, "?process=p");
    let huge = "x".repeat(64 << 10);
    let all = events(&["before", &huge, "after"]);
    assert_eq!(server.publish_slot("p", 1, all), Ok(()));
    assert_eq!(client.message()["data"]["data"], "before");
    let gap = client.next();
    assert_eq!(
        (&gap["type"], &gap["reason"]),
        (&json!("gap"), &json!("overload"))
    );
    assert_eq!(client.message()["data"]["data"], "after");
    assert_eq!(server.stat("dropped_overload"), 1);
    assert_eq!(server.stat("publications"), 2);
    assert_eq!(server.wants_slot("p", 1), Err(Rejected::Repeated));
}

/// Many threads publish the slots of the same processes, each slot several times; plain messages come between.
#[test]
fn concurrent_publishers_keep_the_order_of_slots_and_their_events_together() {
    const PUBLISHERS: u64 = 4;
    const SLOTS: u64 = 2000;
    const EVENTS: [&str; 3] = ["0", "1", "2"];
    let server = TestServer::with(|settings| {
        settings.ingress_bytes = 1 << 30;
        settings.pending_bytes = 1 << 30;
    });
    let mut raw = Raw::upgraded(&server, "?topic=*");
    raw.json();
    let published = AtomicU64::new(0);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (server, published) = (&server, &published);
            scope.spawn(move || {
                for slot in 0..SLOTS {
                    let process = if (slot + publisher) % 2 == 0 {
                        "p"
                    } else {
                        "q"
                    };
                    match server.publish_slot(process, slot, events(&EVENTS)) {
                        Ok(()) => {
                            published.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(rejected) => assert_eq!(rejected, Rejected::Repeated),
                    }
                    server.send("plain", "x");
                }
            });
        }
    });
    let published = published.into_inner();
    assert_eq!(
        server.stat("dropped_repeated"),
        PUBLISHERS * SLOTS - published
    );
    let mut last = HashMap::new();
    let mut slots = 0;
    let mut left = EVENTS.len() as u64 * published + PUBLISHERS * SLOTS;
    while left > 0 {
        let frame = raw.json();
        left -= 1;
        let Some(slot) = frame["slot"].as_u64() else {
            continue;
        };
        let process = frame["process"].as_str().unwrap().to_owned();
        for expected in EVENTS {
            // The first was read to know the slot.
            let frame = if expected == EVENTS[0] {
                frame.clone()
            } else {
                left -= 1;
                raw.json()
            };
            assert_eq!(frame["data"]["data"], expected);
            assert_eq!(
                (&frame["process"], &frame["slot"]),
                (&json!(process), &json!(slot))
            );
        }
        if let Some(before) = last.insert(process, slot) {
            assert!(slot > before, "{slot} after {before}");
        }
        slots += 1;
    }
    assert_eq!(slots, published);
    let expected = HashMap::from([("p".to_owned(), SLOTS - 1), ("q".to_owned(), SLOTS - 1)]);
    assert_eq!(last, expected);
}
