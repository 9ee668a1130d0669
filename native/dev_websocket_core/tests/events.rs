//! Tests of server-sent events: the subscriptions, limits and policies of a WebSocket, for clients that only read.
#![cfg(test)]

mod support;

use std::time::Duration;

use std::sync::Arc;
use std::sync::mpsc::channel;

use dev_websocket_core::{Direct, Disconnect};
use parking_lot::Mutex;
use serde_json::json;
use support::{Client, PATIENCE, Raw, TestServer, until, upgrade_request};

fn ask(server: &TestServer, request: &str, headers: &str) -> support::Response {
    let mut raw = Raw::connect(server.address());
    raw.write(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
    ));
    if request.starts_with("HEAD") {
        let head = raw.response_head();
        raw.end();
        head
    } else {
        raw.response()
    }
}

/// Returns the status, code and text of a refused request for events.
fn refused(server: &TestServer, target: &str, headers: &str) -> (u16, String, String) {
    let response = ask(server, &format!("GET {target}"), headers);
    let (code, message) = response.refusal();
    (response.status, code, message)
}

fn epoch(server: &TestServer) -> String {
    server.describe().json["epoch"].as_str().unwrap().to_owned()
}

#[test]
fn events_hold_what_frames_hold_and_the_cursor() {
    let server = TestServer::start();
    let epoch = epoch(&server);
    let mut events = Raw::events(&server, "/events?topic=a&other=1", "");
    let mut client = Client::connect(&server, "?topic=a&other=1");
    let (mut established, id) = events.event();
    assert_eq!(id, Some(format!("{epoch}:0")));
    established["timestamp"] = client.established["timestamp"].clone();
    assert_eq!(established, client.established);
    for data in ["x", "two\nlines\r\nand \u{2028}", "\u{fc}"] {
        let seq = server.send("a", data);
        server.send("b", "not for it");
        assert_eq!(
            events.event(),
            (client.message(), Some(format!("{epoch}:{seq}")))
        );
    }
    // Only the client ends the stream.
    drop(events);
    server.until_stat("connections", 1);
}

