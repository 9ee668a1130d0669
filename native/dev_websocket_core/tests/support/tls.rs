//! Certificates and clients of the tests of TLS.
#![allow(dead_code, reason = "each test program uses a part of this")]

#[path = "tls_config.rs"]
mod tls_config;

use std::fs;
use std::net::{SocketAddr, TcpStream};

use dev_websocket_core::{Server, Settings};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocket};

pub(crate) use self::tls_config::config;
use crate::support::{PATIENCE, TestServer};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A folder with a certificate and its key, which ends with the test.
pub(crate) struct Files(TempDir);

impl Files {
    /// Creates the files with a new certificate.
    pub(crate) fn new() -> (Self, CertificateDer<'static>) {
        let files = Self(tempfile::tempdir().unwrap());
        let cert = files.renew();
        (files, cert)
    }

    /// Replaces both files.
    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.cert(), made.cert.pem()).unwrap();
        fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    pub(crate) fn cert(&self) -> String {
        self.0.path().join("cert.pem").display().to_string()
    }

    pub(crate) fn key(&self) -> String {
        self.0.path().join("key.pem").display().to_string()
    }

    pub(crate) fn apply(&self, settings: &mut Settings) {
        (settings.tls_cert, settings.tls_key) = (self.cert(), self.key());
    }

    pub(crate) fn server(&self) -> TestServer {
        TestServer::with(|settings| self.apply(settings))
    }
}

pub(crate) fn address(server: &Server) -> SocketAddr {
    let uri = server.info().uri;
    let rest = uri.strip_prefix("wss://").unwrap();
    rest.strip_suffix("/ws").unwrap().parse().unwrap()
}

pub(crate) fn over(tcp: TcpStream, trusted: &CertificateDer<'static>) -> Stream {
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config(trusted), name).unwrap(), tcp)
}

pub(crate) fn stream(server: &TestServer, trusted: &CertificateDer<'static>) -> Stream {
    over(TcpStream::connect(address(server)).unwrap(), trusted)
}

pub(crate) fn websocket(
    server: &TestServer,
    trusted: &CertificateDer<'static>,
    query: &str,
) -> WebSocket<Stream> {
    upgraded(stream(server, trusted), query)
}

pub(crate) fn upgraded(stream: Stream, query: &str) -> WebSocket<Stream> {
    let (mut socket, _) = client(format!("wss://localhost/ws{query}"), stream).unwrap();
    assert_eq!(json(&mut socket)["type"], "connection_established");
    socket
}

pub(crate) fn json(socket: &mut WebSocket<Stream>) -> Json {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => socket.flush().unwrap(),
            other => panic!("a text frame was due, not {other:?}"),
        }
    }
}

pub(crate) fn numbered(number: usize) -> String {
    format!("{number} {}", "x".repeat(number * 37 % 5000))
}
