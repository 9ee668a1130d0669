//! Cost of TLS: bursts to 1,000 clients over TLS and plain in turn in one program, and the memory of idle connections.
//!
//! The clients take the bytes without decrypting them, so that the figures are the server's.
//! Run with `cargo bench -p dev_websocket_core --bench tls`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement that cannot go on ends, and prints its result"
)]

#[path = "../tests/support/tls_config.rs"]
mod tls_config;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dev_websocket_core::message::Value;
use dev_websocket_core::{Disconnect, Server, Settings};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use self::tls_config::config;

const CLIENTS: usize = 1000;
const MESSAGES: usize = 100;
const ROUNDS: usize = 10;
/// Bytes of data in each message.
const DATA: usize = 256;

const REQUEST: &str = "GET /ws?topic=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn main() {
    // `cargo test` runs benchmarks too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("dev_websocket_bench_{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = Settings {
        host: [127, 0, 0, 1].into(),
        port: 0,
        send_buffer_bytes: 64 * 1024 * 1024,
        history_bytes: 0,
        ping_interval: Duration::from_secs(3600),
        ..Settings::default()
    };
    let plain = Server::builder(settings.clone()).start().unwrap();
    let tls = Server::builder(Settings {
        tls_cert: cert.display().to_string(),
        tls_key: key.display().to_string(),
        ..settings
    })
    .start()
    .unwrap();
    let config = config(made.cert.der());
    // The first connections fill the pools of both servers.
    let warm: Vec<_> = (0..50)
        .flat_map(|_| [connect(&plain, None), connect(&tls, Some(&config))])
        .collect();
    let before = resident();
    let plain_clients: Vec<_> = (0..CLIENTS).map(|_| connect(&plain, None)).collect();
    let between = resident();
    let tls_clients: Vec<_> = (0..CLIENTS).map(|_| connect(&tls, Some(&config))).collect();
    let after = resident();
    println!("memory of an idle connection, with the client's part:");
    println!("  plain {:.1} KB", kilobytes(between - before));
    println!("  TLS   {:.1} KB", kilobytes(after - between));
    drop(warm);
    let readers = [drain(plain_clients), drain(tls_clients)];
    for _ in 0..3 {
        burst(&plain);
        burst(&tls);
    }
    let mut times: Vec<_> = (0..ROUNDS).map(|_| [burst(&plain), burst(&tls)]).collect();
    for (name, index) in [("plain", 0), ("TLS  ", 1)] {
        times.sort_by(|a, b| a[index].total_cmp(&b[index]));
        println!(
            "  {name} {:.0} ms for {MESSAGES} messages to {CLIENTS} clients (median of {ROUNDS})",
            times[ROUNDS / 2][index] * 1000.0
        );
    }
    let mut ratios: Vec<_> = times.iter().map(|[plain, tls]| tls / plain).collect();
    ratios.sort_by(f64::total_cmp);
    println!("  ratio {:.2}", ratios[ROUNDS / 2]);
    for server in [plain, tls] {
        server.shutdown(Disconnect::Stopping, Duration::from_secs(5));
    }
    for reader in readers {
        reader.join().unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Connects and waits for the answer. Only the socket remains of a TLS session.
fn connect(server: &Server, config: Option<&Arc<ClientConfig>>) -> TcpStream {
    let uri = server.info().uri;
    let (_, rest) = uri.split_once("://").unwrap();
    let mut tcp = TcpStream::connect(rest.strip_suffix("/ws").unwrap()).unwrap();
    let mut buffer = [0; 4096];
    match config {
        None => {
            tcp.write_all(REQUEST.as_bytes()).unwrap();
            assert!(tcp.read(&mut buffer).unwrap() > 0);
        }
        Some(config) => {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(config.clone(), name).unwrap();
            let mut stream = StreamOwned::new(session, tcp);
            stream.write_all(REQUEST.as_bytes()).unwrap();
            assert!(stream.read(&mut buffer).unwrap() > 0);
            tcp = stream.sock;
        }
    }
    tcp.set_nonblocking(true).unwrap();
    tcp
}

/// Reads from all clients until the server closes them.
fn drain(mut clients: Vec<TcpStream>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while !clients.is_empty() {
            let mut is_idle = true;
            clients.retain_mut(|client| match client.read(&mut buffer) {
                Ok(count) => {
                    is_idle = false;
                    count > 0
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            if is_idle {
                thread::sleep(Duration::from_millis(1));
            }
        }
    })
}

/// Publishes a burst and returns the seconds until all of it is written.
fn burst(server: &Server) -> f64 {
    let stat = |name| {
        let stats = server.stats();
        stats.iter().find(|(known, _)| *known == name).unwrap().1
    };
    let data = "x".repeat(DATA);
    let message = Value::Map(vec![
        ("topic".into(), Value::Text("a".into())),
        ("data".into(), Value::Text(data.as_str().into())),
    ]);
    let expected = stat("deliveries") + (CLIENTS * MESSAGES) as u64;
    let start = Instant::now();
    for _ in 0..MESSAGES {
        server.publish(&message).unwrap();
    }
    while stat("deliveries") < expected {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_micros(100));
    }
    start.elapsed().as_secs_f64()
}

/// Bytes of the resident set of this process.
fn resident() -> i64 {
    thread::sleep(Duration::from_millis(200));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<i64>()
        .unwrap()
        * 1024
}

fn kilobytes(bytes: i64) -> f64 {
    bytes as f64 / 1024.0 / CLIENTS as f64
}
