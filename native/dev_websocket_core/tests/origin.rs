//! Tests of the provenance of messages: its place in the frame, and its use in subscriptions.
#![cfg(test)]

mod support;

use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{BadJson, Rejected};
use serde_json::json;

use support::{Client, Raw, TestServer, message, seqs};

/// Percent-encodes a parameter.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn origin() -> Provenance<'static> {
    Provenance {
        process: Some("proc".into()),
        slot: Some(7),
        hashpath: Some("hash/compute".into()),
        path: Some("/proc~process@1.0/compute&slot=7".into()),
        assignment: Some("assigned".into()),
        source: Some("result".into()),
        from: vec!["alice".into(), "bob".into()],
        topics: None,
        is_edge: false,
    }
}

#[test]
fn the_frame_has_the_fields_that_are_known() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=*");
    server.publish_with(&message("t", "x"), &origin()).unwrap();
    let partly = Provenance {
        source: Some("a \"quoted\" source".into()),
        ..Provenance::default()
    };
    server.publish_with(&message("t", "x"), &partly).unwrap();
    server.send("t", "x");
    let mut expected = json!({
        "type": "message", "seq": 1, "topic": "t", "topics": ["t", "process:proc", "from:alice", "from:bob"],
        "process": "proc", "slot": 7, "hashpath": "hash/compute", "path": "/proc~process@1.0/compute&slot=7",
        "assignment": "assigned", "source": "result", "from": ["alice", "bob"],
        "data": {"topic": "t", "data": "x"}
    });
    let mut next = || {
        let mut frame = client.message();
        assert!(frame["timestamp"].take().is_u64());
        frame.as_object_mut().unwrap().remove("timestamp");
        frame
    };
    assert_eq!(next(), expected);
    let fields = expected.as_object_mut().unwrap();
    for unknown in ["process", "slot", "hashpath", "path", "assignment", "from"] {
        fields.remove(unknown);
    }
    fields["topics"] = json!(["t"]);
    fields["seq"] = json!(2);
    fields["source"] = json!("a \"quoted\" source");
    assert_eq!(next(), expected);
    let fields = expected.as_object_mut().unwrap();
    fields.remove("source");
    fields["seq"] = json!(3);
    assert_eq!(next(), expected);
}

#[test]
fn a_raw_frame_is_the_data_alone() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?topic=t&format=raw");
    raw.settle();
    server.publish_with(&message("t", "x"), &origin()).unwrap();
    assert_eq!(raw.text(), r#"{"topic":"t","data":"x"}"#);
}

#[test]
fn subscribers_choose_by_what_the_node_knows() {
    let server = TestServer::start();
    let template = |text: &str| format!("?template={}", encoded(text));
    let choices = [
        "?topic=process:proc".to_owned(),
        "?process=proc".to_owned(),
        "?topic=/proc~process@1.0".to_owned(),
        "?topic=from:bob".to_owned(),
        template("/proc~process@1.0/compute.*slot=7"),
        template(r#"{"process":"proc"}"#),
        template(r#"{"slot":7,"source":"result"}"#),
        template(r#"{"from":["alice","bob"]}"#),
        template(r#"{"process":"proc","data":"x"}"#),
    ];
    let mut clients = choices
        .each_ref()
        .map(|choice| (choice, Client::connect(&server, choice)));
    server.publish_with(&message("t", "x"), &origin()).unwrap();
    let other = Provenance {
        process: Some("other".into()),
        slot: Some(8),
        path: Some("/other".into()),
        from: vec!["carol".into()],
        ..Provenance::default()
    };
    server.publish_with(&message("t", "x"), &other).unwrap();
    let last = server.send("t", "x");
    for (choice, client) in &mut clients {
        assert_eq!(seqs(&client.up_to(last)), [1], "{choice}");
    }
}

#[test]
fn the_path_that_the_node_knows_wins_over_a_written_one() {
    let server = TestServer::start();
    let mut real = Client::connect(&server, &format!("?template={}", encoded("/real")));
    let mut posed = Client::connect(&server, &format!("?template={}", encoded("/posed")));
    let message = Value::Map(vec![("Path".into(), Value::Text("/posed".into()))]);
    let known = Provenance {
        path: Some("/real".into()),
        ..Provenance::default()
    };
    server.publish_with(&message, &known).unwrap();
    let last = server.publish(&message).unwrap();
    assert_eq!(seqs(&real.up_to(last)), [1]);
    assert_eq!(seqs(&posed.up_to(last)), [2]);
}

#[test]
fn a_topic_that_a_stranger_names_is_dropped_when_it_is_the_nodes() {
    let server = TestServer::start();
    let mut victim = Client::connect(&server, "?process=x&topic=from:y,room");
    let named = Provenance {
        topics: Some(Value::Text("process:x,/x~process@1.0,from:y".into())),
        ..Provenance::default()
    };
    server.publish_with(&message("", "posed"), &named).unwrap();
    let room = Provenance {
        topics: Some(Value::List(vec![Value::Text("room".into())])),
        ..Provenance::default()
    };
    let last = server.publish_with(&message("", "x"), &room).unwrap();
    let frames = victim.up_to(last);
    assert_eq!(seqs(&frames), [2]);
    assert_eq!(frames[0]["topics"], json!(["room"]));
    assert_eq!(server.stat("topics_reserved"), 3);
    assert_eq!(server.stat("publications_without_topic"), 1);
}

#[test]
fn json_text_is_a_message() {
    let server = TestServer::with(|settings| settings.max_message_bytes = 200);
    let mut client = Client::connect(&server, "?topic=*");
    let body = br#"{"topic":"t","n":[1,1.5,18446744073709551615],"priv":1}"#;
    assert_eq!(server.publish_json(body, &origin()), Ok(1));
    let frame = client.message();
    assert_eq!(
        frame["data"],
        json!({"topic": "t", "n": [1, 1.5, "18446744073709551615"]})
    );
    assert_eq!(frame["topic"], "t");
    assert_eq!(frame["process"], "proc");
    for bad in [
        &b"{"[..],
        b"",
        b"{} {}",
        b"\xff",
        "[".repeat(150).as_bytes(),
    ] {
        let refused = server.publish_json(bad, &origin());
        assert!(matches!(refused, Err(BadJson::Malformed(_))), "{bad:?}");
    }
    assert_eq!(server.stat("dropped_malformed"), 5);
    let json_of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let publish = |text: String| server.publish_json(text.as_bytes(), &Provenance::default());
    assert_eq!(publish(json_of(200)), Ok(2));
    assert_eq!(
        publish(json_of(201)),
        Err(BadJson::Rejected(Rejected::TooLarge))
    );
    assert_eq!(server.stat("dropped_too_large"), 1);
}
