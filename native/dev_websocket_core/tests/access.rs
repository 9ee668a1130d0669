//! Access control over real sockets: every way to hand a token over, its life, and its end.
#![cfg(test)]

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::time::Duration;

use dev_websocket_core::{Access, NewToken, Topics};
use serde_json::json;

use self::support::{Client, Raw, TEXT, TestServer, upgrade_request};
use self::tokens::*;

#[test]
fn a_request_without_a_token_is_refused_and_told_how() {
    let server = server();
    for query in [
        "?topic=a",
        "?match=a",
        "?template=%7B%22a%22:1%7D",
        "?process=a",
        "?format=raw",
    ] {
        let response = ask(&server, query, "");
        assert_eq!(response.status, 401, "{query}");
        assert_eq!(
            response.header("www-authenticate"),
            Some("Bearer realm=\"dev_websocket\"")
        );
        assert_eq!(response.refusal().0, "unauthorized");
    }
    assert_eq!(get(&server, "/events?topic=a", "").status, 401);
    assert_eq!(get(&server, "/events", "").status, 401);
    assert_eq!(get(&server, "/metrics", "").status, 401);
    assert_eq!(get(&server, "/health", "").status, 200);
    assert_eq!(get(&server, "/", "").status, 200);
    assert_eq!(server.stat("tokens_missing"), 8);
}

#[test]
fn a_token_is_taken_from_the_header_the_subprotocol_and_the_cookie() {
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys();
        settings.origins = vec!["http://app.example".into()];
        settings.token_cookie = "session".into();
    });
    let token = token(&["a"]);
    for headers in [
        format!("Authorization: Bearer {token}\r\n"),
        format!("authorization: bEARER  {token}\r\n"),
        format!("Sec-WebSocket-Protocol: dev-websocket.v1, bearer.{token}\r\n"),
        format!("Sec-WebSocket-Protocol: bearer.{token}, dev-websocket.v1\r\n"),
        format!("Cookie: x=1; session={token}; y=2\r\n"),
        format!("Cookie: session=bad\r\nAuthorization: Bearer {token}\r\n"),
    ] {
        let response = ask(&server, "?topic=a", &headers);
        assert_eq!(response.status, 101, "{headers}");
        let protocol = response.header("sec-websocket-protocol");
        let offers = headers.starts_with("Sec");
        assert_eq!(protocol, offers.then_some("dev-websocket.v1"));
    }
    // A server without origins takes no cookie: any page could then make a browser send it.
    let open = self::server();
    let cookie = format!("Cookie: session={token}\r\n");
    assert_eq!(ask(&open, "?topic=a", &cookie).status, 401);
}

#[test]
fn wrong_places_and_repeated_tokens_are_refused() {
    let server = server();
    let token = token(&["*"]);
    for (query, headers, status, code) in [
        (
            format!("?topic=a&token={token}"),
            String::new(),
            400,
            "token_in_url",
        ),
        (
            format!("?Access_Token={token}"),
            bearer(&token),
            400,
            "token_in_url",
        ),
        (
            format!("?topic=a&%74oken={token}"),
            bearer(&token),
            400,
            "token_in_url",
        ),
        (
            "?topic=a".into(),
            bearer(&token).repeat(2),
            400,
            "repeated_token",
        ),
        (
            "?topic=a".into(),
            format!("Sec-WebSocket-Protocol: bearer.{token}, bearer.{token}\r\n"),
            400,
            "repeated_token",
        ),
        (
            "?topic=a".into(),
            format!(
                "{}Sec-WebSocket-Protocol: bearer.{token}\r\n",
                bearer(&token)
            ),
            400,
            "repeated_token",
        ),
        (
            "?topic=a".into(),
            "Authorization: Basic YTpi\r\n".into(),
            401,
            "unauthorized",
        ),
        (
            "?topic=a".into(),
            "Authorization: Bearer\r\n".into(),
            401,
            "unauthorized",
        ),
        (
            "?topic=a".into(),
            bearer(&format!("{token}x")),
            401,
            "unauthorized",
        ),
        ("?topic=a".into(), bearer("a.b"), 401, "unauthorized"),
    ] {
        let response = ask(&server, &query, &headers);
        let (known, message) = response.refusal();
        assert_eq!(
            (response.status, known.as_str()),
            (status, code),
            "{query} {headers}"
        );
        assert!(
            !message.contains(&token) && message.contains("token"),
            "{message}"
        );
    }
}

