//! The permissions of one connection.

use std::sync::Arc;

use super::grants::Grants;
use crate::error_code::ErrorCode;

/// The permissions of a connection, from a token or without one.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) grants: Grants,
    /// The token's identity; `None` without a token.
    pub(crate) holder: Option<Holder>,
}

/// The identity and the life of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) iss: Box<str>,
    pub(crate) sub: Box<str>,
    pub(crate) jti: Option<Box<str>>,
    /// Seconds since 1970, 0 if the token does not tell.
    pub(crate) issued_at: u64,
    /// Milliseconds since 1970.
    pub(crate) ends_at: u64,
}

impl Session {
    /// Returns a session without restrictions: on an open server, or on the operator's port.
    pub(crate) fn unrestricted() -> Arc<Self> {
        Arc::new(Self {
            grants: Grants::all(),
            holder: None,
        })
    }

    /// Returns a session without a token, which public topics are open to.
    pub(crate) fn anonymous() -> Arc<Self> {
        Arc::new(Self {
            grants: Grants::default(),
            holder: None,
        })
    }

    /// Returns the end of the session in milliseconds since 1970, if it has one.
    pub(crate) fn ends_at(&self) -> Option<u64> {
        self.holder.as_ref().map(|holder| holder.ends_at)
    }

    /// Returns whether a new token speaks for the same subject. A connection without a token takes any.
    pub(crate) fn may_become(&self, next: &Self) -> bool {
        match (&self.holder, &next.holder) {
            (Some(held), Some(next)) => (&held.iss, &held.sub) == (&next.iss, &next.sub),
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    /// Returns the code of a request that the session does not allow. Without a token, one may help.
    pub(crate) fn refusal(&self) -> ErrorCode {
        match self.holder {
            Some(_) => ErrorCode::Forbidden,
            None => ErrorCode::Unauthorized,
        }
    }

    /// Returns whether the session has a token with every permission that a token can give.
    pub(crate) fn allows_all(&self) -> bool {
        self.holder.is_some() && self.grants.everything && self.grants.send
    }

    /// Returns whether the session has no token and no permissions of its own.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.holder.is_none() && !self.grants.everything
    }
}
