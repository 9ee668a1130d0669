//! What the frames of a connection hold: messages, or the NATS protocol.

use wsbench::frame::{client_control, opcode};
use wsbench::reader::{Event, Reader};
use wsbench::{handshake, nats};

/// Answers that wait for room; a server that pings faster than it reads gets no unbounded ones.
const MAX_ANSWERS: usize = 16 * 1024;

pub(crate) enum Parser {
    Frames(Reader),
    Nats {
        reader: nats::Reader,
        /// What subscribes, until it is sent.
        greeting: Vec<u8>,
    },
}

impl Parser {
    /// For a connection that asks for topics with this path.
    pub(crate) fn new(is_nats: bool, path: &str) -> Self {
        if is_nats {
            Self::Nats {
                reader: nats::Reader::default(),
                greeting: nats::subscribe(handshake::topics(path)),
            }
        } else {
            Self::Frames(Reader::default())
        }
    }

    pub(crate) fn is_nats(&self) -> bool {
        matches!(self, Self::Nats { .. })
    }

    /// What to send once the connection is upgraded.
    pub(crate) fn greeting(&mut self) -> Vec<u8> {
        match self {
            Self::Frames(_) => Vec::new(),
            Self::Nats { greeting, .. } => std::mem::take(greeting),
        }
    }

    /// Takes the next bytes and reports what they complete.
    #[inline]
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        hint: &mut usize,
        report: impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        match self {
            Self::Frames(reader) => reader
                .feed(bytes, hint, report)
                .map_err(|invalid| format!("{invalid:?}")),
            Self::Nats { reader, .. } => reader.feed(bytes, hint, report),
        }
    }
}

/// Puts an answer in line, to be sent when the connection can be written to.
pub(crate) fn answer_ping(is_nats: bool, out: &mut Vec<u8>, payload: &[u8]) {
    if out.len() >= MAX_ANSWERS {
        return;
    }
    if is_nats {
        nats::pong(out);
    } else {
        client_control(out, opcode::PONG, payload);
    }
}
