//! Access control over real sockets: every way to hand a token over, its life, and its end.

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dev_websocket_core::{Access, NewToken, Revocation, Topics};
use serde_json::{Value as Json, json};

use self::support::{Client, Raw, TEXT, TestServer, upgrade_request};
use self::tokens::{claims, keys, sign};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A server that needs tokens, with the key file of [`keys`].
fn server() -> TestServer {
    TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys();
    })
}

fn token(topics: &[&str]) -> String {
    sign(&claims(now() + 600, topics))
}

/// Asks for an upgrade with further header lines.
fn ask(server: &TestServer, query: &str, headers: &str) -> support::Response {
    let request = upgrade_request(query);
    let (start, rest) = request.split_once("\r\n").unwrap();
    Raw::ask(server, format!("{start}\r\n{headers}{rest}"))
}

fn get(server: &TestServer, target: &str, headers: &str) -> support::Response {
    Raw::ask(
        server,
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"),
    )
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn auth(client: &mut Client, token: &str) -> Json {
    client.request(&json!({"type": "auth", "id": 1, "token": token}))
}

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
    assert_eq!(client.up_to(seq).len(), 1);
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
fn an_open_server_that_closes_its_door_asks_for_tokens() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let unknown = auth(&mut client, "x");
    assert_eq!(
        (&unknown["code"], &unknown["message"]),
        (&json!("unknown_type"), &json!("unknown type \"auth\""))
    );
    let mut settings = support::settings();
    settings.port = u64::from(server.address().port());
    settings.access = Access::Token;
    server.reconfigure(settings).unwrap();
    assert_eq!(client.closed().1.0, 3000);
    assert_eq!(ask(&server, "?topic=a", "").status, 401);
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
