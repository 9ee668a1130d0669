//! Tests of `/connections` and `/cast`: what the operator does with them.
#![cfg(test)]

#[path = "support/operator.rs"]
mod operator;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use dev_websocket_core::Access;
use serde_json::{Value as Json, json};

use operator::{WORK, ask, ids, refused, with};
use support::{Client, Raw};

#[test]
fn the_operator_sees_connections_and_ends_one() {
    let (server, _, operator) = with(|_| ());
    let list = |query: &str| {
        let target = format!("/connections{query}");
        ask(operator, ("GET", &target, ""), "").json()
    };
    assert_eq!(list(""), json!({"connections": [], "cursor": null}));
    let long = "l".repeat(250);
    let first = Client::connect(&server, &format!("?topic=a,b,c,d,e,f,g,h,{long}"));
    let mut second = Client::connect(&server, &format!("?topic={long}"));
    let page = list("");
    let known = &page["connections"][0];
    assert_eq!(known["format"], "json");
    assert_eq!(known["subscriptions"], 9);
    assert_eq!(known["topics"].as_array().unwrap().len(), 8);
    let name = page["connections"][1]["topics"][0].as_str().unwrap();
    assert_eq!(name, format!("{}…", &long[..200]));
    for field in ["age", "send_buffer_bytes", "send_buffer_frames", "dropped"] {
        assert!(known[field].is_u64(), "{field}");
    }
    // Page by page.
    let found = ids(&page);
    assert_eq!(ids(&list("?limit=1000")), found);
    let one = list("?limit=1");
    assert_eq!(
        (ids(&one), &one["cursor"]),
        (vec![found[0]], &json!(found[0]))
    );
    let next = list(&format!("?limit=5&cursor={}&other=x", found[0]));
    assert_eq!(
        (ids(&next), &next["cursor"]),
        (vec![found[1]], &json!(null))
    );
    let target = format!("/connections/{}", found[0]);
    let ended = ask(operator, ("DELETE", &target, ""), "");
    assert_eq!(ended.json(), json!({"connection": found[0]}));
    assert_eq!(first.closed().1.0, 1008);
    assert_eq!(server.stat("closed_operator"), 1);
    assert_eq!(
        refused(operator, ("DELETE", &target, ""), ""),
        (404, "no_connection".to_owned())
    );
    // The other one lives.
    let seq = server.send(&long, "x");
    assert_eq!(second.message()["seq"], seq);
}

#[test]
fn the_operator_casts_a_message() {
    let (server, _, operator) = with(|_| ());
    let mut client = Client::connect(&server, "?topic=test");
    let body = r#" {"topic":"test","data":{"n":1.5},"action":"Try","private":"no"}"#;
    let headers = "Content-Type: Application/JSON; charset=utf-8\r\n";
    let response = ask(operator, ("POST", "/cast", body), headers).json();
    let message = client.message();
    assert_eq!(message["seq"], response["seq"]);
    assert_eq!(message["topics"], json!(["test", "action:Try"]));
    assert_eq!(message["source"], "operator");
    assert_eq!(
        message["data"],
        json!({"topic": "test", "data": {"n": 1.5}, "action": "Try"})
    );
    // In parts as well.
    let mut raw = Raw::connect(operator);
    raw.write("POST /cast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw.write("8\r\n{\"topic\"\r\n8\r\n:\"test\"}\r\n0\r\n\r\n");
    let seq = raw.response().json()["seq"].clone();
    assert_eq!(client.message()["seq"], seq);
}

#[test]
fn a_cast_message_speaks_for_no_process_and_no_sender() {
    let (server, _, operator) = with(|_| ());
    let mut client = Client::connect(&server, "?topic=*");
    let body = json!({
        "topic": ["process:p1", "from:alice", "mine"], "process": "p1", "from": "alice", "slot": 3,
        "topics": ["process:p2"], "source": "node", "from-process": "p3",
    });
    let seq = ask(operator, ("POST", "/cast", &body.to_string()), "").json()["seq"].clone();
    let message = client.message();
    assert_eq!(
        (&message["seq"], &message["source"]),
        (&seq, &json!("operator"))
    );
    for field in ["process", "slot", "from"] {
        assert!(message.get(field).is_none(), "{message}");
    }
    let topics: Vec<_> = message["topics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Json::as_str)
        .collect();
    assert!(topics.contains(&"mine"), "{topics:?}");
    for topic in &topics {
        let is_reserved = topic.starts_with("process:") || topic.starts_with("from:");
        assert!(!is_reserved, "{topic}");
    }
}

#[test]
fn info_names_what_serves_the_caller() {
    let offered = |door, headers| {
        let info = ask(door, ("GET", "/info", ""), headers).json();
        info.get("operator").cloned()
    };
    let (_server, public, operator) = with(|_| ());
    assert_eq!(offered(public, ""), None);
    assert_eq!(offered(operator, ""), Some(json!(["connections", "cast"])));
    let (_server, public, operator) = with(|settings| {
        settings.endpoints = vec!["info".into(), "cast".into()];
    });
    assert_eq!(
        (offered(public, ""), offered(operator, "")),
        (None, Some(json!(["cast"])))
    );
    let (_server, public, _) = with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = tokens::keys();
    });
    let read = format!("Authorization: Bearer {}\r\n", tokens::token(&["*"]));
    assert_eq!((offered(public, ""), offered(public, &read)), (None, None));
}

#[test]
fn a_message_without_audience_is_said_to_have_none() {
    let (server, _, operator) = with(|settings| settings.history_bytes = 0);
    assert_eq!(
        refused(operator, WORK[2], ""),
        (409, "no_audience".to_owned())
    );
    assert_eq!(server.stat("dropped_no_audience"), 1);
}
