//! TLS in the server itself: `tls_cert` and `tls_key`.
#![cfg(test)]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use dev_websocket_core::{Disconnect, Reconfigured, Server, Settings, StartError};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::protocol::Message;

use support::{PATIENCE, Raw, TestServer, message, until, upgrade_request};

use self::tls::*;

#[test]
fn all_clients_get_every_byte_of_a_burst_in_order() {
    const COUNT: usize = 3000;
    let (files, cert) = Files::new();
    let server = TestServer::with(|settings| {
        files.apply(settings);
        settings.send_buffer_bytes = 64 * 1024 * 1024;
        settings.history_bytes = 0;
    });
    let fast: Vec<_> = (0..8)
        .map(|_| websocket(&server, &cert, "?topic=a"))
        .collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address(&server).into()).unwrap();
    let slow = upgraded(over(socket.into(), &cert), "?topic=a");
    for number in 0..COUNT {
        server.send("a", &numbered(number));
    }
    // The slow client has read nothing so far, so its socket is full.
    until("a full socket", || server.stat("send_buffer_bytes") > 0);
    std::thread::scope(|scope| {
        for mut client in fast.into_iter().chain([slow]) {
            scope.spawn(move || {
                for number in 0..COUNT {
                    assert_eq!(json(&mut client)["data"]["data"], numbered(number).as_str());
                }
            });
        }
    });
    server.until_stat("deliveries", 9 * COUNT as u64);
    server.until_stat("send_buffer_bytes", 0);
}

#[test]
fn control_messages_pings_and_close_frames_pass() {
    let (files, cert) = Files::new();
    let server = TestServer::with(|settings| {
        files.apply(settings);
        settings.ping_interval = Duration::from_millis(50);
    });
    let mut client = websocket(&server, &cert, "");
    client.send(Message::Ping(b"x".to_vec().into())).unwrap();
    loop {
        match client.read().unwrap() {
            Message::Pong(payload) => break assert_eq!(&payload[..], b"x"),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // The server's own pings come through as well.
    assert!(matches!(client.read().unwrap(), Message::Ping(_)));
    let large = format!(
        r#"{{"type":"subscribe","topics":["a"],"id":"{}"}}"#,
        "i".repeat(200)
    );
    client.send(Message::text(large)).unwrap();
    assert_eq!(json(&mut client)["type"], "subscription_response");
    server.publish(&message("a", "b")).unwrap();
    assert_eq!(json(&mut client)["data"]["data"], "b");
    client.close(None).unwrap();
    loop {
        match client.read() {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(
                    error,
                    tokio_tungstenite::tungstenite::Error::ConnectionClosed
                ));
                break;
            }
        }
    }
    server.until_stat("closed_by_client", 1);
    let mut told = websocket(&server, &cert, "");
    let stopping = std::thread::spawn(move || server.stop(Disconnect::Stopping));
    let code = loop {
        if let Message::Close(frame) = told.read().unwrap() {
            break u16::from(frame.unwrap().code);
        }
    };
    assert_eq!(code, 1001);
    // The stream ends with the alert that proves that nothing was cut off.
    while told.read().is_ok() {}
    let mut rest = Vec::new();
    assert!(matches!(told.get_mut().read_to_end(&mut rest), Ok(0)));
    drop(told);
    stopping.join().unwrap();
}

