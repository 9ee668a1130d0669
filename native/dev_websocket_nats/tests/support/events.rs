//! A client of server-sent events.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub struct Events {
    lines: Lines<BufReader<TcpStream>>,
    id: String,
    /// The own numbers of all messages, and the ids with which they came.
    pub numbers: Vec<u64>,
    pub ids: Vec<String>,
}

impl Events {
    /// Connects as a browser does that has got the event with this id.
    pub async fn resume(uri: &str, id: &str) -> Self {
        let host = uri
            .strip_prefix("ws://")
            .unwrap()
            .strip_suffix("/ws")
            .unwrap();
        let mut socket = TcpStream::connect(host).await.unwrap();
        let request =
            format!("GET /events?topic=* HTTP/1.1\r\nhost: {host}\r\nlast-event-id: {id}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self {
            lines: BufReader::new(socket).lines(),
            id: String::new(),
            numbers: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Takes events until a message with this number.
    pub async fn take_until(&mut self, last: u64) {
        let mut data = serde_json::Value::Null;
        while self.numbers.last() != Some(&last) {
            let line = timeout(Duration::from_secs(60), self.lines.next_line()).await;
            let line = line
                .expect("a line in time")
                .unwrap()
                .expect("an open connection");
            if let Some(text) = line.strip_prefix("data: ").or(line.strip_prefix("data:")) {
                data = serde_json::from_str(text).unwrap();
                assert_ne!(data["type"], "gap");
            } else if let Some(id) = line.strip_prefix("id: ").or(line.strip_prefix("id:")) {
                self.id = id.to_owned();
            } else if line.is_empty() && data["type"] == "message" {
                self.numbers.push(data["data"]["n"].as_u64().unwrap());
                self.ids.push(self.id.clone());
                data = serde_json::Value::Null;
            }
        }
    }
}
