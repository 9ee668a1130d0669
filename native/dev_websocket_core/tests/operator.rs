//! Tests of the operator's listener, and of a server that takes no requests over the socket.
#![cfg(test)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};

use dev_websocket_core::{Listener, Payload, Server, SettingValue, Settings, StartError};
use serde_json::json;

use support::{BINARY, Client, Raw, Response, TEXT, TestServer, settings, upgrade_request};

fn free_port() -> u64 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port().into()
}

fn at(port: u64) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()).into()
}

fn is_open(port: u64) -> bool {
    TcpStream::connect(at(port)).is_ok()
}

fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut raw = Raw::connect(address);
    raw.write(request);
    raw.response()
}

fn get(port: u64, path: &str, host: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    ask(at(port), request).status
}

fn changed(server: &TestServer, change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = (*server.settings()).clone();
    change(&mut settings);
    settings
}

#[test]
fn the_operators_port_serves_the_same_paths_and_the_same_clients() {
    let port = free_port();
    let server = TestServer::with(|settings| settings.operator_port = port);
    for path in ["/", "/info", "/health", "/metrics", "/client.js"] {
        assert_eq!(get(port, path, "localhost"), 200, "{path}");
    }
    assert_eq!(get(port, "/nowhere", "localhost"), 404);
    let mut public = Raw::upgraded(&server, "?topic=a&format=raw");
    let mut operator = Raw::connect(at(port));
    operator.write(upgrade_request("?topic=a&format=raw"));
    assert_eq!(operator.response().status, 101);
    for raw in [&mut public, &mut operator] {
        raw.settle();
    }
    server.send("a", "x");
    assert_eq!(public.text(), operator.text());
    assert_eq!(server.stat("connections"), 2);
    assert_ne!(u64::from(server.address().port()), port);
}

#[test]
fn the_operators_port_is_opened_moved_and_closed_while_the_server_runs() {
    let server = TestServer::start();
    let (first, second) = (free_port(), free_port());
    let mut client = Client::connect(&server, "?topic=a");
    let public = server.address();
    for (port, open, closed) in [
        (first, vec![first], vec![second]),
        (second, vec![second], vec![first]),
        (0, vec![], vec![first, second]),
        (first, vec![first], vec![second]),
    ] {
        let settings = changed(&server, |settings| settings.operator_port = port);
        server.reconfigure(settings).unwrap();
        assert!(open.iter().all(|port| is_open(*port)));
        assert!(!closed.iter().any(|port| is_open(*port)));
    }
    // From one interface to all of them and back, on the same port.
    for host in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        let settings = changed(&server, |settings| settings.operator_host = host.into());
        server.reconfigure(settings).unwrap();
        assert_eq!(get(first, "/health", "localhost"), 200);
    }
    assert_eq!(server.address(), public);
    let seq = server.send("a", "x");
    assert_eq!(client.message()["seq"], seq);
    server.shutdown(
        dev_websocket_core::Disconnect::Stopping,
        std::time::Duration::ZERO,
    );
    assert!(!is_open(first));
}

#[test]
fn an_operators_port_that_is_taken_is_named_and_leaves_everything_as_it_was() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = u64::from(taken.local_addr().unwrap().port());
    let start = Server::builder(Settings {
        operator_port: port,
        ..settings()
    });
    let error = start.start().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on 127.0.0.1:{port} (operator_port)")
    );

    let own = free_port();
    let server = TestServer::with(|settings| settings.operator_port = own);
    let before = (server.address(), server.settings());
    let other = free_port();
    for settings in [
        changed(&server, |settings| settings.operator_port = port),
        // The other listener could be moved.
        changed(&server, |settings| {
            settings.operator_port = port;
            settings.port = other;
        }),
        changed(&server, |settings| {
            settings.operator_host = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        }),
    ] {
        let error = server.reconfigure(settings).unwrap_err();
        assert!(
            matches!(error, StartError::ListenOperator { .. }),
            "{error}"
        );
    }
    for settings in [
        changed(&server, |settings| {
            settings.operator_port = other;
            settings.port = port;
        }),
        changed(&server, |settings| {
            settings.operator_port = 0;
            settings.port = port;
        }),
    ] {
        let error = server.reconfigure(settings).unwrap_err();
        assert!(matches!(error, StartError::Listen { .. }), "{error}");
    }
    assert_eq!((server.address(), server.settings()), before);
    assert!(is_open(own) && !is_open(other));
    assert_eq!(get(own, "/health", "localhost"), 200);
}