#[test]
fn events_and_plain_requests_are_served() {
    let (files, cert) = Files::new();
    let server = files.server();
    let mut health = stream(&server, &cert);
    health
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    health.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let mut events = stream(&server, &cert);
    events
        .write_all(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    let mut until_text = |end: &str| {
        let mut buffer = [0; 1024];
        while !seen.contains(end) {
            let count = events.read(&mut buffer).unwrap();
            assert!(count > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    };
    until_text("connection_established");
    server.send("a", "over tls");
    until_text("over tls");
    // The end of the TLS session ends the stream, although the TCP connection stays.
    events.conn.send_close_notify();
    events.flush().unwrap();
    server.until_stat("closed_gone", 1);
}

#[test]
fn bytes_right_behind_the_request_are_not_lost() {
    let (files, cert) = Files::new();
    let server = files.server();
    let mut client = stream(&server, &cert);
    // One record has the request and a frame, and the next one another frame.
    let ping = |id: u8| {
        support::frame(
            support::TEXT,
            &[br#"{"type":"ping","id":""#, &[id][..], b"\"}"].concat(),
        )
    };
    let mut first = upgrade_request("").into_bytes();
    first.extend(ping(b'1'));
    client.conn.writer().write_all(&first).unwrap();
    client.conn.writer().write_all(&ping(b'2')).unwrap();
    client.flush().unwrap();
    let mut seen = Vec::new();
    let has = |seen: &[u8], text: &[u8]| seen.windows(text.len()).any(|part| part == text);
    while !has(&seen, br#""id":"2""#) {
        let mut buffer = [0; 1024];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0);
        seen.extend_from_slice(&buffer[..count]);
    }
    assert!(has(&seen, br#""id":"1""#));
}

#[test]
fn a_request_byte_by_byte_and_a_half_closed_client_are_understood() {
    let (files, cert) = Files::new();
    let server = files.server();
    let mut client = stream(&server, &cert);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).unwrap();
    }
    client
        .conn
        .writer()
        .write_all(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    client.conn.send_close_notify();
    let mut records = Vec::new();
    while client.conn.wants_write() {
        client.conn.write_tls(&mut records).unwrap();
    }
    for byte in records {
        client.sock.write_all(&[byte]).unwrap();
    }
    client.sock.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""uri":"wss://"#), "{text}");
}

#[test]
fn a_client_without_tls_is_told_so() {
    let (files, _) = Files::new();
    let server = files.server();
    let mut raw = Raw::connect(address(&server));
    raw.write(upgrade_request(""));
    let response = raw.response();
    assert_eq!(response.status, 400);
    assert_eq!(response.refusal().0, "tls_required");
    raw.end();
    assert_eq!(server.stat("requests_refused"), 1);
    assert_eq!(server.stat("tls_handshakes_failed"), 0);
}

#[test]
fn broken_and_silent_handshakes_end_and_are_counted() {
    let (files, _) = Files::new();
    let server = TestServer::with(|settings| {
        files.apply(settings);
        settings.handshake_timeout = Duration::from_millis(200);
    });
    for (count, bytes) in [
        &b"\x16\x03\x01\xff\xff garbage"[..],
        b"\x16\x03\x01\x00\x05hello and more",
        b"\x16\x03",
        b"",
    ]
    .iter()
    .enumerate()
    {
        let mut tcp = TcpStream::connect(address(&server)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        match tcp.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        server.until_stat("tls_handshakes_failed", count as u64 + 1);
    }
    // A client that leaves without a word is not counted.
    drop(TcpStream::connect(address(&server)).unwrap());
    server.until_stat("handshakes", 0);
    assert_eq!(server.stat("tls_handshakes_failed"), 4);
}

#[test]
fn bad_settings_are_named_and_change_nothing() {
    let ((files, _), (other, _)) = (Files::new(), Files::new());
    let start = |cert: &str, key: &str| {
        let settings = Settings {
            tls_cert: cert.to_owned(),
            tls_key: key.to_owned(),
            ..support::settings()
        };
        match Server::builder(settings).start() {
            Err(StartError::Certificate { setting, .. }) => setting,
            Err(error) => panic!("{error}"),
            Ok(_) => "",
        }
    };
    let (cert, key) = (files.cert(), files.key());
    assert_eq!(start(&cert, &key), "");
    assert_eq!(start(&cert, ""), "tls_key");
    assert_eq!(start("", &key), "tls_cert");
    assert_eq!(start(&cert, &other.key()), "tls_key");
    assert_eq!(start(&cert, "/nowhere"), "tls_key");
    assert_eq!(start("/nowhere", &key), "tls_cert");
    assert_eq!(start(&key, &key), "tls_cert");
    assert_eq!(start(&cert, &cert), "tls_key");
}

#[test]
fn tls_is_switched_on_and_off_for_new_connections() {
    let ((files, cert), (other, other_cert)) = (Files::new(), Files::new());
    let server = TestServer::start();
    let mut plain = support::Client::connect(&server, "?topic=a");
    let change = |apply: &dyn Fn(&mut Settings)| {
        let mut settings = support::settings();
        apply(&mut settings);
        server.reconfigure(settings)
    };
    assert_eq!(
        change(&|settings| files.apply(settings)).unwrap(),
        Reconfigured::Applied
    );
    let mut first = websocket(&server, &cert, "?topic=a");
    assert!(change(&|settings| settings.tls_cert = files.cert()).is_err());
    change(&|settings| other.apply(settings)).unwrap();
    let mut second = websocket(&server, &other_cert, "?topic=a");
    change(&|_| ()).unwrap();
    let mut third = support::Client::connect(&server, "?topic=a");
    server.send("a", "all");
    assert_eq!(plain.message()["data"]["data"], "all");
    assert_eq!(third.message()["data"]["data"], "all");
    for client in [&mut first, &mut second] {
        assert_eq!(json(client)["data"]["data"], "all");
    }
}
