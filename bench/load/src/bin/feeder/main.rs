//! Publishes to a server that takes messages over the network: NATS, or Nchan over HTTP.
//!
//!     feeder nats|nchan HOST:PORT
//!
//! The same commands on stdin as every server of the benchmark has.

mod nats;
mod nchan;
mod wire;

use std::net::{SocketAddr, TcpStream};
use wsbench::feed::{self, Publish, Topic};

/// A way to publish over the network.
enum Feeder {
    Nats(nats::Nats),
    Nchan(nchan::Nchan),
}

impl Publish for Feeder {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        match self {
            Self::Nats(nats) => nats.publish(topic, payload),
            Self::Nchan(nchan) => nchan.publish(topic, payload),
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let (Some(kind), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: feeder nats|nchan HOST:PORT".into());
    };
    let address: SocketAddr = address.parse().map_err(|error| format!("{error}"))?;
    if !address.ip().is_loopback() {
        return Err("only loopback, 127.0.0.0/8".into());
    }
    let text = |error: std::io::Error| format!("{address}: {error}");
    let stream = TcpStream::connect(address).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let mut feeder = match kind.as_str() {
        "nats" => Feeder::Nats(nats::Nats::new(stream).map_err(text)?),
        "nchan" => Feeder::Nchan(nchan::Nchan::new(stream).map_err(text)?),
        _ => return Err(format!("no protocol {kind}")),
    };
    feed::ready(address.port()).map_err(text)?;
    feed::serve(&mut feeder).map_err(text)
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("feeder: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
