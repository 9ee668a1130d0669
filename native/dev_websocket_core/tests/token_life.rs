//! The life of tokens over real sockets: expiry, refresh, revocation, and changed files.
#![cfg(test)]

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::time::Duration;

use dev_websocket_core::{Access, Revocation};
use serde_json::json;

use self::support::{Client, TestServer};
use self::tokens::*;

#[test]
fn a_refresh_covers_the_subscriptions_and_speaks_for_the_same_subject() {
    let server = server();
    let mut client = Client::connect(&server, "");
    auth(&mut client, &token(&["a", "b"]));
    client.request(&json!({"type": "subscribe", "topics": ["a"]}));
    let narrower = auth(&mut client, &token(&["b"]));
    assert_eq!(narrower["code"], "forbidden");
    let mut other = claims(now() + 600, &["*"]);
    other["sub"] = json!("mallory");
    assert_eq!(auth(&mut client, &sign(&other))["code"], "unauthorized");
    let expired = sign(&claims(now() - 3600, &["*"]));
    assert_eq!(auth(&mut client, &expired)["code"], "unauthorized");
    // The first token is still in force.
    let more = client.request(&json!({"type": "subscribe", "topics": ["b"]}));
    assert_eq!(more["type"], "subscription_response");
    let refreshed = auth(&mut client, &sign(&claims(now() + 900, &["*"])));
    assert!(refreshed["token_ends"].as_u64().unwrap() > (now() + 800) * 1000);
    server.send("a", "1");
    assert_eq!(client.message()["data"]["data"], "1");
}

#[test]
fn a_connection_ends_with_its_token() {
    let server = server();
    let end = now() + 2;
    let token = sign(&claims(end, &["a"]));
    let mut client = Client::connect(&server, "");
    auth(&mut client, &token);
    // A token with less than a minute left is announced at once.
    let announced = client.next();
    assert_eq!(announced["type"], "token_expires");
    assert_eq!(announced["at"], end * 1000);
    client.send(&json!({"type": "subscribe", "topics": ["a"]}));
    // An expired refresh, even a valid signature, moves the end nowhere.
    client.send(&json!({"type": "auth", "token": sign(&claims(now() - 100, &["a"]))}));
    let (frames, close) = client.closed();
    assert_eq!(close, (3000, "token expired".to_owned()));
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(kinds, ["subscription_response", "error"]);
    server.until_stat("closed_unauthorized", 1);
    assert!(server.send("a", "late") > 0);
}

#[test]
fn a_shorter_refresh_ends_the_connection_earlier() {
    let server = server();
    let mut client = Client::connect(&server, "");
    auth(&mut client, &sign(&claims(now() + 3600, &["a"])));
    auth(&mut client, &sign(&claims(now() + 2, &["a"])));
    assert_eq!(client.closed().1.0, 3000);
}

#[test]
fn a_refresh_in_time_keeps_the_connection_and_every_message() {
    let server = server();
    let mut client = Client::connect(&server, "");
    let first_end = now() + 2;
    auth(&mut client, &sign(&claims(first_end, &["a"])));
    assert_eq!(client.next()["type"], "token_expires");
    client.request(&json!({"type": "subscribe", "topics": ["a"]}));
    server.send("a", "before");
    client.send(&json!({"type": "auth", "token": sign(&claims(now() + 600, &["a"]))}));
    server.send("a", "after");
    let mut data = Vec::new();
    while data.len() < 2 {
        let frame = client.next();
        if frame["type"] == "message" {
            data.push(frame["data"]["data"].clone());
        }
    }
    assert_eq!(data, ["before", "after"]);
    // The end of the first token passes, and the connection stays.
    support::until("the first token is over", || now() > first_end + 1);
    let seq = server.send("a", "later");
    let frames = client.up_to(seq);
    assert_eq!(support::seqs(&frames), [seq]);
}

#[test]
fn revoked_tokens_close_their_connections() {
    let server = server();
    let mut by_id = claims(now() + 600, &["a"]);
    by_id["jti"] = json!("17");
    let mut by_subject = claims(now() + 600, &["a"]);
    by_subject["sub"] = json!("bob");
    let [first, second, other] = [by_id, by_subject, claims(now() + 600, &["a"])].map(|claims| {
        let mut client = Client::connect(&server, "");
        assert_eq!(auth(&mut client, &sign(&claims))["type"], "auth_response");
        client
    });
    server.revoke(Revocation::Token("17".into())).unwrap();
    assert_eq!(first.closed().1, (3003, "token revoked".to_owned()));
    server
        .revoke(Revocation::Subject("bob".into(), None))
        .unwrap();
    assert_eq!(second.closed().1.0, 3003);
    let mut other = other;
    assert_eq!(other.request(&json!({"type": "ping"}))["type"], "pong");
    assert_eq!(server.stat("closed_revoked"), 2);
}

