//! Access control: tokens, the grants in them, and the keys that sign them.
//!
//! With `access = open` every connection may subscribe to everything. With `access = token` a connection may subscribe
//! to public topics and to what its token grants (docs/PROTOCOL.md, "Authorization"). A request is allowed or refused
//! whole; nothing is filtered silently.

pub(crate) mod authority;
mod claims;
mod error;
pub(crate) mod expiry;
mod grants;
#[cfg(test)]
mod grants_tests;
mod issue;
mod jws;
mod keys;
mod logins;
mod object;
mod revocations;
pub(crate) mod session;
#[cfg(test)]
pub(crate) mod test_tokens;
#[cfg(test)]
mod tests;
mod watched_file;

pub use self::authority::TokenState;
pub use self::issue::{IssueError, NewToken};
pub use self::revocations::{Revocation, RevokeError};

pub(crate) use self::authority::Authority;
pub(crate) use self::error::TokenError;
pub(crate) use self::expiry::Task;
pub(crate) use self::grants::Forbidden;
pub(crate) use self::session::Session;

/// Scheme of the header `Authorization` (RFC 6750 section 2.1).
pub(crate) const SCHEME: &str = "Bearer";

/// Clock difference that is tolerated between this server and a token's issuer, in seconds.
pub(crate) const LEEWAY_SECONDS: u64 = 30;

/// A token as text. It never appears in a log or in a debug output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text for verification.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}
