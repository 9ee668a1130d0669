//! The request that starts a WebSocket: what is upgraded, and how everything else is refused.
#![cfg(test)]

mod support;

use std::time::Duration;

use std::io::Write as _;

use serde_json::json;

use support::{Client, Raw, TEXT, TestServer, frame, upgrade_request};

/// A request for an upgrade with one line replaced by others.
fn with_line(line: &str, replacement: &str) -> String {
    let request = upgrade_request("");
    assert!(request.contains(&format!("{line}\r\n")));
    request.replace(&format!("{line}\r\n"), replacement)
}

#[test]
fn an_upgrade_is_answered_with_the_accept_key_of_rfc_6455() {
    let server = TestServer::start();
    let response = Raw::ask(&server, upgrade_request(""));
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("Upgrade"));
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(response.header("sec-websocket-protocol"), None);
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

#[test]
fn header_values_are_read_as_tokens_in_any_letter_case() {
    let server = TestServer::start();
    for (line, replacement) in [
        ("Connection: Upgrade", "connection: keep-alive, UPGRADE\r\n"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade\r\n",
        ),
        ("Upgrade: websocket", "UPGRADE: WebSocket\r\n"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket\r\n"),
    ] {
        let response = Raw::ask(&server, with_line(line, replacement));
        assert_eq!(response.status, 101, "{replacement}");
    }
}

#[test]
fn a_wrong_path_is_not_found() {
    let server = TestServer::start();
    for path in ["/w", "/wss", "/ws/", "/ws/a", "/WS", "/%77s"] {
        let request = upgrade_request("").replace("/ws ", &format!("{path} "));
        let response = Raw::ask(&server, request);
        assert_eq!(response.status, 404, "{path}");
        let (code, message) = response.refusal();
        assert_eq!(code, "not_found");
        assert!(message.contains("/ws"), "{message}");
    }
}

#[test]
fn a_request_that_is_no_upgrade_is_told_so() {
    let server = TestServer::start();
    let mut requests = vec!["GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()];
    requests.push(with_line("Connection: Upgrade", ""));
    requests.push(with_line("Connection: Upgrade", "Connection: close\r\n"));
    requests.push(with_line("Upgrade: websocket", ""));
    requests.push(with_line("Upgrade: websocket", "Upgrade: h2c\r\n"));
    for request in &requests {
        let response = Raw::ask(&server, request);
        assert_eq!(response.status, 426, "{request}");
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.refusal().0, "not_an_upgrade");
    }
    assert_eq!(server.counters.requests_refused.get(), 5);
    assert_eq!(server.counters.connections_opened.get(), 0);
}

#[test]
fn a_websocket_starts_with_get() {
    let server = TestServer::start();
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let request = upgrade_request("").replace("GET", method);
        let response = Raw::ask(&server, request);
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("GET, OPTIONS"));
        assert_eq!(response.refusal().0, "bad_method");
    }
}