#[test]
fn each_listener_has_the_rules_of_its_own_address() {
    let port = free_port();
    // Bound to all interfaces, the public listener answers to any name; the operator's is on the loopback address.
    let server = TestServer::with(|settings| {
        settings.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        settings.public_host = Ipv4Addr::LOCALHOST.to_string();
        settings.operator_port = port;
    });
    let public = u64::from(server.address().port());
    assert_eq!(get(public, "/metrics", "evil.example"), 200);
    assert_eq!(get(port, "/metrics", "evil.example"), 403);
    assert_eq!(get(port, "/metrics", "127.0.0.1"), 200);
}

#[test]
fn the_proxy_protocol_does_not_apply_to_the_operators_port() {
    let port = free_port();
    let server = TestServer::with(|settings| {
        settings.operator_port = port;
        settings.proxy_protocol = true;
        let trusted = SettingValue::Text("127.0.0.1".into());
        settings.set("trusted_proxies", trusted).unwrap();
    });
    assert_eq!(get(port, "/health", "localhost"), 200);
    let request = upgrade_request("");
    assert_eq!(
        ask(at(port), format!("PROXY UNKNOWN\r\n{request}")).status,
        400
    );
    assert_eq!(
        ask(server.address(), format!("PROXY UNKNOWN\r\n{request}")).status,
        101
    );
}

struct Ear(Sender<Payload>);

impl Listener for Ear {
    fn deliver(&self, _: u64, payload: Payload, _: u32) -> bool {
        self.0.send(payload).is_ok()
    }
}

#[test]
fn without_control_only_pings_are_answered() {
    let server = TestServer::with(|settings| settings.control = false);
    let mut client = Client::connect(&server, "?topic=a");
    for request in [
        json!({"type": "subscribe", "id": 1, "topics": ["b"]}),
        json!({"type": "subscribe", "id": "two", "match": ["("]}),
        json!({"type": "unsubscribe", "id": 3, "topics": ["a"]}),
        json!({"type": "send", "id": 4, "data": "x"}),
        json!({"type": "subscribe"}),
    ] {
        let error = client.request(&request);
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(
            (&error["id"], &error["code"]),
            (&request["id"], &json!("forbidden"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("control is off"), "{message}");
    }
    let pong = client.request(&json!({"type": "ping", "id": 5}));
    assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &json!(5)));
    // Mistakes have the code of the mistake.
    for (text, code) in [
        ("{", "bad_json"),
        (r#"{"type":"x"}"#, "unknown_type"),
        (r#"{"type":"subscribe","id":[]}"#, "bad_id"),
    ] {
        client.send_text(text);
        assert_eq!(client.next()["code"], code);
    }
    server.send("b", "x");
    let seq = server.send("a", "y");
    assert_eq!(client.message()["seq"], seq);
    assert_eq!(server.stat("error_frames"), 8);
}

#[test]
fn control_is_switched_for_open_connections_as_well() {
    let server = TestServer::start();
    let (sender, heard) = channel();
    let _listening = server.inbound.listen(Ear(sender), 1 << 20);
    let mut client = Client::connect(&server, "");
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for is_on in [true, false, true] {
        server
            .reconfigure(changed(&server, |settings| settings.control = is_on))
            .unwrap();
        let reply = client.request(&json!({"type": "subscribe", "topics": ["a"]}));
        let kind = if is_on {
            "subscription_response"
        } else {
            "error"
        };
        assert_eq!(reply["type"], kind);
        client.send(&json!({"type": "send", "data": "x"}));
        raw.send(TEXT, b"y");
        raw.send(BINARY, b"z");
        raw.settle();
        if !is_on {
            assert_eq!(client.next()["code"], "forbidden");
            assert!(heard.try_recv().is_err());
        } else {
            for _ in 0..3 {
                heard.recv().unwrap();
            }
        }
    }
    // The listener hears a message before the connection counts it.
    server.until_stat("inbound_delivered", 6);
    assert_eq!(server.stat("inbound_messages"), 12);
}

#[test]
fn refused_frames_of_raw_connections_count_against_the_rate() {
    let server = TestServer::with(|settings| {
        settings.control = false;
        settings.max_inbound_rate = 3;
    });
    let mut raw = Raw::upgraded(&server, "?format=raw");
    for _ in 0..4 {
        raw.send(TEXT, b"x");
    }
    assert_eq!(raw.closed().1.0, 1008);
}
