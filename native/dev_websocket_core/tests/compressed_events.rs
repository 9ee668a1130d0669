//! Tests of server-sent events in a gzip stream.
#![cfg(test)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dev_websocket_core::{Compression, Disconnect, Settings};
use flate2::{Decompress, FlushDecompress};
use support::{PATIENCE, Raw, TestServer};

const GZIP_HEAD: usize = 10;

fn shared(settings: &mut Settings) {
    settings.compression = Compression::Shared;
}

/// A client that decodes what arrives at once, as a browser does.
struct Decoding {
    stream: TcpStream,
    head: String,
    decoder: Decompress,
    /// Bytes that the decoder has not seen.
    encoded: Vec<u8>,
    text: Vec<u8>,
}

impl Decoding {
    fn connect(server: &TestServer, target: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut gzip_head = [0; GZIP_HEAD];
        stream.read_exact(&mut gzip_head).unwrap();
        assert_eq!(gzip_head[..4], [0x1f, 0x8b, 8, 0]);
        Self {
            stream,
            head: String::from_utf8(head).unwrap().to_lowercase(),
            decoder: Decompress::new(false),
            encoded: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Returns the next event or comment; none at the end of the stream.
    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(String::from_utf8(event).unwrap());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).unwrap() {
                0 => return None,
                count => self.encoded.extend_from_slice(&bytes[..count]),
            }
            while !self.encoded.is_empty() {
                self.text.reserve(64 * 1024);
                let before = self.decoder.total_in();
                self.decoder
                    .decompress_vec(&self.encoded, &mut self.text, FlushDecompress::Sync)
                    .unwrap();
                let taken = (self.decoder.total_in() - before) as usize;
                self.encoded.drain(..taken);
            }
        }
    }
}

fn event(raw: &mut Raw) -> String {
    let (json, id) = raw.event();
    let id = id.map_or_else(String::new, |id| format!("\nid: {id}"));
    format!("{json}{id}")
}

/// Puts the fields of an event's JSON in the order of the other reader.
fn normal(event: &str) -> String {
    let rest = event.strip_prefix("data: ").unwrap();
    let (json, id) = rest
        .trim_end()
        .split_once('\n')
        .unwrap_or((rest.trim_end(), ""));
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let id = if id.is_empty() {
        String::new()
    } else {
        format!("\n{id}")
    };
    format!("{json}{id}")
}

#[test]
fn a_compressed_stream_holds_the_same_events_as_a_plain_one() {
    let server = TestServer::with(shared);
    let mut clients: Vec<_> = (0..3)
        .map(|_| Decoding::connect(&server, "/events?topic=a"))
        .collect();
    let mut plain = Raw::events(&server, "/events?topic=a", "Accept-Encoding: br\r\n");
    for client in &mut clients {
        assert!(client.head.contains("content-encoding: gzip\r\n"));
        assert!(client.head.contains("vary: accept-encoding\r\n"));
        assert!(client.next().unwrap().contains("connection_established"));
    }
    assert!(event(&mut plain).contains("connection_established"));
    let long = (0..30_000).map(|n| n.to_string()).collect::<String>();
    for data in ["short", &"a line\n and another ".repeat(40), &long, "x"] {
        server.send("a", data);
        let expected = event(&mut plain);
        for client in &mut clients {
            assert_eq!(normal(&client.next().unwrap()), expected);
        }
    }
    // The one form serves WebSockets and events.
    assert_eq!(server.counters.compressed.get(), 2);
    for number in 0..2000 {
        server.send("a", &format!("number {number} ").repeat(number % 50));
    }
    for _ in 0..2000 {
        let expected = event(&mut plain);
        for client in &mut clients {
            assert_eq!(normal(&client.next().unwrap()), expected);
        }
    }
    server.stop(Disconnect::Stopping);
    let last = clients[0].next().unwrap();
    assert!(last.contains(r#""type":"close","code":1001"#), "{last}");
    assert_eq!(clients[0].next(), None);
}

#[test]
fn replays_comments_and_direct_messages_are_in_the_stream() {
    let server = TestServer::with(|settings| {
        shared(settings);
        settings.ping_interval = Duration::from_secs(2);
    });
    // Nobody has needed their compressed form, so they are sent as they are; one needs several blocks.
    let long = "0123456789".repeat(20_000);
    for data in ["short", &"some text ".repeat(100), &long] {
        server.send("a", data);
    }
    let mut client = Decoding::connect(&server, "/events?topic=a&since=0");
    assert!(client.next().unwrap().contains("connection_established"));
    for seq in 1..=3 {
        let event = client.next().unwrap();
        assert!(event.contains(&format!(r#""seq":{seq}"#)));
        assert_eq!(event.contains(&long), seq == 3);
    }
    assert_eq!(server.counters.compressed.get(), 0);
    assert!(client.next().unwrap().contains(r#""type":"live""#));
    assert_eq!(client.next().unwrap(), ":\n\n");
}

#[test]
fn events_are_plain_without_the_setting_or_the_wish() {
    let headers = |server: &TestServer, accepted: &str| {
        let mut raw = Raw::connect(server.address());
        raw.write(format!(
            "GET /events HTTP/1.1\r\nHost: localhost\r\n{accepted}\r\n"
        ));
        let head = raw.response();
        head.header("content-encoding").map(str::to_owned)
    };
    let gzip = "Accept-Encoding: gzip\r\n";
    assert_eq!(headers(&TestServer::start(), gzip), None);
    let server = TestServer::with(shared);
    for accepted in [
        "",
        "Accept-Encoding: gzip;q=0\r\n",
        "Accept-Encoding: identity, gzip;q=0.5\r\n",
    ] {
        assert_eq!(headers(&server, accepted), None);
    }
    assert_eq!(headers(&server, gzip).as_deref(), Some("gzip"));
}