#[test]
fn a_version_other_than_13_is_told_the_right_one() {
    let server = TestServer::start();
    let line = "Sec-WebSocket-Version: 13";
    for replacement in [
        "",
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: x\r\n",
    ] {
        let response = Raw::ask(&server, with_line(line, replacement));
        assert_eq!(response.status, 426, "{replacement:?}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
        assert_eq!(response.refusal().0, "bad_version");
    }
}

#[test]
fn a_key_that_is_not_16_bytes_in_base64_is_refused() {
    let server = TestServer::start();
    let line = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for key in [
        None,
        Some(""),
        Some("dGhlIHNhbXBsZSBub25jZQ"),
        Some("dGhlIHNhbXBsZSBub25j"),
        Some("dGhlIHNhbXBsZSBub25jZSE="),
        Some("!!!!!!!!!!!!!!!!!!!!!!=="),
    ] {
        let header = key.map_or_else(String::new, |key| format!("Sec-WebSocket-Key: {key}\r\n"));
        let response = Raw::ask(&server, with_line(line, &header));
        assert_eq!(response.status, 400, "{key:?}");
        let (code, message) = response.refusal();
        assert_eq!(code, "bad_handshake", "{key:?}");
        assert!(message.contains("Sec-WebSocket-Key"), "{message}");
    }
}

#[test]
fn http_1_0_has_no_upgrades() {
    let server = TestServer::start();
    let response = Raw::ask(&server, upgrade_request("").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(response.status, 400);
    assert_eq!(response.refusal().0, "bad_handshake");
}

#[test]
fn a_bad_parameter_is_refused_by_its_name() {
    let server = TestServer::start();
    let longest = "t".repeat(255);
    let too_long = "t".repeat(256);
    for (query, code, name) in [
        ("?topic=%zz", "bad_encoding", "topic"),
        ("?topic=a%2", "bad_encoding", "topic"),
        ("?topic=%", "bad_encoding", "topic"),
        ("?topic=%ff%fe", "bad_encoding", "topic"),
        ("?a=1&%e4=2", "bad_encoding", "name"),
        ("?unknown=%q0", "bad_encoding", "unknown"),
        ("?topic=a%00b", "bad_topic", "topic"),
        ("?topic=ok,a%0Ab", "bad_topic", "topic"),
        ("?topic=a%7f", "bad_topic", "topic"),
        ("?topic=a%00*", "bad_topic", "topic"),
        ("?match=(", "bad_regex", "match"),
        ("?match=", "bad_regex", "match"),
        ("?match=%5Cw%7B1000%7D", "regex_too_big", "match"),
        ("?template=x", "bad_template", "template"),
        ("?template=%7B%7D", "bad_template", "template"),
        ("?template=[1]", "bad_template", "template"),
        ("?template=/(", "bad_template", "template"),
        ("?since=yesterday", "bad_since", "since"),
        ("?since=7", "bad_since", "since"),
        ("?last=many", "bad_last", "last"),
        ("?last=1001", "bad_last", "last"),
        ("?last=1&since=0", "bad_last", "last"),
        ("?slow=no", "bad_slow", "slow"),
        ("?slow=gap&format=raw", "bad_slow", "slow"),
        (&format!("?topic={too_long}"), "bad_topic", "topic"),
        ("?format=xml", "bad_format", "format"),
        ("?format=", "bad_format", "format"),
        ("?topic=a&format=JSON", "bad_format", "format"),
    ] {
        let response = Raw::ask(&server, upgrade_request(query));
        assert_eq!(response.status, 400, "{query}");
        let (error, message) = response.refusal();
        assert_eq!(error, code, "{query}");
        assert!(message.contains(name), "{query}: {message}");
    }
    assert_eq!(server.stat("connections"), 0);
    let client = Client::connect(&server, &format!("?topic={longest}"));
    assert_eq!(client.established["subscribed_topics"], json!([longest]));
}

#[test]
fn a_url_has_at_most_as_many_topics_as_a_connection() {
    let server = TestServer::with(|settings| settings.max_topics_per_connection = 3);
    for (query, topics) in [
        ("?topic=a,b", json!(["a", "b"])),
        ("?topic=a,b,*", json!(["a", "b", "*"])),
        ("?topic=a,b,c&topic=b,a", json!(["a", "b", "c"])),
    ] {
        let client = Client::connect(&server, query);
        assert_eq!(client.established["subscribed_topics"], topics);
    }
    for query in ["?topic=a,b,c,d", "?topic=a,b&topic=c&topic=*"] {
        let response = Raw::ask(&server, upgrade_request(query));
        assert_eq!(response.status, 400);
        let (code, message) = response.refusal();
        assert_eq!(code, "too_many_topics");
        assert!(message.contains("topic") && message.contains('3'));
    }
}

#[test]
fn topics_of_a_url_are_decoded_then_split_and_trimmed() {
    let server = TestServer::start();
    let client = Client::connect(
        &server,
        "?topic=a%2Cb,%20c+d%20,,a&topic=action%3ATransfer&topic=gr%C3%BC%C3%9Fe&topic=",
    );
    assert_eq!(
        client.established["subscribed_topics"],
        json!(["a", "b", "c d", "action:Transfer", "grüße"])
    );
}

#[test]
fn nothing_chosen_connects_without_subscribing() {
    let server = TestServer::start();
    for query in ["", "?", "?topic=", "?format=json"] {
        let mut client = Client::connect(&server, query);
        assert_eq!(client.established["subscribed_topics"], json!([]));
        assert_eq!(client.established["ignored"], json!([]));
        let seq = server.send("a", "x");
        assert_eq!(client.up_to(seq), Vec::<serde_json::Value>::new());
    }
}

#[test]
fn unknown_parameters_are_told_back() {
    let server = TestServer::start();
    let client = Client::connect(&server, "?token=secret&topic=a&utm&na%20me=1");
    assert_eq!(
        client.established["ignored"],
        json!(["token", "utm", "na me"])
    );
}

#[test]
fn a_subprotocol_is_chosen_only_when_offered() {
    let server = TestServer::start();
    let host = "Host: localhost";
    for (offer, chosen) in [
        (
            "Host: localhost\r\nSec-WebSocket-Protocol: chat\r\n",
            "chat",
        ),
        (
            "Host: localhost\r\nSec-WebSocket-Protocol: one, two\r\n",
            "one",
        ),
    ] {
        let response = Raw::ask(&server, with_line(host, offer));
        assert_eq!(response.status, 101);
        assert_eq!(response.header("sec-websocket-protocol"), Some(chosen));
    }
    let empty = with_line(host, "Host: localhost\r\nSec-WebSocket-Protocol: \r\n");
    let response = Raw::ask(&server, empty);
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-protocol"), None);
}

#[test]
fn frames_sent_together_with_the_request_are_read() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.address());
    let mut bytes = upgrade_request("").into_bytes();
    for id in 1..=40 {
        let ping = json!({"type": "ping", "id": id}).to_string();
        bytes.extend(frame(TEXT, ping.as_bytes()));
    }
    // The last frame arrives in two parts.
    let (packet, rest) = bytes.split_at(bytes.len() - 5);
    raw.write(packet);
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["type"], "connection_established");
    for id in 1..40 {
        assert_eq!(raw.json()["id"], id);
    }
    raw.write(rest);
    assert_eq!(raw.json()["id"], 40);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_served() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.address());
    for byte in upgrade_request("?topic=a").bytes() {
        raw.write([byte]);
    }
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["subscribed_topics"], json!(["a"]));
}