#[test]
fn a_token_decides_what_a_connection_hears() {
    let server = server();
    let token = token(&["prices", "room:*", "process:p"]);
    for (query, status) in [
        ("?topic=prices", 101),
        ("?topic=prices,room:1", 101),
        ("?topic=room:*", 101),
        ("?topic=room:a*", 101),
        ("?process=p", 101),
        ("?topic=prices&template=%7B%22a%22:1%7D", 101),
        ("", 101),
        ("?topic=price", 403),
        ("?topic=prices,other", 403),
        ("?topic=*", 403),
        ("?topic=roo*", 403),
        ("?topic=*room:", 403),
        ("?match=%5Eroom:", 403),
        ("?topic=prices&match=a", 403),
        ("?template=%7B%22a%22:1%7D", 403),
        ("?topic=other&last=5", 403),
    ] {
        let response = ask(&server, query, &bearer(&token));
        assert_eq!(response.status, status, "{query}");
        if status == 403 {
            assert_eq!(response.refusal().0, "forbidden");
            let challenge = response.header("www-authenticate").unwrap();
            assert!(challenge.contains("insufficient_scope"));
        }
    }
    assert_eq!(get(&server, "/metrics", &bearer(&token)).status, 403);
    let all = self::token(&["*"]);
    assert_eq!(get(&server, "/metrics", &bearer(&all)).status, 200);
}

#[test]
fn topic_lists_are_shown_to_holders_of_everything_alone() {
    let server = server();
    server.send("secret", "x");
    server.until_topics(&["secret"]);
    let topics = |headers: &str| get(&server, "/info", headers).json()["topics"].clone();
    assert_eq!(topics(""), json!([]));
    assert_eq!(topics(&bearer(&token(&["a"]))), json!([]));
    assert_eq!(topics(&bearer(&token(&["*"]))), json!(["secret"]));
    assert_eq!(server.info().topics, ["secret"]);
}

#[test]
fn a_token_by_frame_opens_a_connection_and_requests_follow_it() {
    let server = server();
    let mut client = Client::connect(&server, "");
    assert_eq!(client.established.get("token_ends"), None);
    let subscribe = |topic: &str| json!({"type": "subscribe", "id": 2, "topics": [topic]});
    let refused = client.request(&subscribe("a"));
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&json!("unauthorized"), &json!(2))
    );
    let answer = auth(&mut client, &token(&["a", "b"]));
    assert_eq!(
        (&answer["type"], &answer["sub"]),
        (&json!("auth_response"), &json!("alice"))
    );
    assert_eq!(
        client.request(&subscribe("a"))["type"],
        "subscription_response"
    );
    let refused = client.request(&subscribe("c"));
    assert_eq!(refused["code"], "forbidden");
    assert!(refused["message"].as_str().unwrap().ends_with(" c"));
    // A refusal changes nothing.
    server.send("a", "1");
    assert_eq!(client.message()["data"]["data"], "1");
    let refused = client.request(&json!({"type": "send", "id": 3, "data": "x"}));
    assert_eq!(refused["code"], "forbidden");
}

