//! One connection: connecting, handshake, welcome, live.

use crate::args::Args;
use crate::parser::Parser;
use crate::wire::{Received, Wire};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};
use std::time::Duration;
use wsbench::frame::{client_control, opcode};
use wsbench::handshake;
use wsbench::track::Track;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its frames are the measurement.
    Reader,
    /// Subscribes and never reads again.
    Slow,
    /// Comes and goes.
    Churn,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Handshake,
    /// Upgraded, but the server has not yet said that the subscription stands.
    Welcome,
    Live,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Handshake => "in its handshake",
            Self::Welcome => "waiting for its welcome",
            Self::Live => "live",
        }
    }
}

pub(crate) struct Conn {
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// Position among the reading connections, or the number that fills the template.
    pub(crate) index: usize,
    parser: Parser,
    /// Only of a connection that comes and goes.
    pub(crate) track: Track,
    wire: Wire,
    /// The server's response head while it is not whole.
    head: Vec<u8>,
    /// Bytes that wait for room in the socket.
    out: Vec<u8>,
}

impl Conn {
    /// Begins to connect, from one of several addresses.
    pub(crate) fn open(args: &Args, kind: Kind, index: usize) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV4,
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if kind == Kind::Slow {
            // A window of a few KB and segments as on a real network. With loopback's 64 KB segments the kernel itself
            // would take in megabytes per connection before the server noticed anything.
            socket.set_recv_buffer_size(4096)?;
            socket.set_tcp_mss(1400)?;
        }
        let last = 2 + (index % usize::from(args.sources)) as u8;
        let source = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&source.into())?;
        match socket.connect(&args.server.into()) {
            Ok(()) => {}
            // EINPROGRESS has no kind of its own that is stable.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error),
        }
        let path = crate::template::fill(&args.path, index);
        let request = handshake::request(&args.host, &path);
        Ok(Self {
            kind,
            state: State::Connecting,
            index,
            parser: Parser::new(args.is_nats, &path),
            track: Track::default(),
            wire: Wire::new(
                TcpStream::from_std(socket.into()),
                args.tls.as_ref(),
                &args.host,
            )?,
            head: Vec::new(),
            out: request.into_bytes(),
        })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.wire.stream()
    }

    /// The kernel says that there is room, or that connecting ended.
    pub(crate) fn writable(&mut self) -> io::Result<()> {
        if self.state == State::Connecting {
            if let Some(error) = self.wire.stream().take_error()? {
                return Err(error);
            }
            self.state = State::Handshake;
        }
        self.wire.send(&mut self.out)
    }

    /// One read; `None` when there is nothing.
    #[inline]
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        sealed: &mut [u8],
    ) -> io::Result<Option<Received>> {
        self.wire.receive(buffer, sealed)
    }

    /// Takes bytes of the response head; gives what follows it, once it is whole.
    pub(crate) fn handshake(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.head.extend_from_slice(bytes);
        let Some(end) = handshake::check_response(&self.head).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let rest = self.head.split_off(end);
        self.head = Vec::new();
        self.state = State::Welcome;
        self.out.append(&mut self.parser.greeting());
        self.wire.send(&mut self.out)?;
        Ok(Some(rest))
    }

    /// The parser and what it may answer into, borrowed apart.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut Parser, &mut Vec<u8>, &mut Track) {
        (&mut self.parser, &mut self.out, &mut self.track)
    }

    /// Leaves in one of the ways that clients leave in; errors do not matter any more.
    pub(crate) fn leave(&mut self, how: usize) {
        match how % 4 {
            0 => {
                // A reset.
                let _ =
                    socket2::SockRef::from(&*self.wire.stream()).set_linger(Some(Duration::ZERO));
            }
            1 => {
                // The polite way.
                let mut frame = Vec::new();
                client_control(&mut frame, opcode::CLOSE, &1000u16.to_be_bytes());
                let _ = self.wire.send(&mut frame);
            }
            2 => {
                // Half closed first, so that the server finds the end before the connection is gone.
                let _ = self.wire.stream().shutdown(Shutdown::Write);
            }
            _ => {} // just closed
        }
    }
}
