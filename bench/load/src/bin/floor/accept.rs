//! Accepts connections and does their handshakes, one after the other, away from the writers.

use crate::queue::{Item, Queue};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use wsbench::feed::Topic;
use wsbench::frame::server_text;
use wsbench::handshake::{self, MAX_HEAD};

/// A client that stalls inside its handshake holds up the others this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Later errors are likely the same.
const ERRORS_TOLD: u32 = 5;

pub(crate) fn start(listener: TcpListener, shards: Vec<Arc<Queue>>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("accept".into())
        .spawn(move || {
            let mut next = shards.iter().cycle();
            let mut told = 0;
            for stream in listener.incoming() {
                let joined = stream.and_then(handshake);
                match (joined, next.next()) {
                    (Ok(item), Some(shard)) => shard.push(item),
                    (Err(error), _) => {
                        told += 1;
                        if told <= ERRORS_TOLD {
                            eprintln!("floor: accept: {error}");
                        }
                        // Out of file descriptors: do not spin.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    (Ok(_), None) => return,
                }
            }
        })?;
    Ok(())
}

fn handshake(mut stream: TcpStream) -> io::Result<Item> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let request =
        handshake::parse_request(&head).ok_or_else(|| io::Error::other("no WebSocket request"))?;
    let mut answer = handshake::response(&request.accept).into_bytes();
    answer.extend(server_text(br#"{"type":"welcome"}"#));
    stream.write_all(&answer)?;
    stream.set_nonblocking(true)?;
    let topics = handshake::topics(&request.target)
        .map(|name| Topic::new(name).index)
        .collect();
    Ok(Item::Join { stream, topics })
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
