//! What a writer shard is told by the connections' tasks.

use std::sync::Arc;

use bytes::Bytes;

use crate::connection::link::Link;
use crate::cursor::{From, Since};
use crate::disconnect::Disconnect;
use crate::protocol::{Fault, RequestId};
use crate::settings::Settings;
use crate::subscription::Subscription;

/// A connection's number, unique within the server.
pub(crate) type ConnectionId = u64;

/// A request to the shard that owns the connection. One for an unknown connection is ignored: it has just ended.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new connection, to be welcomed.
    Open(Box<Opening>),
    /// More subscriptions.
    Subscribe {
        connection: ConnectionId,
        id: RequestId,
        subscriptions: Vec<Subscription>,
        /// Replays what was published behind this cursor, for what is new.
        since: Option<Since>,
    },
    /// Fewer subscriptions.
    Unsubscribe {
        connection: ConnectionId,
        id: RequestId,
        subscriptions: Vec<Subscription>,
    },
    /// A `pong` frame.
    Pong {
        connection: ConnectionId,
        id: RequestId,
    },
    /// An error frame.
    Fault {
        connection: ConnectionId,
        fault: Fault,
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

/// A connection as it starts.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) link: Arc<Link>,
    pub(crate) format: Format,
    pub(crate) slow: SlowPolicy,
    pub(crate) from: Option<From>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) ignored: Vec<String>,
    /// What holds for it, and is told to it.
    pub(crate) settings: Arc<Settings>,
}

/// What a connection's frames hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// Messages with their topics and number, and the control protocol.
    #[default]
    Json,
    /// The data of messages and nothing else.
    Raw,
}

/// What becomes of publications that a slow connection has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SlowPolicy {
    /// The oldest are dropped, and a gap frame tells of them.
    #[default]
    Gap,
    /// Those that a newer one of the same topic follows are dropped first.
    Latest,
    /// The connection is closed.
    Close,
}
