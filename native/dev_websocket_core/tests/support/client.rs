//! A client that speaks the control protocol.

use std::net::TcpStream;

use serde_json::{Value as Json, json};
use tokio_tungstenite::tungstenite::client;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::{PATIENCE, TestServer};

/// A connection of the JSON format.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    /// The first frame.
    pub(crate) established: Json,
    pings: u64,
}

impl Client {
    /// Connects. `query` follows the path and includes its question mark.
    pub(crate) fn connect(server: &TestServer, query: &str) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let uri = format!("{}{query}", server.info().uri);
        let (socket, _) = client(uri, stream).unwrap();
        let mut client = Self {
            socket,
            established: Json::Null,
            pings: 0,
        };
        client.established = client.next();
        assert_eq!(client.established["type"], "connection_established");
        client
    }

    /// Returns the next text frame. Pings before it are answered.
    pub(crate) fn next(&mut self) -> Json {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => self.socket.flush().unwrap(),
                other => panic!("a text frame was due, not {other:?}"),
            }
        }
    }

    /// Returns the next frame, which must be a publication.
    pub(crate) fn message(&mut self) -> Json {
        let frame = self.next();
        assert_eq!(frame["type"], "message", "{frame}");
        frame
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Json) {
        self.send_text(&request.to_string());
    }

    /// Sends a text frame.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text));
    }

    /// Sends any frame.
    pub(crate) fn send_frame(&mut self, frame: Message) {
        self.socket.send(frame).unwrap();
    }

    /// Sends a request and returns its reply, which must be the next frame.
    pub(crate) fn request(&mut self, request: &Json) -> Json {
        self.send(request);
        self.next()
    }

    /// Returns the next frame that is no publication.
    pub(crate) fn reply(&mut self) -> Json {
        loop {
            let frame = self.next();
            if frame["type"] != "message" {
                return frame;
            }
        }
    }

    /// Returns all frames until the server has handled the publication `seq`.
    pub(crate) fn up_to(&mut self, seq: u64) -> Vec<Json> {
        let mut frames = Vec::new();
        loop {
            self.pings += 1;
            let id = format!("up_to {}", self.pings);
            self.send(&json!({"type": "ping", "id": id}));
            let pong = loop {
                let frame = self.next();
                if frame["type"] == "pong" && frame["id"] == *id {
                    break frame;
                }
                frames.push(frame);
            };
            if pong["seq"].as_u64().unwrap() >= seq {
                return frames;
            }
        }
    }

    /// Begins to close the connection, and waits for the server's close frame and the end of the stream.
    pub(crate) fn close(mut self, code: u16, reason: &'static str) -> (u16, String) {
        self.socket
            .close(Some(CloseFrame {
                code: code.into(),
                reason: Utf8Bytes::from_static(reason),
            }))
            .unwrap();
        self.closed().1
    }

    /// Returns the text frames before the server's close frame, and its code and reason. It waits for the end of the
    /// stream.
    pub(crate) fn closed(mut self) -> (Vec<Json>, (u16, String)) {
        let mut frames = Vec::new();
        let mut close = None;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => frames.push(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => {
                    let frame = frame.unwrap();
                    close = Some((frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return (frames, close.unwrap()),
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }
}

/// Returns the sequence numbers of the publications among some frames.
pub(crate) fn seqs(frames: &[Json]) -> Vec<u64> {
    frames
        .iter()
        .filter(|frame| frame["type"] == "message")
        .map(|frame| frame["seq"].as_u64().unwrap())
        .collect()
}
