//! Tests of a server behind proxies: the client's address in headers and in the PROXY protocol, and the public URI.
#![cfg(test)]

mod support;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use dev_websocket_core::{ConnectionInfo, SettingValue};

use support::{Raw, TEXT, TestServer, upgrade_request};

/// The header of version 2 of a connection from 203.0.113.9:4711, with a TLV behind the addresses.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\xcb\x00\x71\x09\xc0\x00\x02\x01\x12\x67\x01\xbb\x04\x00\x01\x00";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const V1: &str = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";

/// Starts a server with trusted proxies and other settings, all as text.
fn behind(proxies: &str, more: &[(&str, &str)]) -> TestServer {
    TestServer::with(|settings| {
        for (name, value) in [("trusted_proxies", proxies)].iter().chain(more) {
            let value = SettingValue::Text((*value).to_owned());
            settings.set(name, value).unwrap();
        }
    })
}

/// Returns an upgrade request with further header lines.
fn request(headers: &str) -> String {
    upgrade_request("?topic=a").replace(
        "Host: localhost\r\n",
        &format!("Host: localhost\r\n{headers}"),
    )
}

/// Sends bytes and returns the connection, which must be upgraded.
fn upgraded(server: &TestServer, bytes: impl AsRef<[u8]>) -> Raw {
    let mut raw = Raw::connect(server.address());
    raw.write(bytes);
    assert_eq!(raw.response().status, 101);
    raw
}

/// Returns the addresses of the open connections, the oldest first.
fn peers(server: &TestServer) -> Vec<String> {
    loop {
        let (sender, page) = channel();
        let answer = move |page: Vec<ConnectionInfo>| sender.send(page).unwrap();
        // A connection is listed shortly after its response.
        if server.connections(0, 100, answer).is_ok()
            && let page = page.recv().unwrap()
            && page.len() as u64 == server.stat("connections")
        {
            return page.iter().map(|known| known.peer.to_string()).collect();
        }
    }
}

fn status(server: &TestServer, request: impl AsRef<[u8]>) -> (Raw, u16) {
    let mut raw = Raw::connect(server.address());
    raw.write(request);
    let status = raw.response().status;
    (raw, status)
}

#[test]
fn a_trusted_proxy_states_the_address_of_its_client() {
    let server = behind("127.0.0.1", &[]);
    let _open: Vec<_> = [
        "",
        "X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n",
        "X-Forwarded-For: 203.0.113.9:4711\r\nX-Forwarded-For: 127.0.0.1\r\n",
        "Forwarded: for=\"[2001:db9::1]:80\";proto=https\r\n",
        "Forwarded: for=198.51.100.1\r\nX-Forwarded-For: ::ffff:203.0.113.9\r\n",
    ]
    .iter()
    .map(|headers| upgraded(&server, request(headers)))
    .collect();
    let mut events = Raw::connect(server.address());
    events.write("GET /events HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n");
    assert_eq!(events.response_head().status, 200);
    let found = peers(&server);
    assert!(found[0].starts_with("127.0.0.1:"));
    assert_eq!(
        found[1..],
        [
            "203.0.113.9:0",
            "203.0.113.9:4711",
            "[2001:db9::1]:80",
            "203.0.113.9:0",
            "203.0.113.7:0"
        ]
    );
}

#[test]
fn the_limit_by_address_counts_clients_of_a_trusted_proxy_and_the_connections_of_a_stranger() {
    let own = [("max_connections_per_ip", "2")];
    let server = behind("127.0.0.0/8,::1", &own);
    let by = |address: &str| request(&format!("X-Forwarded-For: {address}\r\n"));
    let first = [
        upgraded(&server, by("203.0.113.9")),
        upgraded(&server, by("203.0.113.9:80")),
    ];
    let (_refused, code) = status(&server, by("198.51.100.1, 203.0.113.9"));
    assert_eq!(code, 429);
    let _others = [
        upgraded(&server, by("203.0.113.8")),
        upgraded(&server, request("")),
    ];
    drop(first);
    server.until_stat("connections", 2);
    let _again = upgraded(&server, by("203.0.113.9"));

    let server = behind("10.0.0.0/8", &own);
    let _first = [
        upgraded(&server, by("203.0.113.1")),
        upgraded(&server, by("203.0.113.2")),
    ];
    assert_eq!(status(&server, by("203.0.113.3")).1, 429);
    assert!(
        peers(&server)
            .iter()
            .all(|peer| peer.starts_with("127.0.0.1:"))
    );
}

#[test]
fn by_default_the_headers_and_the_protocol_are_not_read() {
    let server = TestServer::start();
    let _open = upgraded(
        &server,
        request("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n"),
    );
    assert!(peers(&server)[0].starts_with("127.0.0.1:"));
    assert_eq!(status(&server, format!("{V1}{}", request(""))).1, 400);
    assert_eq!(server.stat("proxy_headers_refused"), 0);
}

