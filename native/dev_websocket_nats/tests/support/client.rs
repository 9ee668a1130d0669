//! A client that checks the order of everything it gets.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The time after which a test has hung.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// True if the client gets everything, so that any hole is a mistake.
    has_all: bool,
    pub epoch: String,
    /// The last number that was received or told as missing.
    pub seq: u64,
    /// Messages in the order of their arrival, with their epoch and number.
    pub messages: Vec<(String, u64, Json)>,
    /// The slots of messages that have one.
    pub slots: Vec<Json>,
    /// All gap, stale and live frames.
    pub notices: Vec<Json>,
}

impl Client {
    /// Connects, trying again while the node has not reached its stream.
    pub async fn connect(uri: &str, query: &str) -> Self {
        Self::open(&format!("{uri}?topic=*{query}"), true).await
    }

    /// Connects with a choice of messages, so that holes are allowed.
    pub async fn choose(uri: &str, query: &str) -> Self {
        Self::open(&format!("{uri}{query}"), false).await
    }

    async fn open(url: &str, has_all: bool) -> Self {
        let connecting = async {
            loop {
                match connect_async(url).await {
                    Ok((socket, _)) => return socket,
                    Err(Error::Http(answer)) if answer.status() == 503 => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let mut client = Self {
            socket: timeout(PATIENCE, connecting).await.unwrap(),
            has_all,
            epoch: String::new(),
            seq: 0,
            messages: Vec::new(),
            slots: Vec::new(),
            notices: Vec::new(),
        };
        let frame = client.next().await;
        assert_eq!(frame["type"], "connection_established");
        client.epoch = frame["epoch"].as_str().unwrap().to_owned();
        client.seq = frame["seq"].as_u64().unwrap();
        client
    }

    /// Connects with the cursor of another client, to get what comes after it.
    pub async fn resume(uri: &str, epoch: &str, seq: u64) -> Self {
        let mut client = Self::connect(uri, &format!("&since={epoch}:{seq}")).await;
        client.seq = seq;
        client
    }

    pub fn cursor(&self) -> (String, u64) {
        (self.epoch.clone(), self.seq)
    }

    async fn next(&mut self) -> Json {
        let next = timeout(PATIENCE, self.socket.next());
        match next
            .await
            .expect("a frame in time")
            .expect("an open connection")
            .unwrap()
        {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => Json::Null,
            other => panic!("{other:?}"),
        }
    }

    /// Takes one frame, and checks that it continues what came before.
    pub async fn take(&mut self) -> Json {
        let frame = self.next().await;
        match frame["type"].as_str() {
            Some("message") => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(
                    !self.has_all || seq == self.seq + 1,
                    "a hole that nobody told, in {}",
                    self.epoch
                );
                self.seq = seq;
                self.slots.extend(frame.get("slot").cloned());
                let data = frame["data"].clone();
                self.messages.push((self.epoch.clone(), seq, data));
            }
            Some("gap") => {
                if let Some(epoch) = frame["epoch"].as_str() {
                    self.epoch = epoch.to_owned();
                } else {
                    assert!(!self.has_all || frame["after"] == self.seq, "{frame}");
                }
                // A notice that the stream gave a number has that number itself.
                let next = frame["next"].as_u64().unwrap();
                self.seq = next - 1;
                self.notices.push(frame.clone());
            }
            Some("stale" | "live") => self.notices.push(frame.clone()),
            _ => {}
        }
        frame
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &str) {
        self.socket.send(Message::text(request)).await.unwrap();
    }

    /// Takes frames until there are so many messages.
    pub async fn take_messages(&mut self, count: usize) {
        while self.messages.len() < count {
            self.take().await;
        }
    }

    /// Takes frames until one of this type.
    pub async fn take_until(&mut self, kind: &str) -> Json {
        loop {
            let frame = self.take().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Takes frames until a message with this number of its own.
    pub async fn take_until_number(&mut self, topic: &str, number: u64) {
        loop {
            let frame = self.take().await;
            if frame["data"]["n"] == number && frame["topic"] == topic {
                return;
            }
        }
    }

    /// Returns the own numbers of the messages of a topic, in order.
    pub fn numbers(&self, topic: &str) -> Vec<u64> {
        let of_topic = self.messages.iter().map(|(_, _, data)| data);
        let of_topic = of_topic.filter(|data| data["topic"] == topic);
        of_topic.map(|data| data["n"].as_u64().unwrap()).collect()
    }

    pub fn gaps(&self) -> Vec<&Json> {
        self.notices
            .iter()
            .filter(|frame| frame["type"] == "gap")
            .collect()
    }
}
