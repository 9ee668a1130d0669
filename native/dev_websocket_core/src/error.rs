//! Errors of the engine's own API: start, settings and publishing.
//!
//! Errors of a single client are answered to that client instead: see [`crate::http::refusal`] and
//! [`crate::wire::control`].

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// The reason why a server did not start or did not accept new settings.
#[derive(Debug, Error)]
pub enum StartError {
    /// The listener's address is in use or does not belong to this host.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The address of `operator_host` and `operator_port` is in use or does not belong to this host.
    #[error("cannot listen on {address} (operator_port)")]
    ListenOperator {
        /// The requested address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The operating system refused to create a thread.
    #[error("cannot start the server's threads")]
    Threads(#[source] io::Error),
    /// The stream of `engine` cannot be used.
    #[error("{setting}: {reason}")]
    Engine {
        /// The name of the setting.
        setting: &'static str,
        /// The problem, without the content of files.
        reason: String,
    },
    /// The certificate or the private key of TLS cannot be used.
    #[error("{setting}: {reason}")]
    Certificate {
        /// The name of the setting.
        setting: &'static str,
        /// The problem, without the content of the file.
        reason: String,
    },
}

/// The reason why a message was not published. A counter exists for each reason, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rejected {
    /// The message's JSON is larger than `max_message_bytes`.
    #[error("the message is too large")]
    TooLarge,
    /// `publish_queue_bytes` of publications already wait for the writer shards.
    #[error("the publish queue is full")]
    Overload,
    /// No client is connected and no history is kept.
    #[error("the message has no audience")]
    NoAudience,
}

/// The reason why a JSON text was not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadJson {
    /// The text is not JSON or is nested too deeply; the string gives the error and its position.
    #[error("{0}")]
    Malformed(String),
    /// The JSON is valid, but the engine rejected the message.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// The reason why a message that a caller writes value by value was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished<E> {
    /// The engine rejected the message; the counters include it already.
    Rejected(Rejected),
    /// The caller stopped writing; nothing is counted.
    Stopped(E),
}

impl<E> From<Rejected> for Unpublished<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}
