//! The command line.

use crate::control::Expect;
use crate::wire;
use rustls::ClientConfig;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "usage: load --url ws[s]://HOST:PORT/PATH?topic=TEMPLATE [--trust CERTIFICATE.pem] [--conns N] [--slow N] [--sources N] \
[--inflight N] [--connect-seconds S] [--deadline S] [--welcome true|false] [--protocol frames|nats] [--expect N]
In the URL {i} is the number of the connection, {mod:M} that modulo M, {over:N:K} N of K topics from there on, \
{every:C:N} the topics i, i+C, i+2C, ...";

/// What to do.
pub(crate) struct Args {
    /// Where the server listens; only this machine.
    pub(crate) server: SocketAddr,
    /// `host:port` as in the URL.
    pub(crate) host: String,
    /// Path and query, with placeholders.
    pub(crate) path: String,
    /// For `wss://`: whom to trust.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Connections that read.
    pub(crate) conns: usize,
    /// Connections that stop reading once they are subscribed.
    pub(crate) slow: usize,
    /// From how many addresses 127.0.0.x to connect; one address has about 28,000 ports.
    pub(crate) sources: u8,
    /// Handshakes under way at a time.
    pub(crate) inflight: usize,
    /// Give up connecting after this.
    pub(crate) connect: Duration,
    /// End whatever happens after this.
    pub(crate) deadline: Duration,
    /// Whether a server's first frame says that the subscription stands.
    pub(crate) welcome: bool,
    /// Whether the frames hold the NATS protocol, and topics are subscribed to by it.
    pub(crate) is_nats: bool,
    /// Without an orchestrator: arm at once, end with the first result.
    pub(crate) expect: Option<Expect>,
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            server: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
            host: String::new(),
            path: String::new(),
            tls: None,
            conns: 1,
            slow: 0,
            sources: 8,
            inflight: 256,
            connect: Duration::from_secs(60),
            deadline: Duration::from_secs(900),
            welcome: true,
            is_nats: false,
            expect: None,
        };
        let mut is_tls = false;
        while let Some(name) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            let number = || {
                value
                    .parse::<u32>()
                    .map_err(|error| format!("{name} {value}: {error}\n{USAGE}"))
            };
            match name.as_str() {
                "--url" => is_tls = parsed.set_url(&value)?,
                "--trust" => parsed.tls = Some(wire::trust(&value)?),
                "--conns" => parsed.conns = number()? as usize,
                "--slow" => parsed.slow = number()? as usize,
                "--sources" => parsed.sources = number()?.clamp(1, 200) as u8,
                "--inflight" => parsed.inflight = number()?.max(1) as usize,
                "--connect-seconds" => parsed.connect = Duration::from_secs(number()?.into()),
                "--deadline" => parsed.deadline = Duration::from_secs(number()?.into()),
                "--welcome" => parsed.welcome = value == "true",
                "--protocol" => parsed.is_nats = value == "nats",
                "--expect" => parsed.expect = Some(Expect::count(number()?.into())),
                _ => return Err(format!("unknown option {name}\n{USAGE}")),
            }
        }
        if parsed.host.is_empty() {
            Err(USAGE.into())
        } else if is_tls != parsed.tls.is_some() {
            Err("wss:// and --trust need each other".into())
        } else {
            Ok(parsed)
        }
    }

    /// Gives whether the URL asks for TLS.
    fn set_url(&mut self, url: &str) -> Result<bool, String> {
        let (is_tls, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            _ => return Err("only ws:// and wss:// URLs".into()),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut found = host
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?;
        // A tool that opens connections by the thousand must not be pointed at somebody else's machine by a typo.
        self.server = found
            .find(|addr| addr.ip().is_loopback() && addr.is_ipv4())
            .ok_or("only loopback, 127.0.0.0/8")?;
        self.host = host.to_owned();
        self.path = if path.is_empty() {
            "/".into()
        } else {
            path.to_owned()
        };
        Ok(is_tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_full_line() {
        let args = parse("--url ws://127.0.0.1:99/ws?topic=t{i} --conns 5 --slow 2 --expect 9")
            .expect("valid");
        assert_eq!(
            (
                args.path.as_str(),
                args.server.port(),
                args.conns,
                args.slow
            ),
            ("/ws?topic=t{i}", 99, 5, 2)
        );
    }

    #[test]
    fn other_machines_and_nonsense_are_refused() {
        for line in [
            "",
            "--url ws://192.0.2.1:80/",
            "--url http://127.0.0.1:80/",
            "--conns x",
            "--what 1",
            "--conns",
            "--url wss://127.0.0.1:99/ws",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
