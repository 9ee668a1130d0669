//! The reasons why a token is refused. Each has a name for the metrics and a text for the client.

use thiserror::Error;

/// The reason why a token is refused. No variant holds a part of the token that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("token: required; this server has access=token")]
    Missing,
    #[error("token: given more than once in {0}")]
    Repeated(&'static str),
    #[error(
        "token: not allowed in the URL; use the header Authorization or the subprotocol bearer.<token>"
    )]
    InUrl,
    #[error("token: this connection is not encrypted; use wss or https")]
    Insecure,
    #[error("token: longer than {0} bytes (max_token_bytes)")]
    TooLong(u64),
    #[error("token: not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("token: header {0} is not supported")]
    Header(&'static str),
    #[error("token: typ must be at+jwt")]
    Type,
    #[error("token: alg must be EdDSA, ES256, RS256 or HS256, and the one of the key")]
    Algorithm,
    #[error("token: kid is missing or names no key of this server")]
    Key,
    #[error("token: the signature does not verify")]
    Signature,
    #[error("token: claim {0}")]
    Claims(String),
    #[error("token: iss is not the issuer of the key")]
    Issuer,
    #[error("token: aud must be dev_websocket")]
    Audience,
    #[error("token: expired")]
    Expired,
    #[error("token: not valid yet (nbf or iat)")]
    Early,
    #[error("token: exp is more than {0} seconds ahead (token_max_life)")]
    Life(u64),
    #[error("token: authorization_details: {0}")]
    Grants(String),
    #[error("token: revoked")]
    Revoked,
    #[error("token: sub and iss must be those of the connection's first token")]
    Subject,
    #[error("busy: too many tokens in this second (max_logins); try again")]
    Busy,
}
