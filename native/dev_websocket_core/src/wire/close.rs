//! Close codes and reasons of connections that the server ends (RFC 6455 section 7.4).

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The reason why a connection is closed; each reason has a close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnect {
    /// 1001: the server is stopping.
    Stopping,
    /// 1002: the client violated the WebSocket protocol.
    Protocol,
    /// 1007: the client sent text that is not UTF-8.
    InvalidText,
    /// 1007: the client sent compressed data that cannot be inflated.
    InvalidData,
    /// 1008: the client sent more messages per second than `max_inbound_rate`.
    TooManyMessages,
    /// 1008: the client showed no sign of life within two pings.
    NoPong,
    /// 1009: the client sent a message larger than `max_inbound_bytes`.
    TooLarge,
    /// 1008: the operator disconnected the client.
    Operator,
    /// 3000: the token expired. A new one opens another connection.
    TokenExpired,
    /// 3000: the connection has no token, and none came in time.
    Unauthorized,
    /// 3003: the token was revoked. The client must not come back with it.
    Revoked,
    /// 1008: a raw connection sent a message that its token does not allow.
    Forbidden,
    /// 1011: the server panicked and contained the panic.
    Panic,
    /// 1012: the server is restarting.
    Restarting,
    /// 1013: the client is a slow consumer and its format has no gap frames.
    Slow,
}

impl Disconnect {
    /// Returns the close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Stopping => 1001,
            Self::Protocol => 1002,
            Self::InvalidText | Self::InvalidData => 1007,
            Self::TooManyMessages | Self::NoPong | Self::Operator | Self::Forbidden => 1008,
            Self::TooLarge => 1009,
            Self::Panic => 1011,
            Self::Restarting => 1012,
            Self::Slow => 1013,
            Self::TokenExpired | Self::Unauthorized => 3000,
            Self::Revoked => 3003,
        }
    }

    /// Returns the reason that the close frame carries.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Stopping => "server stopping",
            Self::Protocol => "protocol error",
            Self::InvalidText => "text is not UTF-8",
            Self::InvalidData => "compressed data is broken",
            Self::TooManyMessages => "too many messages",
            Self::NoPong => "no answer to two pings",
            Self::TooLarge => "message too large",
            Self::Operator => "disconnected by the operator",
            Self::Panic => "internal error",
            Self::Restarting => "server restarting",
            Self::Slow => "client too slow",
            Self::TokenExpired => "token expired",
            Self::Unauthorized => "token required",
            Self::Revoked => "token revoked",
            Self::Forbidden => "not allowed to send",
        }
    }

    /// Returns the reason's name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Protocol => "protocol",
            Self::InvalidText => "invalid_text",
            Self::InvalidData => "invalid_data",
            Self::TooManyMessages => "rate",
            Self::NoPong => "no_pong",
            Self::TooLarge => "too_large",
            Self::Restarting => "restarting",
            Self::Slow => "slow",
            Self::Operator => "operator",
            Self::TokenExpired | Self::Unauthorized => "unauthorized",
            Self::Revoked => "revoked",
            Self::Forbidden => "forbidden",
            Self::Panic => "fault",
        }
    }

    /// Returns whether the client is the cause rather than the server.
    pub(crate) fn is_of_client(self) -> bool {
        !matches!(
            self,
            Self::Stopping
                | Self::Restarting
                | Self::Operator
                | Self::Revoked
                | Self::TokenExpired
                | Self::Panic
        )
    }

    pub(crate) fn frame(self) -> CloseFrame {
        CloseFrame {
            code: CloseCode::from(self.code()),
            reason: self.reason().into(),
        }
    }
}