#[test]
fn trusted_proxies_change_while_the_server_runs() {
    let server = behind("", &[]);
    let headers = request("X-Forwarded-For: 203.0.113.9\r\n");
    let _first = upgraded(&server, &headers);
    let mut settings = (*server.settings()).clone();
    settings
        .set("trusted_proxies", SettingValue::Text("127.0.0.1".into()))
        .unwrap();
    server.reconfigure(settings).unwrap();
    let _second = upgraded(&server, &headers);
    let found = peers(&server);
    assert!(found[0].starts_with("127.0.0.1:"));
    assert_eq!(found[1], "203.0.113.9:0");
}

#[test]
fn a_connection_begins_with_a_header_of_the_proxy_protocol() {
    let server = behind("127.0.0.1", &[("proxy_protocol", "on")]);
    let mut open = Vec::new();
    for (header, peer) in [
        (V1.as_bytes(), Some("203.0.113.9:4711")),
        (
            b"PROXY TCP6 2001:db9::1 ::1 4711 443\r\n".as_slice(),
            Some("[2001:db9::1]:4711"),
        ),
        (V2, Some("203.0.113.9:4711")),
        (b"PROXY UNKNOWN\r\n".as_slice(), None),
        (V2_LOCAL, None),
    ] {
        open.push(upgraded(&server, [header, request("").as_bytes()].concat()));
        let found = peers(&server).pop().unwrap();
        match peer {
            Some(peer) => assert_eq!(found, peer),
            None => assert!(found.starts_with("127.0.0.1:"), "{found}"),
        }
    }
    // Frames behind the header and the request are read as ever.
    let mut raw = Raw::connect(server.address());
    for byte in [V2, request("").as_bytes()].concat() {
        raw.write([byte]);
    }
    assert_eq!(raw.response().status, 101);
    raw.json();
    raw.send(TEXT, br#"{"type":"ping","id":1}"#);
    assert_eq!(raw.json()["type"], "pong");
    assert_eq!(server.stat("proxy_headers_refused"), 0);
}

#[test]
fn the_address_of_the_header_counts_only_from_a_trusted_sender() {
    let server = behind("10.0.0.0/8", &[("proxy_protocol", "on")]);
    let _open = upgraded(
        &server,
        format!("{V1}{}", request("X-Forwarded-For: 203.0.113.9\r\n")),
    );
    assert!(peers(&server)[0].starts_with("127.0.0.1:"));
}

#[test]
fn forwarded_addresses_count_if_the_address_of_the_protocol_is_trusted() {
    let server = behind("127.0.0.1,192.0.2.0/24", &[("proxy_protocol", "on")]);
    let headers = request("X-Forwarded-For: 198.51.100.1\r\n");
    let balancer = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    let _open = [balancer, V1].map(|header| upgraded(&server, format!("{header}{headers}")));
    assert_eq!(peers(&server), ["198.51.100.1:0", "203.0.113.9:4711"]);
}

#[test]
fn a_connection_without_a_header_is_closed_unanswered_and_counted() {
    let server = behind(
        "127.0.0.1",
        &[("proxy_protocol", "on"), ("handshake_timeout", "300")],
    );
    let refused = [
        request("").into_bytes(),
        b"PROXY TCP4 203.0.113.9\r\n".to_vec(),
        [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(),
            &[0; 100],
        ]
        .concat(),
    ];
    for (count, bytes) in refused.iter().enumerate() {
        let mut raw = Raw::connect(server.address());
        raw.write(bytes);
        raw.drain();
        assert_eq!(server.stat("proxy_headers_refused"), count as u64 + 1);
    }
    for start in [b"".as_slice(), b"PROXY TCP4 203.0", &V2[..V2.len() - 1]] {
        let begun = Instant::now();
        let mut raw = Raw::connect(server.address());
        raw.write(start);
        raw.drain();
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
    let mut ended = Raw::connect(server.address());
    ended.write(&V1[..20]);
    ended.half_close();
    ended.drain();
    assert_eq!(server.stat("proxy_headers_refused"), 7);
    assert_eq!(server.stat("connections"), 0);
    server.until_stat("handshakes", 0);
    // One that waits does not delay the end of the server.
    let _silent = Raw::connect(server.address());
    server.until_stat("handshakes", 1);
}

#[test]
fn the_public_uri_is_told_and_its_host_is_known() {
    let server = TestServer::start();
    let address = server.address();
    let ask = |host: &str| {
        let mut raw = Raw::connect(address);
        raw.write(format!("GET /info HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        raw.response()
    };
    assert_eq!(ask("push.example").status, 403);
    for (public, uri) in [
        ("wss://Push.example", "wss://Push.example/ws"),
        (
            "wss://push.example:8443/live/ws",
            "wss://push.example:8443/live/ws",
        ),
    ] {
        let mut settings = (*server.settings()).clone();
        settings.public_host = "node.example".into();
        settings
            .set("public_uri", SettingValue::Text(public.into()))
            .unwrap();
        server.reconfigure(settings).unwrap();
        assert_eq!(server.info().uri, uri);
        for host in [
            "push.example",
            "push.example:1",
            "node.example",
            "localhost",
        ] {
            assert_eq!(ask(host).json()["uri"], uri);
        }
        assert_eq!(ask("evil.example").status, 403);
    }
    let mut settings = (*server.settings()).clone();
    let error = settings.set(
        "public_uri",
        SettingValue::Text("https://push.example".into()),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("public_uri must be a WebSocket URL")
    );
}
