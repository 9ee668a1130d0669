//! What a writer shard is told by the connections' tasks.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::settings::Settings;
use crate::shard::connection_state::ConnectionState;
use crate::shard::ids::ConnectionId;
use crate::subscription::Subscription;
use crate::wire::close::Disconnect;
use crate::wire::control::{Request, RequestError};
use crate::wire::cursor::From;
use crate::wire::format::{Format, SlowPolicy};

/// A request to the shard that owns the connection. One for an unknown connection is ignored: it has just ended.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new connection, to be welcomed.
    Open(Box<Opening>),
    /// A request of the client, checked, or why it is refused.
    Request {
        connection: ConnectionId,
        /// Bytes that it was written in, to be given back when it is carried out.
        bytes: usize,
        request: Result<Request, RequestError>,
    },
    /// A frame for this connection alone, behind the publications up to the number `after`.
    Direct {
        connection: ConnectionId,
        after: u64,
        frame: Bytes,
    },
    /// Somebody wants to know what it is subscribed to.
    Topics {
        connection: ConnectionId,
        answer: Answer,
    },
    /// Bytes that tungstenite writes: whole control frames.
    Control {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// The socket takes bytes again.
    Writable { connection: ConnectionId },
    /// No more publications: a close frame comes next.
    Mute { connection: ConnectionId },
    /// No more publications: send what waits, then end the writing side.
    Finish { connection: ConnectionId },
    /// The connection is gone.
    Remove { connection: ConnectionId },
    /// Every connection is to be closed, also those that come later.
    CloseAll { reason: Disconnect },
    /// The settings have changed.
    Reconfigure,
    /// The shard's thread ends.
    Stop,
}

impl Command {
    /// The connection that the command concerns alone; none for one that is only about to be opened.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Request { connection, .. }
            | Self::Direct { connection, .. }
            | Self::Topics { connection, .. }
            | Self::Control { connection, .. }
            | Self::Writable { connection }
            | Self::Mute { connection }
            | Self::Finish { connection }
            | Self::Remove { connection } => Some(*connection),
            Self::Open(_) | Self::CloseAll { .. } | Self::Reconfigure | Self::Stop => None,
        }
    }
}

type Tell = Box<dyn FnOnce(Option<Vec<Subscription>>) + Send>;

/// Who waits for the subscriptions of a connection to topics. Without being given any, it is told that there are none to
/// be had.
pub(crate) struct Answer(Option<Tell>);

impl Answer {
    pub(crate) fn new(tell: impl FnOnce(Option<Vec<Subscription>>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    pub(crate) fn give(mut self, topics: Vec<Subscription>) {
        if let Some(tell) = self.0.take() {
            tell(Some(topics));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(None);
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer")
    }
}

/// A connection as it starts.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) state: Arc<ConnectionState>,
    /// The answer to its request, which goes first.
    pub(crate) head: Bytes,
    pub(crate) format: Format,
    pub(crate) slow: SlowPolicy,
    pub(crate) from: Option<From>,
    /// The last publication when it was asked for.
    pub(crate) published: u64,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) ignored: Vec<String>,
    /// What holds for it, and is told to it.
    pub(crate) settings: Arc<Settings>,
}