#[test]
fn a_request_with_a_body_or_with_two_keys_is_refused() {
    let server = TestServer::start();
    for line in [
        "Content-Length: 5",
        "Content-Length: 00",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    ] {
        let request = with_line("Host: localhost", &format!("Host: localhost\r\n{line}\r\n"));
        let response = Raw::ask(&server, request);
        assert_eq!(response.status, 400, "{line}");
        assert_eq!(response.refusal().0, "bad_handshake", "{line}");
    }
    let empty = with_line(
        "Host: localhost",
        "Host: localhost\r\nContent-Length: 0\r\n",
    );
    assert_eq!(Raw::ask(&server, empty).status, 101);
}

#[test]
fn a_head_larger_than_the_limit_is_refused_and_the_server_lives_on() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.address());
    let mut head = upgrade_request("").into_bytes();
    head.truncate(head.len() - 2);
    head.extend(format!("X-Padding: {}\r\n\r\n", "x".repeat(1 << 20)).bytes());
    // The server may close while this is still being sent.
    let _ = raw.writer().write_all(&head);
    assert_eq!(raw.response().status, 431);
    raw.drain();
    let many = with_line("Host: localhost", &"X-Header: x\r\n".repeat(1000));
    assert_eq!(Raw::ask(&server, many).status, 431);
    assert_eq!(server.counters.connections_opened.get(), 0);

    let roomy = with_line(
        "Host: localhost",
        &format!("Host: localhost\r\nX-Padding: {}\r\n", "x".repeat(50_000)),
    );
    assert_eq!(Raw::ask(&server, roomy).status, 101);
}

#[test]
fn what_is_no_http_is_refused_and_the_server_lives_on() {
    let server = TestServer::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello there\r\n\r\n",
        b"\r\n\r\n\0",
    ] {
        let mut raw = Raw::connect(server.address());
        raw.write(garbage);
        raw.half_close();
        raw.drain();
    }
    Client::connect(&server, "");
}

