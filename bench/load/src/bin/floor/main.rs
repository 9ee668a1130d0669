//! The floor: a TCP fan-out of prebuilt WebSocket frames without any pub/sub logic. What it reaches is what the kernel
//! allows plain sockets; what a server reaches is told as a share of it.
//!
//! `floor --mode write` sends each message to each socket by itself, `floor --mode coalesce` hands a socket all that is
//! queued in one vectored write. The publisher is another thread, as in any server whose application publishes.

mod accept;
mod outbox;
mod queue;
mod shard;

use queue::{Item, Queue};
use std::{net::TcpListener, sync::Arc};
use wsbench::feed::{self, Publish, Topic};
use wsbench::frame::server_text;

/// How a shard hands frames to the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One call per message and socket.
    Write,
    /// One call per socket for all that is queued.
    Coalesce,
}

struct Options {
    mode: Mode,
    writers: usize,
    port: u16,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            mode: Mode::Coalesce,
            writers: 1,
            port: 0,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                value
                    .parse::<u16>()
                    .map_err(|e| format!("{name} {value}: {e}"))
            };
            match (name.as_str(), value.as_str()) {
                ("--mode", "write") => options.mode = Mode::Write,
                ("--mode", "coalesce") => options.mode = Mode::Coalesce,
                ("--writers", _) => options.writers = usize::from(number()?.clamp(1, 64)),
                ("--port", _) => options.port = number()?,
                _ => {
                    return Err(format!(
                        "unknown: {name} {value}; know --mode write|coalesce, --writers N, --port N"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Gives every shard every message; a shard sends it to those of its sockets that asked for the topic.
struct Floor {
    shards: Vec<Arc<Queue>>,
}

impl Publish for Floor {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        let frame: Arc<[u8]> = server_text(payload).into();
        for shard in &self.shards {
            shard.push(Item::Send {
                topic: topic.index,
                frame: Arc::clone(&frame),
            });
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse()?;
    let text = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind(("127.0.0.1", options.port)).map_err(text)?;
    // The standard library listens with a backlog of 128, too small for a storm of connections.
    socket2::SockRef::from(&listener)
        .listen(4096)
        .map_err(text)?;
    let port = listener.local_addr().map_err(text)?.port();
    let shards = (0..options.writers)
        .map(|_| shard::start(options.mode))
        .collect::<Result<Vec<_>, _>>()
        .map_err(text)?;
    accept::start(listener, shards.clone()).map_err(text)?;
    feed::ready(port).map_err(text)?;
    feed::serve(&mut Floor { shards }).map_err(text)
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("floor: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
