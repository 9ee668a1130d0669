//! A client that speaks bytes: it can break every rule, and nothing is hidden from it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value as Json;
use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, TestServer};

/// The first byte of a whole text frame.
pub(crate) const TEXT: u8 = 0x81;
/// The first byte of a whole binary frame.
pub(crate) const BINARY: u8 = 0x82;
/// The first byte of a close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// The first byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// The first byte of a pong.
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
    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The body, which must be text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body of a refusal, after a look at its header: the code for programs and the text for people.
    pub(crate) fn refusal(&self) -> (String, String) {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: Json = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        (text("error"), text("message"))
    }
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, |_| ())
    }

    /// Connects with a socket that was prepared.
    pub(crate) fn connect_with(address: SocketAddr, prepare: impl FnOnce(&Socket)) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        prepare(&socket);
        socket.connect(&address.into()).unwrap();
        Self::over(TcpStream::from(socket))
    }

    /// Uses a connection that was made otherwise.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Connects and upgrades; `query` is what follows the path, with its question mark.
    pub(crate) fn upgraded(server: &TestServer, query: &str) -> Self {
        let mut raw = Self::connect(server.address());
        raw.upgrade(query);
        raw
    }

    /// Many WebSockets of the JSON format, welcomed.
    pub(crate) fn crowd(server: &TestServer, count: usize, query: &str) -> Vec<Self> {
        let mut crowd: Vec<_> = (0..count).map(|_| Self::upgraded(server, query)).collect();
        for raw in &mut crowd {
            assert_eq!(raw.json()["type"], "connection_established");
        }
        crowd
    }

    /// A WebSocket that can hold little of what it does not read.
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

    /// Sends one request and gives its answer.
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

    /// Waits until the server has dealt with everything sent so far; the next frame must be its answer.
    pub(crate) fn settle(&mut self) {
        self.send(PING, b"settle");
        assert_eq!(self.frame(), (PONG, b"settle".to_vec()));
    }

    /// Another handle on the same connection, for a thread that writes.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// Closes the sending side.
    pub(crate) fn half_close(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
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

    /// Reads an HTTP response that has no body, whatever its head says.
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

    /// Asks for server-sent events, and reads the head of the answer. `target` is what follows the method.
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

    /// The next comment, which must be next.
    pub(crate) fn comment(&mut self) -> String {
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            self.stream.read_line(line).unwrap();
        }
        assert_eq!(lines[1], "\n");
        lines[0].trim_end().to_owned()
    }

    /// The next event: its JSON, and its id where it has one. Comments are skipped.
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

    /// The next frame: its first byte and its payload.
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

    /// The text of the next frame, which must be a text frame.
    pub(crate) fn text(&mut self) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&payload));
        String::from_utf8(payload).unwrap()
    }

    /// The JSON of the next frame, which must be a text frame.
    pub(crate) fn json(&mut self) -> Json {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The next publication, by its number and its text, read without the cost of a JSON reader.
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

    /// The text frames before the close frame, and that. The end of the stream must follow it.
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

    /// The stream must end here.
    pub(crate) fn end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Reads at most so many bytes, and says how many; not for who wants frames afterwards.
    pub(crate) fn skip(&mut self, bytes: usize) -> usize {
        // Past the buffer, which would take more.
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

    /// Reads until the connection ends in whatever way.
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

/// A request for an upgrade; `query` is what follows the path.
pub(crate) fn upgrade_request(query: &str) -> String {
    format!(
        "GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A client's frame, masked.
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