#[test]
fn a_client_that_sends_no_whole_request_in_time_is_closed() {
    let server =
        TestServer::with(|settings| settings.handshake_timeout = Duration::from_millis(100));
    for start in ["", "GET /ws HTTP/1.1\r\nHost: te"] {
        let mut raw = Raw::connect(server.address());
        raw.write(start);
        raw.drain();
    }
    assert_eq!(server.counters.connections_opened.get(), 0);
    assert_eq!(Raw::ask(&server, upgrade_request("")).status, 101);
}

#[test]
fn a_client_that_closes_its_side_right_behind_its_request_is_answered_in_every_format() {
    let server = TestServer::start();
    for _ in 0..50 {
        for (request, status) in [
            (upgrade_request("?topic=a"), 101),
            (upgrade_request("?topic=a&format=raw"), 101),
            (
                "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
                200,
            ),
            (
                "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
                200,
            ),
            ("GET /w HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        ] {
            let mut raw = Raw::connect(server.address());
            raw.write(&request);
            raw.half_close();
            assert_eq!(raw.response().status, status, "{request}");
            raw.drain();
        }
    }
    server.until_stat("connections", 0);
    server.until_stat("handshakes", 0);
}

#[test]
fn an_upgraded_connection_outlives_the_handshake_timeout() {
    let server = TestServer::with(|settings| {
        settings.handshake_timeout = Duration::from_millis(100);
        settings.ping_interval = Duration::from_millis(150);
    });
    let mut raw = Raw::upgraded(&server, "?format=raw");
    // The server's own ping tells that the timeout has passed.
    assert_eq!(raw.frame().0, support::PING);
    raw.send(support::PING, b"still here?");
    loop {
        let (first, payload) = raw.frame();
        if first == support::PONG {
            assert_eq!(payload, b"still here?");
            break;
        }
    }
}

#[test]
fn a_refused_connection_is_closed_and_what_follows_the_request_is_not_served() {
    let server = TestServer::start();
    let plain = "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for rest in [&b"\0\0\0garbage"[..], upgrade_request("").as_bytes()] {
        let mut raw = Raw::connect(server.address());
        raw.write([plain.as_bytes(), rest].concat());
        assert_eq!(raw.response().status, 426);
        raw.drain();
    }
    assert_eq!(server.counters.connections_opened.get(), 0);
}

#[test]
fn garbage_behind_an_upgrade_breaks_the_protocol() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.address());
    raw.write([upgrade_request("").as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat());
    assert_eq!(raw.response().status, 101);
    assert_eq!(raw.json()["type"], "connection_established");
    assert_eq!(raw.closed().1.0, 1002);
    server.until_stat("connections", 0);
}

#[test]
fn a_request_abandoned_halfway_leaves_nothing_behind() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.address());
    raw.write("GET /ws HT");
    raw.reset();
    let mut raw = Raw::connect(server.address());
    raw.write(upgrade_request(""));
    raw.reset();
    Client::connect(&server, "");
    server.until_stat("connections", 0);
}

#[test]
fn a_request_has_one_host() {
    let server = TestServer::start();
    for (line, status, code) in [
        ("Host: localhost\r\n", 101, ""),
        ("Host:\r\n", 403, "unknown_host"),
        ("", 400, "bad_host"),
        ("Host: localhost\r\nHost: localhost\r\n", 400, "bad_host"),
        ("Host: localhost\r\nhost: b\r\n", 400, "bad_host"),
    ] {
        let response = Raw::ask(&server, with_line("Host: localhost", line));
        assert_eq!(response.status, status, "{line:?}");
        if status != 101 {
            assert_eq!(response.refusal().0, code);
        }
    }
}

#[test]
fn silent_connections_lose_their_places_to_those_who_speak() {
    let server = TestServer::with(|settings| settings.max_handshakes = 3);
    let mut silent: Vec<_> = (0..5).map(|_| Raw::connect(server.address())).collect();
    let mut client = Client::connect(&server, "?topic=a");
    server.send("a", "x");
    assert_eq!(client.message()["data"]["data"], "x");
    // Three of the five had to go, the first ones. The others keep their places.
    server.until_stat("handshakes_dropped", 3);
    for raw in silent.drain(..3) {
        raw.drain();
    }
    server.until_stat("handshakes", 2);
}
