//! Small rules of HTTP: what pages can read of a refusal, preflights, other protocols, half-closed connections.
#![cfg(test)]

mod support;

use serde_json::json;
use support::{Client, Raw, Response, TestServer, upgrade_request};

const ORIGIN: &str = "Origin: https://app.example\r\n";

fn ask(server: &TestServer, request: &str, headers: &str) -> Response {
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    Raw::ask(server, request)
}

/// A request for events, and what it is refused with.
fn refused(server: &TestServer, target: &str, headers: &str) -> (u16, String, String) {
    let response = ask(server, &format!("GET {target}"), headers);
    let (code, message) = response.refusal();
    (response.status, code, message)
}

#[test]
fn pages_can_read_why_they_were_refused() {
    let server = TestServer::with(|settings| settings.max_connections = 0);
    let refused = [
        ("GET /events?topic=%00", 400, ""),
        ("GET /ws?topic=%00", 400, "Accept: text/event-stream\r\n"),
        ("GET /nowhere", 404, ""),
        ("POST /info", 405, "Content-Length: 0\r\n"),
        ("GET /ws", 426, ""),
        ("GET /events", 503, ""),
        ("GET /ws", 503, "Accept: text/event-stream\r\n"),
    ];
    for (request, status, headers) in refused {
        let response = ask(&server, request, &format!("{ORIGIN}{headers}"));
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        let exposed = response.header("access-control-expose-headers");
        assert_eq!(exposed.is_some(), status == 503, "{request}");
    }
    // Where origins are named, those may read it and no others.
    let mut settings = support::settings();
    settings.max_connections = 0;
    settings.origins = vec!["https://app.example".into()];
    server.reconfigure(settings).unwrap();
    for (request, status, headers) in refused {
        let response = ask(&server, request, &format!("{ORIGIN}{headers}"));
        assert_eq!(response.status, status, "{request}");
        let allowed = response.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"), "{request}");
        assert_eq!(response.header("vary"), Some("Origin"));
        let other = format!("Origin: https://evil.example\r\n{headers}");
        let response = ask(&server, request, &other);
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
}

#[test]
fn refusals_that_pass_say_when_to_come_again() {
    let server = TestServer::with(|settings| {
        settings.max_connections_per_ip = 1;
        settings.max_regexes = 0;
    });
    let after = |request: &str| {
        let response = Raw::ask(&server, request);
        (
            response.status,
            response.header("retry-after").map(str::to_owned),
        )
    };
    let seconds = Some("5".to_owned());
    assert_eq!(after(&upgrade_request("?match=x")), (503, seconds.clone()));
    let _client = Client::connect(&server, "");
    assert_eq!(after(&upgrade_request("")), (429, seconds.clone()));
    assert_eq!(after(&upgrade_request("?topic=%00")), (400, None));
    let mut full = support::settings();
    full.max_connections = 1;
    server.reconfigure(full).unwrap();
    assert_eq!(after(&upgrade_request("")), (503, seconds));
}

#[test]
fn the_websocket_endpoint_takes_preflights_as_the_events_do() {
    let server = TestServer::start();
    let asked = format!(
        "{ORIGIN}Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: last-event-id\r\n"
    );
    for path in ["/ws", "/events"] {
        let response = ask(&server, &format!("OPTIONS {path}?topic=a"), &asked);
        assert_eq!(response.status, 204, "{path}");
        for (name, value) in [
            ("allow", "GET, HEAD, OPTIONS"),
            ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
            (
                "access-control-allow-headers",
                "Last-Event-ID, Cache-Control",
            ),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
    }
    let allowed = |server: &TestServer, method: &str| {
        let response = ask(server, &format!("{method} /ws"), "Content-Length: 0\r\n");
        assert_eq!(response.status, 405, "{method}");
        response.header("allow").map(str::to_owned)
    };
    assert_eq!(allowed(&server, "POST").as_deref(), Some("GET, OPTIONS"));
    // Without events there is nothing to ask for beforehand.
    let without = TestServer::with(|settings| settings.endpoints = vec!["info".into()]);
    assert_eq!(allowed(&without, "OPTIONS").as_deref(), Some("GET"));
}

#[test]
fn an_upgrade_to_another_protocol_is_no_wish_for_a_websocket() {
    let server = TestServer::start();
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for path in ["/ws?topic=a", "/events?topic=a"] {
        let mut events = Raw::events(
            &server,
            path,
            &format!("{h2c}Accept: text/event-stream\r\n"),
        );
        assert_eq!(events.event().0["type"], "connection_established");
    }
    assert_eq!(ask(&server, "GET /info", h2c).status, 200);
    assert_eq!(refused(&server, "/ws", h2c).1, "not_an_upgrade");
    // One of several is enough.
    let several = upgrade_request("").replace("Upgrade: websocket", "Upgrade: h2c, WebSocket");
    let several = several.replace("\r\n\r\n", "\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(Raw::ask(&server, several).status, 101);
}

#[test]
fn a_cursor_may_stand_in_the_url_and_an_empty_one_is_none() {
    let server = TestServer::start();
    let epoch = server.describe().json["epoch"].as_str().unwrap().to_owned();
    for _ in 0..5 {
        server.send("a", "x");
    }
    let first = |target: &str, headers: &str| {
        let mut events = Raw::events(&server, target, headers);
        assert_eq!(events.event().0["type"], "connection_established");
        events.event().0["seq"].clone()
    };
    let cursor = |seq: u64| format!("lastEventId={epoch}:{seq}");
    for path in ["/events", "/ws"] {
        let accept = "Accept: text/event-stream\r\n";
        let target = format!("{path}?topic=a&{}", cursor(2));
        assert_eq!(first(&target, accept), json!(3));
        // It is newer than the rest of the URL, and the header is newer still.
        assert_eq!(first(&format!("{target}&since=1"), accept), json!(3));
        assert_eq!(first(&format!("{target}&last=1"), accept), json!(3));
        let header = format!("{accept}Last-Event-ID: {epoch}:4\r\n");
        assert_eq!(first(&target, &header), json!(5));
        // Who has nothing yet says nothing.
        for empty in ["Last-Event-ID:\r\n", "Last-Event-ID: \r\n"] {
            let headers = format!("{accept}{empty}");
            assert_eq!(first(&target, &headers), json!(3));
            assert_eq!(
                first(&format!("{path}?topic=a&since=1"), &headers),
                json!(2)
            );
            assert_eq!(
                first(&format!("{path}?topic=a&since=1&lastEventId="), &headers),
                json!(2)
            );
        }
    }
    for (query, headers, name) in [
        ("?lastEventId=x", "", "lastEventId: "),
        ("?lastEventId=99", "", "since is ahead"),
        ("", "Last-Event-ID: x\r\n", "Last-Event-ID: "),
        ("?lastEventId=1", "Last-Event-ID: x\r\n", "Last-Event-ID: "),
    ] {
        let (status, code, message) = refused(&server, &format!("/events{query}"), headers);
        assert_eq!((status, &*code), (400, "bad_since"), "{query} {headers}");
        assert!(message.contains(name), "{message}");
    }
    // A header that is no text at all is no cursor either.
    let mut bytes =
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\r\n\r\n".to_vec();
    assert_eq!(Raw::ask(&server, &bytes).refusal().0, "bad_since");
    bytes.clear();
    // A WebSocket has frames to say so; there the parameter means nothing.
    let client = Client::connect(&server, &format!("?{}", cursor(2)));
    assert_eq!(client.established["ignored"], json!(["lastEventId"]));
}

#[test]
fn the_preface_of_http_2_is_refused_with_400() {
    let server = TestServer::start();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    for rest in [&b""[..], settings] {
        let mut raw = Raw::connect(server.address());
        raw.write([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], rest].concat());
        let response = raw.response();
        assert_eq!(response.status, 400);
        assert_eq!(response.header("connection"), Some("close"));
        raw.end();
    }
    Client::connect(&server, "");
}

#[test]
fn a_client_that_ends_its_side_right_behind_its_request_is_answered() {
    let server = TestServer::start();
    for _ in 0..50 {
        for (request, status) in [
            (upgrade_request("?topic=a"), 101),
            (upgrade_request("?topic=a&format=raw"), 101),
            (
                "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
                200,
            ),
            ("GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 200),
            (
                "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
                404,
            ),
        ] {
            let mut raw = Raw::connect(server.address());
            raw.write(&request);
            raw.half_close();
            assert_eq!(raw.response_head().status, status, "{request}");
            if request.contains("/events") {
                assert_eq!(raw.event().0["type"], "connection_established");
            } else if request.contains("Upgrade") && !request.contains("raw") {
                assert_eq!(raw.json()["type"], "connection_established");
            }
            raw.drain();
        }
    }
    server.until_stat("connections", 0);
    assert_eq!(server.counters.connections_opened.get(), 150);
}

#[test]
fn a_client_that_ends_its_side_within_its_request_is_no_client() {
    let server = TestServer::start();
    let request = upgrade_request("?topic=a");
    for end in [0, 1, 20, request.len() - 1] {
        let mut raw = Raw::connect(server.address());
        raw.write(&request[..end]);
        raw.half_close();
        raw.drain();
    }
    assert_eq!(server.counters.connections_opened.get(), 0);
    server.until_stat("handshakes", 0);
}

#[cfg(feature = "internals")]
#[test]
fn a_server_that_cannot_take_casts_says_when_to_ask_for_its_health_again() {
    let server = TestServer::start();
    let _client = Client::connect(&server, "?topic=a");
    let (sender, answer) = std::sync::mpsc::channel();
    support::until("the number of the client", || {
        let sender = sender.clone();
        let asked = server.connections(0, 1, move |found| sender.send(found).unwrap());
        asked.is_ok()
    });
    let number = answer.recv_timeout(support::PATIENCE).unwrap()[0].connection;
    let (held, release) = std::sync::mpsc::channel::<()>();
    dev_websocket_core::internals::on_shard(&server, number, move || {
        let _ = release.recv();
    });
    server.send("a", "x");
    let mut settings = support::settings();
    settings.publish_queue_bytes = server.stat("publish_queued_bytes");
    server.reconfigure(settings).unwrap();
    let response = ask(&server, "GET /health", ORIGIN);
    assert_eq!(response.status, 503);
    assert_eq!(
        response.json(),
        json!({"status": "unavailable", "reason": "overload"})
    );
    assert_eq!(response.header("retry-after"), Some("5"));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    drop(held);
    server.until_delivered();
    assert_eq!(ask(&server, "GET /health", "").status, 200);
}
