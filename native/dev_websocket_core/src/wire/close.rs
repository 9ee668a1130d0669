//! Why the server ends a connection: close codes and reasons (RFC 6455 section 7.4).

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A reason to close a connection, each with its own close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnect {
    /// 1001: the server is stopping.
    Stopping,
    /// 1002: the client broke the WebSocket protocol.
    Protocol,
    /// 1007: the client sent text that is not UTF-8.
    InvalidText,
    /// 1008: more messages a second than `max_inbound_rate`.
    TooManyMessages,
    /// 1008: no sign of life within two pings.
    NoPong,
    /// 1009: a message larger than `max_inbound_bytes`.
    TooLarge,
    /// 1008: the operator wants it so.
    Operator,
    /// 1011: a fault inside the server, which was contained.
    RequestError,
    /// 1012: the server is starting anew.
    Restarting,
    /// 1013: the client reads more slowly than it is sent to, and its format has no gap frames.
    Slow,
}

impl Disconnect {
    /// The close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Stopping => 1001,
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::TooManyMessages | Self::NoPong | Self::Operator => 1008,
            Self::TooLarge => 1009,
            Self::RequestError => 1011,
            Self::Restarting => 1012,
            Self::Slow => 1013,
        }
    }

    /// What the client is told.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Stopping => "server stopping",
            Self::Protocol => "protocol error",
            Self::InvalidText => "text is not UTF-8",
            Self::TooManyMessages => "too many messages",
            Self::NoPong => "no answer to two pings",
            Self::TooLarge => "message too large",
            Self::Operator => "disconnected by the operator",
            Self::RequestError => "internal error",
            Self::Restarting => "server restarting",
            Self::Slow => "client too slow",
        }
    }

    /// What programs read in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Protocol => "protocol",
            Self::InvalidText => "invalid_text",
            Self::TooManyMessages => "rate",
            Self::NoPong => "no_pong",
            Self::TooLarge => "too_large",
            Self::Restarting => "restarting",
            Self::Slow => "slow",
            Self::Operator => "operator",
            Self::RequestError => "fault",
        }
    }

    /// Whether the client is the cause, and not the server.
    pub(crate) fn is_of_client(self) -> bool {
        !matches!(
            self,
            Self::Stopping | Self::Restarting | Self::Operator | Self::RequestError
        )
    }

    pub(crate) fn frame(self) -> CloseFrame {
        CloseFrame {
            code: CloseCode::from(self.code()),
            reason: self.reason().into(),
        }
    }
}