#[test]
fn the_websocket_endpoint_gives_events_to_who_accepts_only_those() {
    let server = TestServer::start();
    for accept in ["text/event-stream", "text/html, TEXT/event-stream;q=0.9"] {
        let mut events = Raw::events(&server, "/ws?topic=a", &format!("Accept: {accept}\r\n"));
        assert_eq!(events.event().0["type"], "connection_established");
    }
    assert_eq!(
        refused(&server, "/ws", "Accept: */*\r\n").1,
        "not_an_upgrade"
    );
    // A request to upgrade gets a WebSocket.
    let upgrade = upgrade_request("").replace("\r\n\r\n", "\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(Raw::ask(&server, upgrade).status, 101);
}

#[test]
fn a_client_that_comes_again_goes_on_where_it_was() {
    let server = TestServer::start();
    let epoch = epoch(&server);
    for _ in 0..5 {
        server.send("a", "x");
        server.send("b", "x");
    }
    let resume = |target: &str, id: &str| {
        let mut events = Raw::events(&server, target, &format!("Last-Event-ID: {id}\r\n"));
        let (established, id) = events.event();
        assert_eq!(
            (&established["type"], id),
            (&json!("connection_established"), None)
        );
        events
    };
    // The URL holds the cursor of the first connection; the cursor in the header is newer and counts.
    for target in [
        "/events?topic=a",
        "/events?topic=a&since=1",
        "/events?topic=a&last=9",
    ] {
        let mut events = resume(target, &format!("{epoch}:5"));
        for seq in [7, 9] {
            let (message, id) = events.event();
            assert_eq!(
                (&message["seq"], id),
                (&json!(seq), Some(format!("{epoch}:{seq}")))
            );
        }
        let (live, id) = events.event();
        assert_eq!(
            (live, id),
            (
                json!({"type": "live", "seq": 10}),
                Some(format!("{epoch}:10"))
            )
        );
    }
    let mut events = resume("/events?topic=a", "another:3");
    assert_eq!(events.event().0["reason"], "epoch");
    assert_eq!(events.event().0["seq"], 1);
    for (id, part) in [
        ("x", "Last-Event-ID"),
        (&*format!("{epoch}:11"), "newest publication, 10"),
    ] {
        let headers = format!("Last-Event-ID: {id}\r\n");
        let (status, code, message) = refused(&server, "/events?topic=a", &headers);
        assert_eq!((status, &*code), (400, "bad_since"));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_bad_query_is_refused_as_ever() {
    let server = TestServer::start();
    for (query, code) in [
        ("?topic=a%00", "bad_topic"),
        ("?match=(", "bad_regex"),
        ("?slow=x", "bad_slow"),
        ("?format=raw", "bad_format"),
    ] {
        let (status, refused, _) = refused(&server, &format!("/events{query}"), "");
        assert_eq!((status, &*refused), (400, code), "{query}");
    }
    Raw::events(&server, "/events?format=json", "");
}

#[test]
fn a_slow_client_is_told_what_it_missed_or_sent_away() {
    let server = TestServer::with(|settings| {
        settings.send_buffer_bytes = 64 * 1024;
        settings.history_bytes = 0;
    });
    let data = "x".repeat(16 * 1024);
    let small = |query: &str| {
        let mut raw = Raw::connect_with(server.address(), |socket| {
            socket.set_recv_buffer_size(4096).unwrap();
        });
        raw.write(format!(
            "GET /events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        assert_eq!(raw.response().status, 200);
        raw.event();
        raw
    };
    // A client that is sent away has two seconds to take its goodbye, so it is read before the other one.
    let mut close = small("?topic=a&slow=close");
    let mut last = until_dropped(&server, 1, &data);
    let goodbye = loop {
        let (event, _) = close.event();
        if event["type"] != "message" {
            break event;
        }
    };
    let expected = json!({"type": "close", "code": 1013, "reason": "client too slow"});
    assert_eq!(goodbye, expected);
    close.end();
    server.until_stat("connections", 0);
    let mut gap = small("?topic=a");
    let mut next = last + 1;
    last = until_dropped(&server, 400, &data);
    while next <= last {
        let (event, _) = gap.event();
        if event["type"] == "gap" {
            assert_eq!(event["after"], next - 1);
            next += event["dropped"].as_u64().unwrap();
        } else {
            assert_eq!(event["seq"], next);
            next += 1;
        }
    }
}

/// Publishes until this many more messages were dropped for slow clients, and once more. Returns the last number.
fn until_dropped(server: &TestServer, count: u64, data: &str) -> u64 {
    let dropped = || server.counters.dropped_slow.get();
    let before = dropped();
    while dropped() < before + count {
        server.send("a", data);
        server.until_delivered();
    }
    server.send("a", "last")
}

#[test]
fn a_server_that_stops_says_so() {
    let server = TestServer::start();
    let mut events = Raw::events(&server, "/events?topic=a", "");
    events.event();
    std::thread::scope(|scope| {
        scope.spawn(|| server.stop(Disconnect::Stopping));
        let expected = json!({"type": "close", "code": 1001, "reason": "server stopping"});
        assert_eq!(events.event(), (expected, None));
        events.end();
    });
}

#[test]
fn a_silent_stream_has_comments_and_one_that_talks_is_read_to_its_end() {
    let server = TestServer::with(|settings| settings.ping_interval = Duration::from_millis(50));
    let mut events = Raw::events(&server, "/events?topic=a", "");
    events.event();
    events.write("what is this?");
    for _ in 0..5 {
        assert_eq!(events.comment(), ":");
    }
    server.send("a", "x");
    assert_eq!(events.event().0["data"]["data"], "x");
    events.half_close();
    server.until_stat("connections", 0);
}

#[test]
fn they_count_as_connections() {
    let server = TestServer::with(|settings| settings.max_connections = 1);
    let events = Raw::events(&server, "/events", "");
    assert_eq!(refused(&server, "/events", "").1, "full");
    assert_eq!(Raw::ask(&server, upgrade_request("")).status, 503);
    drop(events);
    server.until_stat("connections", 0);
    Client::connect(&server, "");
}

/// Returns the id of the only connection.
fn number(server: &TestServer) -> Option<u64> {
    let (sender, answer) = channel();
    let asked = server.connections(0, 1, move |found| sender.send(found).unwrap());
    asked.ok()?;
    let found = answer.recv_timeout(PATIENCE).unwrap();
    Some(found.first()?.connection)
}

#[test]
fn a_message_to_it_alone_is_an_event() {
    let server = TestServer::start();
    let mut events = Raw::events(&server, "/events?topic=a", "");
    events.event();
    until("its number", || number(&server).is_some());
    let first = number(&server).unwrap();
    let answered = Arc::new(Mutex::new(None));
    let answer = answered.clone();
    server
        .connection(first, move |known| *answer.lock() = known)
        .unwrap();
    until("the answer", || answered.lock().is_some());
    let known = answered.lock().take().unwrap();
    assert_eq!(
        (known.format, known.topics),
        ("events", vec!["a".to_owned()])
    );
    server.send("a", "before");
    (*server).send(first, &Direct::Text("hi")).unwrap();
    server.send("a", "behind");
    let types = [(); 3].map(|()| events.event().0["type"].clone());
    assert_eq!(types, ["message", "direct", "message"]);
}

#[test]
fn pages_of_other_places_may_read() {
    let server = TestServer::start();
    let origin = "Origin: https://app.example\r\n";
    for (request, status) in [
        ("GET /info", 200),
        ("HEAD /info", 200),
        ("OPTIONS /info", 204),
        ("GET /health", 200),
        ("HEAD /events", 200),
        ("OPTIONS /events", 204),
    ] {
        let response = ask(&server, request, origin);
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("connection"), Some("close"));
    }
    let preflight = ask(&server, "OPTIONS /events", origin);
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET, HEAD, OPTIONS")
    );
    // Allowed origins get the permission, others do not.
    let mut settings = support::settings();
    settings.origins = vec!["https://app.example".into()];
    server.reconfigure(settings).unwrap();
    let response = ask(&server, "GET /info", origin);
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(response.header("vary"), Some("Origin"));
    let (status, code, _) = refused(&server, "/events", "Origin: https://evil.example\r\n");
    assert_eq!((status, &*code), (403, "bad_origin"));
    Raw::events(&server, "/events", "");
}

#[test]
fn info_is_the_document_of_the_device_and_health_is_its_state() {
    let server = TestServer::start();
    let _client = Client::connect(&server, "?topic=a");
    let response = ask(&server, "GET /info?ignored", "");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.json(), server.describe().json);
    assert_eq!(response.json()["topics"], json!(["a"]));
    assert_eq!(
        ask(&server, "GET /health", "").json(),
        json!({"status": "ok"})
    );
}

#[test]
fn other_methods_are_refused_and_what_is_switched_off_is_not_there() {
    let server = TestServer::with(|settings| settings.endpoints = vec!["health".into()]);
    for (request, status) in [
        ("POST /health", 405),
        ("DELETE /health", 405),
        ("GET /health", 200),
    ] {
        let response = ask(&server, request, "Content-Length: 0\r\n");
        assert_eq!(response.status, status, "{request}");
        if status == 405 {
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    let accept = "Accept: text/event-stream\r\n";
    for (target, headers) in [
        ("/info", ""),
        ("/events", ""),
        ("/ws", accept),
        ("/metrics", ""),
        ("/", ""),
    ] {
        assert_eq!(refused(&server, target, headers).0, 404, "{target}");
    }
    Client::connect(&server, "");
}
