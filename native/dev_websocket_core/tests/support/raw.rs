//! A client that speaks bytes: it can break every rule and sees every byte.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value as Json;
use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, TestServer};

/// First byte of a whole text frame.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a whole binary frame.
pub(crate) const BINARY: u8 = 0x82;
/// First byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// First byte of a pong.
pub(crate) const PONG: u8 = 0x8a;

/// The example of RFC 6455 section 1.3, whose answer is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A TCP connection.
pub(crate) struct Raw {
    stream: BufReader<TcpStream>,
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    /// Returns a header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    /// Returns the body, which must be text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Returns the body, which must be JSON.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks the header of a refusal, and returns the code for programs and the text for people from its body.
    pub(crate) fn refusal(&self) -> (String, String) {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: Json = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        (text("error"), text("message"))
    }
}

impl Raw {
    /// Connects and sends nothing.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, |_| ())
    }

    /// Connects with a socket after preparing it.
    pub(crate) fn connect_with(address: SocketAddr, prepare: impl FnOnce(&Socket)) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        prepare(&socket);
        socket.connect(&address.into()).unwrap();
        Self::over(TcpStream::from(socket))
    }

    /// Uses an existing connection.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Connects and upgrades. `query` follows the path and includes its question mark.
    pub(crate) fn upgraded(server: &TestServer, query: &str) -> Self {
        let mut raw = Self::connect(server.address());
        raw.upgrade(query);
        raw
    }

    /// Connects many WebSockets of the JSON format and reads their welcome frames.
    pub(crate) fn crowd(server: &TestServer, count: usize, query: &str) -> Vec<Self> {
        let mut crowd: Vec<_> = (0..count).map(|_| Self::upgraded(server, query)).collect();
        for raw in &mut crowd {
            assert_eq!(raw.json()["type"], "connection_established");
        }
        crowd
    }

    /// Connects a WebSocket whose socket holds few unread bytes.
    pub(crate) fn small(server: &TestServer, query: &str) -> Self {
        let mut raw = Self::connect_with(server.address(), |socket| {
            socket.set_recv_buffer_size(4096).unwrap();
        });
        raw.upgrade(query);
        raw
    }

    fn upgrade(&mut self, query: &str) {
        self.write(upgrade_request(query));
        assert_eq!(self.response().status, 101);
    }

    /// Sends one request and returns its response.
    pub(crate) fn ask(server: &TestServer, request: impl AsRef<[u8]>) -> Response {
        let mut raw = Self::connect(server.address());
        raw.write(request);
        raw.response()
    }

    /// Sends bytes.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes to a server that may be gone.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(frame(first, payload));
    }

    /// Waits until the server has handled everything sent so far. The next frame must be its answer.
    pub(crate) fn settle(&mut self) {
        self.send(PING, b"settle");
        assert_eq!(self.frame(), (PONG, b"settle".to_vec()));
    }

    /// Returns another handle of the same connection, for a thread that writes.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// Closes the sending side.
    pub(crate) fn half_close(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.get_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Reads an HTTP response.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.response_head();
        if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// Reads an HTTP response without a body, regardless of its head.
    pub(crate) fn response_head(&mut self) -> Response {
        let status = self.line();
        let mut response = Response {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            response
                .headers
                .push((name.to_lowercase(), value.to_owned()));
        }
        response
    }

    /// Requests server-sent events, and reads the head of the response. `target` follows the method.
    pub(crate) fn events(server: &TestServer, target: &str, headers: &str) -> Self {
        let mut raw = Self::connect(server.address());
        raw.write(format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        ));
        let response = raw.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        assert_eq!(response.header("content-length"), None);
        raw
    }

    /// Returns the next comment; anything else fails.
    pub(crate) fn comment(&mut self) -> String {
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            self.stream.read_line(line).unwrap();
        }
        assert_eq!(lines[1], "\n");
        lines[0].trim_end().to_owned()
    }

    /// Returns the JSON of the next event, and its id if it has one. Comments are skipped.
    pub(crate) fn event(&mut self) -> (Json, Option<String>) {
        let (mut data, mut id) = (None, None);
        loop {
            let mut line = String::new();
            assert_ne!(
                self.stream.read_line(&mut line).unwrap(),
                0,
                "the stream has ended"
            );
            let line = line.strip_suffix('\n').unwrap();
            match line.split_once(": ") {
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                Some(("id", text)) => id = Some(text.to_owned()),
                _ if line == ":" => assert!(data.is_none()),
                _ => {
                    assert_eq!(line, "");
                    if let Some(data) = data {
                        return (data, id);
                    }
                }
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap().to_owned()
    }

    /// Returns the first byte and the payload of the next frame.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length)
            }
            short => {
                assert!(short < 126, "a server's frames are not masked");
                u64::from(short)
            }
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// Returns the text of the next frame, which must be a text frame.
    pub(crate) fn text(&mut self) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&payload));
        String::from_utf8(payload).unwrap()
    }

    /// Returns the JSON of the next frame, which must be a text frame.
    pub(crate) fn json(&mut self) -> Json {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Returns the sequence number and text of the next publication, without the cost of a JSON parser.
    pub(crate) fn message(&mut self) -> (u64, String) {
        let text = self.text();
        let rest = text
            .strip_prefix(r#"{"type":"message","seq":"#)
            .unwrap_or_else(|| panic!("a publication was due, not {text}"));
        let (seq, _) = rest.split_once(',').unwrap();
        let (_, data) = rest.rsplit_once(r#""data":""#).unwrap();
        (
            seq.parse().unwrap(),
            data.strip_suffix(r#""}}"#).unwrap().to_owned(),
        )
    }

    /// Returns the text frames before the close frame, and its code and reason. The end of the stream must follow.
    pub(crate) fn closed(mut self) -> (Vec<String>, (u16, String)) {
        let mut texts = Vec::new();
        loop {
            let (first, payload) = self.frame();
            match first {
                TEXT => texts.push(String::from_utf8(payload).unwrap()),
                CLOSE => {
                    self.end();
                    let (code, reason) = payload.split_at(2);
                    let code = u16::from_be_bytes(code.try_into().unwrap());
                    return (texts, (code, String::from_utf8(reason.to_vec()).unwrap()));
                }
                _ => {}
            }
        }
    }

    /// Checks that the stream ends here.
    pub(crate) fn end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Reads at most `bytes` bytes and returns their number. Frames cannot be read afterwards.
    pub(crate) fn skip(&mut self, bytes: usize) -> usize {
        // The read bypasses the buffer, which would take more.
        let mut buffer = vec![0; bytes];
        self.stream.get_mut().read(&mut buffer).unwrap()
    }

    /// Reads up to the end of these bytes, wherever they stand.
    pub(crate) fn skip_until(&mut self, end: &[u8]) {
        let mut seen = Vec::new();
        while !seen.ends_with(end) {
            let mut byte = [0; 1];
            self.stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
            if seen.len() > 2 * end.len() {
                seen.drain(..end.len());
            }
        }
    }

    /// Reads until the connection ends in any way.
    pub(crate) fn drain(mut self) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return;
                }
            }
        }
    }
}

/// Returns a request to upgrade. `query` follows the path.
pub(crate) fn upgrade_request(query: &str) -> String {
    format!(
        "GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// Returns a masked frame of a client.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