#[test]
fn a_template_is_never_left_without_its_topics() {
    let server = server();
    let mut client = Client::connect(&server, "");
    auth(&mut client, &token(&["a", "b"]));
    let template = json!([{"data": "1"}]);
    let alone = client.request(&json!({"type": "subscribe", "template": template}));
    assert_eq!(alone["code"], "forbidden");
    let both = json!({"type": "subscribe", "topics": ["a", "b"], "template": template});
    assert_eq!(client.request(&both)["type"], "subscription_response");
    let one = client.request(&json!({"type": "unsubscribe", "topics": ["a"]}));
    assert_eq!(one["type"], "unsubscription_response");
    let last = client.request(&json!({"type": "unsubscribe", "topics": ["b"]}));
    assert_eq!(last["code"], "forbidden");
    let all = json!({"type": "unsubscribe", "topics": ["b"], "template": template});
    assert_eq!(client.request(&all)["type"], "unsubscription_response");
}

#[test]
fn public_topics_need_no_token() {
    let server = TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.public_topics = Topics(vec!["News".into(), "open:*".into()]);
        settings.handshake_timeout = Duration::from_millis(200);
    });
    let mut client = Client::connect(&server, "?topic=News");
    assert_eq!(
        client.request(&json!({"type": "subscribe", "topics": ["open:1"]}))["type"],
        "subscription_response"
    );
    assert_eq!(
        client.request(&json!({"type": "subscribe", "topics": ["news"]}))["code"],
        "unauthorized"
    );
    server.send("News", "x");
    assert_eq!(client.message()["data"]["data"], "x");
    assert_eq!(get(&server, "/events?topic=other", "").status, 401);
}

#[test]
fn own_tokens_open_raw_connections_and_events() {
    let server = server();
    let token = server
        .token(&NewToken {
            subject: "wallet".into(),
            topics: vec!["target:wallet".into()],
            send: false,
            seconds: 300,
        })
        .unwrap();
    let headers = bearer(&token);
    let mut events = Raw::events(&server, "/events?topic=target:wallet", &headers);
    assert_eq!(events.event().0["type"], "connection_established");
    assert_eq!(ask(&server, "?topic=target:other", &headers).status, 403);
    let mut raw = Raw::connect(server.address());
    let request = upgrade_request("?topic=target:wallet&format=raw");
    let (start, rest) = request.split_once("\r\n").unwrap();
    raw.write(format!("{start}\r\n{headers}{rest}"));
    assert_eq!(raw.response_head().status, 101);
    server.send("target:wallet", "x");
    assert_eq!(raw.json()["data"], "x");
    // The token grants no sending.
    raw.send(TEXT, b"hello");
    assert_eq!(raw.closed().1, (1008, "not allowed to send".to_owned()));
}

#[test]
fn tokens_and_cookies_are_not_shown() {
    let server = server();
    let token = token(&["*"]);
    let request = upgrade_request("?topic=a");
    let (start, rest) = request.split_once("\r\n").unwrap();
    let mut raw = Raw::connect(server.address());
    let headers = format!(
        "{}Sec-WebSocket-Protocol: dev-websocket.v1\r\n",
        bearer(&token)
    );
    raw.write(format!("{start}\r\n{headers}{rest}"));
    assert_eq!(raw.response_head().status, 101);
    support::until("the connection is listed", || {
        server.connections(0, 10, |_| ()).is_ok()
    });
    let (sender, found) = std::sync::mpsc::channel();
    server
        .connections(0, 10, move |page| sender.send(page).unwrap())
        .unwrap();
    let page = found.recv().unwrap();
    let (sender, found) = std::sync::mpsc::channel();
    server
        .connection(page[0].connection, move |known| sender.send(known).unwrap())
        .unwrap();
    let shown = format!("{page:?} {:?}", found.recv().unwrap());
    assert!(!shown.contains(&token) && !shown.contains("authorization"));
    let metrics = get(&server, "/metrics", &bearer(&token));
    assert!(!metrics.text().contains(&token));
    assert!(
        !get(&server, "/info", &bearer(&token))
            .text()
            .contains(&token)
    );
}
