//! Publishes to nats-server, over its own protocol.

use crate::wire;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use wsbench::feed::{Publish, Topic};

const HELLO: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"1\",\"protocol\":1}\r\nPING\r\n";

pub(crate) struct Nats {
    out: Sender<Vec<u8>>,
}

impl Nats {
    /// Says hello and waits for the answer.
    pub(crate) fn new(mut stream: TcpStream) -> io::Result<Self> {
        stream.write_all(HELLO)?;
        // The server says nothing behind its answer before a while, so nothing is lost in this buffer.
        for line in BufReader::new(stream.try_clone()?).lines() {
            if line?.starts_with("PONG") {
                break;
            }
        }
        let out = wire::writer(stream.try_clone()?)?;
        let answers = out.clone();
        let mut line = Vec::new();
        wire::reader(stream, move |bytes| {
            for byte in bytes {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                if line.starts_with(b"PING") {
                    let _ = answers.send(b"PONG\r\n".to_vec());
                } else if line.starts_with(b"-ERR") {
                    return Err(io::Error::other(String::from_utf8_lossy(&line)));
                }
                line.clear();
            }
            Ok(())
        })?;
        Ok(Self { out })
    }
}

impl Publish for Nats {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        let mut message = format!("PUB {} {}\r\n", topic.name, payload.len()).into_bytes();
        message.extend(payload);
        message.extend(b"\r\n");
        // The writing thread ends only with the process.
        let _ = self.out.send(message);
    }
}