#[test]
fn files_of_keys_and_revocations_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (keys_path, revocations) = (path("keys.json"), path("revoked.json"));
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys_path.clone();
        settings.token_revocations = revocations.clone();
    });
    let token = token(&["a"]);
    assert_eq!(ask(&server, "?topic=a", &bearer(&token)).status, 401);
    std::fs::copy(keys(), &keys_path).unwrap();
    support::until("the keys are read", || {
        ask(&server, "?topic=a", &bearer(&token)).status == 101
    });
    let mut client = Client::connect(&server, "");
    auth(&mut client, &token);
    std::fs::write(&revocations, r#"{"sub": {"alice": 99999999999}}"#).unwrap();
    assert_eq!(client.closed().1.0, 3003);
    assert_eq!(ask(&server, "?topic=a", &bearer(&token)).status, 401);
}

#[test]
fn invalid_tokens_in_a_row_close_the_connection() {
    let server = server();
    let mut client = Client::connect(&server, "");
    for _ in 0..4 {
        assert_eq!(auth(&mut client, "a.b.c")["code"], "unauthorized");
    }
    client.send(&json!({"type": "auth", "token": "a.b.c"}));
    assert_eq!(
        client.closed(),
        (Vec::new(), (3000, "token required".to_owned()))
    );
    for (request, field) in [
        (json!({"type": "auth"}), "token"),
        (json!({"type": "auth", "token": 1}), "token"),
        (json!({"type": "auth", "token": "x", "y": 1}), "y"),
    ] {
        let mut client = Client::connect(&server, "");
        let error = client.request(&request);
        assert!(error["message"].as_str().unwrap().contains(field));
    }
}

#[test]
fn a_connection_that_never_sends_a_token_is_closed() {
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.handshake_timeout = Duration::from_millis(200);
    });
    let client = Client::connect(&server, "");
    assert_eq!(
        client.closed(),
        (Vec::new(), (3000, "token required".to_owned()))
    );
}

#[test]
fn an_open_server_that_closes_its_door_asks_for_tokens() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let unknown = auth(&mut client, "x");
    assert_eq!(
        (&unknown["code"], &unknown["message"]),
        (&json!("unknown_type"), &json!("unknown type \"auth\""))
    );
    let malformed = client.request(&json!({"type": "auth"}));
    assert_eq!(malformed["code"], "unknown_type");
    let mut settings = support::settings();
    settings.port = u64::from(server.address().port());
    settings.access = Access::Token;
    server.reconfigure(settings).unwrap();
    assert_eq!(client.closed().1.0, 3000);
    assert_eq!(ask(&server, "?topic=a", "").status, 401);
}

#[test]
fn at_the_limit_of_max_token_bytes() {
    let token = token(&["a"]);
    for (bytes, status) in [(token.len(), 101), (token.len() - 1, 401)] {
        let server = TestServer::with(|settings| {
            settings.access = Access::Token;
            settings.token_keys = keys();
            settings.max_token_bytes = bytes as u64;
        });
        assert_eq!(ask(&server, "?topic=a", &bearer(&token)).status, status);
    }
}

#[test]
fn at_the_limit_of_token_max_life() {
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys();
        settings.token_max_life = Duration::from_secs(100);
    });
    // Clocks may differ by 30 seconds, and this test takes less than 30.
    for (seconds, status) in [(100, 101), (100 + 30, 101), (100 + 30 + 30, 401)] {
        let token = sign(&claims(now() + seconds, &["a"]));
        let response = ask(&server, "?topic=a", &bearer(&token));
        assert_eq!(response.status, status, "{seconds}");
    }
}

#[test]
fn at_the_limit_of_max_logins() {
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys();
        settings.max_logins = 1;
    });
    let headers = bearer(&token(&["a"]));
    // More than one of many quick requests is in the same second, whatever the machine.
    let responses: Vec<_> = (0..50)
        .map(|_| ask(&server, "?topic=a", &headers))
        .collect();
    let busy = responses.iter().find(|response| response.status == 503);
    let busy = busy.unwrap();
    assert_eq!(busy.refusal().0, "busy");
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert!(responses.iter().any(|response| response.status == 101));
}
