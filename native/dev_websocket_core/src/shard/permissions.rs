//! Checks of a connection's subscriptions against its permissions.
//!
//! The shard makes them, because it carries out requests in order: a check sees the subscriptions and the token that are
//! in force at that moment.

use std::collections::HashSet;
use std::sync::Arc;

use super::Shard;
use super::ids::ConnectionIndex;
use crate::access::{Session, TokenError};
use crate::error_code::ErrorCode;
use crate::log::publication::now;
use crate::subscription::Subscription;
use crate::wire::control::{Reply, RequestId};

/// An error code and its message.
type Refused = (ErrorCode, String);

impl Shard {
    /// Checks further subscriptions of a connection together with those that it holds.
    pub(super) fn check_access<'s>(
        &'s self,
        index: ConnectionIndex,
        further: impl Iterator<Item = &'s Subscription>,
    ) -> Result<(), Refused> {
        match self.restrictions(index) {
            Some(session) => self.check_session(&session, further.chain(self.held_by(index))),
            None => Ok(()),
        }
    }

    /// Checks the subscriptions that are left after an `unsubscribe`. A template must not be left without its topics.
    pub(super) fn check_rest(
        &self,
        index: ConnectionIndex,
        removed: &[Subscription],
    ) -> Result<(), Refused> {
        match self.restrictions(index) {
            Some(session) => {
                let removed: HashSet<_> = removed.iter().collect();
                let rest = self.held_by(index).filter(|held| !removed.contains(held));
                self.check_session(&session, rest)
            }
            None => Ok(()),
        }
    }

    /// Replaces the token of a connection. The new one must be the same subject's and cover all subscriptions; otherwise
    /// the old one stays in force until its end.
    pub(super) fn authorize(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        session: Arc<Session>,
    ) {
        let (Some(held), Some(holder)) = (self.session(index), session.holder.as_ref()) else {
            return;
        };
        if !held.may_become(&session) {
            let error = TokenError::Subject;
            self.context.counters.token_refused(&error).add(1);
            return self.refuse(index, id, ErrorCode::Unauthorized, error.to_string());
        }
        if let Err((_, message)) = self.check_session(&session, self.held_by(index)) {
            return self.refuse(index, id, ErrorCode::Forbidden, message);
        }
        self.context.counters.tokens_accepted.add(1);
        if let Some(client) = self.clients.get(index) {
            client.state.peer.session.store(session.clone());
            self.context.access.expiry.renew(client.state.id, &session);
        }
        let reply = Reply::AuthResponse {
            id,
            sub: &holder.sub,
            token_ends: holder.ends_at,
            timestamp: now(),
        };
        self.reply(index, &reply);
    }

    fn check_session<'s>(
        &self,
        session: &Session,
        subscriptions: impl Iterator<Item = &'s Subscription>,
    ) -> Result<(), Refused> {
        let settings = self.context.settings();
        let checked = self.context.access.check(session, &settings, subscriptions);
        checked.map_err(|forbidden| {
            self.context.counters.requests_forbidden.add(1);
            (session.refusal(), forbidden.to_string())
        })
    }

    /// Returns the session of a connection that may not subscribe to everything.
    fn restrictions(&self, index: ConnectionIndex) -> Option<Arc<Session>> {
        self.session(index)
            .filter(|session| !session.grants.everything)
    }

    fn session(&self, index: ConnectionIndex) -> Option<Arc<Session>> {
        let client = self.clients.get(index);
        client.map(|client| client.state.peer.session.load_full())
    }
}
