//! The commands that the tasks of connections send to their writer shard.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::settings::Settings;
use crate::shard::connection_state::ConnectionState;
use crate::shard::ids::ConnectionId;
use crate::shard::slot_replay::{SlotPermit, SlotStep};
use crate::shard::stream_reads::{Chunk, ReadPermit};
use crate::subscription::Subscription;
use crate::wire::close::Disconnect;
use crate::wire::control::{Request, RequestError};
use crate::wire::cursor::From;
use crate::wire::format::{Format, SlowPolicy};
use crate::wire::slots::SlotStart;

/// A command to the shard that owns the connection. The shard ignores a command for an unknown connection, because that
/// has just ended.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new connection, which the shard welcomes.
    Open(Box<Opening>),
    /// A request of the client after its check, or the reason for refusing it.
    Request {
        connection: ConnectionId,
        /// Size of the request's text in bytes. The shard releases it after the request is carried out.
        bytes: usize,
        request: Result<Request, RequestError>,
    },
    /// A frame for this connection alone. It follows the publications up to the sequence number `after`.
    Direct {
        connection: ConnectionId,
        after: u64,
        frame: Bytes,
    },
    /// The next step of a connection's slot replay.
    Slots {
        connection: ConnectionId,
        replay: u64,
        step: SlotStep,
    },
    /// The next records of the stream for a connection whose cursor is older than the history.
    Chunk {
        connection: ConnectionId,
        read: u64,
        chunk: Chunk,
    },
    /// A question for the subscriptions of a connection.
    Topics {
        connection: ConnectionId,
        answer: Answer,
    },
    /// Complete control frames that tungstenite wrote.
    Control {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// The client's token ends soon, at a time in milliseconds since 1970.
    TokenExpires { connection: ConnectionId, at: u64 },
    /// The socket takes bytes again.
    Writable { connection: ConnectionId },
    /// Stops publications, because a close frame comes next.
    Mute { connection: ConnectionId },
    /// Stops publications, sends the queued frames and then ends the writing side.
    Finish { connection: ConnectionId },
    /// The connection is gone.
    Remove { connection: ConnectionId },
    /// Closes all connections, including those that arrive later.
    CloseAll { reason: Disconnect },
    /// News of the stream for all connections, after the publications up to the sequence number `after`.
    Stream { after: u64, news: StreamNews },
    /// The settings have changed.
    Reconfigure,
    /// Ends the shard's thread.
    Stop,
}

impl Command {
    /// Returns the connection that the command concerns alone. A command that opens a connection has none yet.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Request { connection, .. }
            | Self::Direct { connection, .. }
            | Self::Slots { connection, .. }
            | Self::Chunk { connection, .. }
            | Self::Topics { connection, .. }
            | Self::Control { connection, .. }
            | Self::TokenExpires { connection, .. }
            | Self::Writable { connection }
            | Self::Mute { connection }
            | Self::Finish { connection }
            | Self::Remove { connection } => Some(*connection),
            Self::Open(_)
            | Self::CloseAll { .. }
            | Self::Stream { .. }
            | Self::Reconfigure
            | Self::Stop => None,
        }
    }
}

/// News of the stream that several servers share.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StreamNews {
    /// It is away since a time, in milliseconds since 1970.
    Away { since: u64 },
    /// It is back, and everything that it had is in the log.
    Present,
}

type Tell = Box<dyn FnOnce(Option<Vec<Subscription>>) + Send>;

/// Callback for the subscriptions of a connection. If it is dropped without an answer, it reports that there is none.
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

/// The parameters of a new connection.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) state: Arc<ConnectionState>,
    /// The response to its HTTP request, which is sent first.
    pub(crate) head: Bytes,
    pub(crate) format: Format,
    pub(crate) slow: SlowPolicy,
    pub(crate) from: Option<From>,
    /// The start of a slot replay and its place among all of them.
    pub(crate) slots: Option<(SlotStart, SlotPermit)>,
    /// The place of a read of the stream, if the cursor is older than the history.
    pub(crate) read: Option<ReadPermit>,
    /// Sequence number of the last publication at the time of the request.
    pub(crate) published: u64,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) ignored: Vec<String>,
    /// The settings that apply to the connection and are reported to the client.
    pub(crate) settings: Arc<Settings>,
}
