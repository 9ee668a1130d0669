//! Publishes to nginx with Nchan: a POST for each message, one behind the other on one connection.

use crate::wire;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use wsbench::feed::{Publish, Topic};

pub(crate) struct Nchan {
    out: Sender<Vec<u8>>,
}

impl Nchan {
    /// Publishes once where nobody listens, to see that it can.
    pub(crate) fn new(mut stream: TcpStream) -> io::Result<Self> {
        stream.write_all(&request("nobody", b"hello"))?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..read]);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(io::Error::other(format!("not published: {answer}")));
        }
        let out = wire::writer(stream.try_clone()?)?;
        // The subscribers miss a refused message, and the load client counts it.
        wire::reader(stream, |_| Ok(()))?;
        Ok(Self { out })
    }
}

impl Publish for Nchan {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        // The writing thread ends only with the process.
        let _ = self.out.send(request(&topic.name, payload));
    }
}

fn request(topic: &str, payload: &[u8]) -> Vec<u8> {
    let size = payload.len();
    let mut request = format!(
        "POST /pub?topic={topic} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    )
    .into_bytes();
    request.extend(payload);
    request
}
