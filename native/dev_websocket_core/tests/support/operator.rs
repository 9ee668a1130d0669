//! Servers with an operator's port, and requests for `/connections` and `/cast`.
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use dev_websocket_core::Settings;
use serde_json::Value as Json;

use crate::support::{Raw, Response, TestServer};

/// All requests that do something: the method, the path and the body.
pub(crate) const WORK: [(&str, &str, &str); 3] = [
    ("GET", "/connections", ""),
    ("DELETE", "/connections/1", ""),
    ("POST", "/cast", r#"{"topic":"a","data":"x"}"#),
];

/// Returns an address of this machine that no other server of these tests has.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let address = Ipv4Addr::new(127, 19, 0, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Starts a server with an operator's port, and returns the addresses of both doors.
pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> (TestServer, SocketAddr, SocketAddr) {
    let operator = own_address();
    let server = TestServer::with(|settings| {
        settings.operator_host = operator.ip();
        settings.operator_port = operator.port().into();
        change(settings);
    });
    let public = server.address();
    (server, public, operator)
}

/// The same on all interfaces.
pub(crate) fn on_all_interfaces() -> (TestServer, SocketAddr, SocketAddr) {
    let (server, public, _) = with(|settings| {
        settings.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        settings.public_host = Ipv4Addr::LOCALHOST.to_string();
    });
    // Another program may take a port that was free.
    loop {
        let operator = own_address();
        let mut settings = (*server.settings()).clone();
        settings.operator_host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        settings.operator_port = operator.port().into();
        if server.reconfigure(settings).is_ok() {
            return (server, public, operator);
        }
    }
}

/// Makes a request with a JSON body, from `localhost` unless the headers name a host.
pub(crate) fn ask(
    door: SocketAddr,
    (method, target, body): (&str, &str, &str),
    headers: &str,
) -> Response {
    let mut head = format!("{method} {target} HTTP/1.1\r\n{headers}");
    if !headers.contains("Host:") {
        head += "Host: localhost\r\n";
    }
    if !headers.contains("Content-Type:") {
        head += "Content-Type: application/json\r\n";
    }
    let mut raw = Raw::connect(door);
    raw.write(format!(
        "{head}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    raw.response()
}

/// Returns the status and the code of a refusal, which no page of another origin may read.
pub(crate) fn refused(door: SocketAddr, work: (&str, &str, &str), headers: &str) -> (u16, String) {
    let response = ask(door, work, headers);
    assert_eq!(response.header("access-control-allow-origin"), None);
    (response.status, response.refusal().0)
}

/// Returns the ids of the listed connections.
pub(crate) fn ids(page: &Json) -> Vec<u64> {
    let connections = page["connections"].as_array().unwrap();
    let ids = connections
        .iter()
        .map(|connection| &connection["connection"]);
    ids.map(|id| id.as_u64().unwrap()).collect()
}
