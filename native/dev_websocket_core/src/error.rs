//! What can go wrong at the engine's own boundary. Faults of one client are answered to that client instead: see
//! [`crate::http::refusal`] and [`crate::wire::control`].

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a server did not start, or did not take new settings.
#[derive(Debug, Error)]
pub enum StartError {
    /// The listener's address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no threads.
    #[error("cannot start the server's threads")]
    Threads(#[source] io::Error),
}

/// Why a message was not published. Each is counted under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rejected {
    /// As JSON it is larger than `max_message_bytes`.
    #[error("the message is too large")]
    TooLarge,
    /// `publish_queue_bytes` of publications already wait for the writer shards.
    #[error("the publish queue is full")]
    Overload,
    /// Nobody is connected and no history is kept.
    #[error("the message has no audience")]
    NoAudience,
}

/// Why a JSON text was not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadJson {
    /// The text is no JSON, or nested too deep; says what is wrong and where.
    #[error("{0}")]
    Malformed(String),
    /// The message was dropped.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}
