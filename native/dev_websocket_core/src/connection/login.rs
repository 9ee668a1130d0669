//! Tokens that a client hands over after its request.

use super::websocket::Session;
use crate::access::{Token, TokenError};
use crate::error_code::ErrorCode;
use crate::wire::close::Disconnect;
use crate::wire::control::{Request, RequestError, RequestId, VerifiedSession};

/// Limit on invalid tokens in a row. The next one closes the connection.
const MAX_FAILED_LOGINS: u32 = 4;

impl Session<'_> {
    /// Verifies a token. The shard puts it into force, at its place among the client's requests.
    ///
    /// # Errors
    /// [`Disconnect::Unauthorized`] after too many invalid tokens.
    pub(super) fn log_in(
        &mut self,
        id: RequestId,
        token: &Token,
    ) -> Result<Result<Request, RequestError>, Disconnect> {
        let settings = self.shared.settings();
        let error = match self.shared.context.access.verify(token.text(), &settings) {
            Ok(session) => {
                self.failed_logins = 0;
                let session = VerifiedSession(session.into());
                return Ok(Ok(Request::Authorized { id, session }));
            }
            Err(error) => error,
        };
        let counters = &self.shared.context.counters;
        counters.token_refused(&error).add(1);
        let code = match error {
            TokenError::Busy => ErrorCode::Busy,
            _ => {
                self.failed_logins += 1;
                ErrorCode::Unauthorized
            }
        };
        if self.failed_logins > MAX_FAILED_LOGINS {
            return Err(Disconnect::Unauthorized);
        }
        let message = error.to_string();
        Ok(Err(RequestError { id, code, message }))
    }

    /// Returns whether the client may send messages to the listener.
    pub(super) fn may_send(&self) -> bool {
        self.handle.peer.session.load().grants.send
    }

    /// Returns the error of a message to the listener that the token does not allow.
    pub(super) fn not_granted(&self, id: RequestId) -> RequestError {
        self.shared.context.counters.requests_forbidden.add(1);
        RequestError {
            id,
            code: self.handle.peer.session.load().refusal(),
            message: "not allowed to send messages: the token needs the action send".into(),
        }
    }
}
