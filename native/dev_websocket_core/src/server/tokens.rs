//! Tokens that the embedding program issues and revokes.

use crate::access::{IssueError, NewToken, Revocation, RevokeError};
use crate::server::Server;

impl Server {
    /// Signs a token that this server accepts. The secret lives as long as the program, unless [`crate::TokenState`] is
    /// kept elsewhere.
    ///
    /// # Errors
    /// [`IssueError`] names the field that is wrong.
    pub fn token(&self, token: &NewToken) -> Result<String, IssueError> {
        let settings = self.shared.settings();
        self.shared.context.access.issue(token, &settings)
    }

    /// Revokes a token, or the tokens of a subject. Connections with such a token are closed with 3003.
    ///
    /// # Errors
    /// [`RevokeError`] if the revocation is malformed or there are too many.
    pub fn revoke(&self, revocation: Revocation) -> Result<(), RevokeError> {
        let settings = self.shared.settings();
        self.shared.context.access.revoke(revocation, &settings)
    }
}
