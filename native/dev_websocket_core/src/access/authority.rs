//! The authority over tokens of one server: it verifies them, signs its own, and knows the revoked ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::claims::Claims;
use super::error::TokenError;
use super::expiry::Expiry;
use super::grants::{Forbidden, Grants};
use super::issue::{self, IssueError, NewToken};
use super::jws::Unverified;
use super::keys::{KeySet, OWN_ISSUER, OwnKey};
use super::logins::Logins;
use super::revocations::{Document, Revocation, Revocations, RevokeError};
use super::session::{Holder, Session};
use super::watched_file::WatchedFile;
use crate::settings::{Settings, Topics};
use crate::subscription::Subscription;

/// The parts that outlive a server: tokens of the program stay valid across a restart, and revoked ones stay revoked.
#[derive(Debug, Default)]
pub struct TokenState {
    own: OwnKey,
    revocations: RwLock<Revocations>,
}

/// Verifies and signs tokens.
#[derive(Debug)]
pub(crate) struct Authority {
    persistent: Arc<TokenState>,
    keys: ArcSwap<KeySet>,
    logins: Logins,
    /// The ends of the connections' permissions.
    pub(crate) expiry: Expiry,
    /// True if permissions may have been withdrawn since the last look.
    has_changed: AtomicBool,
    files: Mutex<Files>,
    /// Topics and globs that need no token, by the setting that they were read from.
    public: ArcSwap<(Topics, Grants)>,
    unrestricted: Arc<Session>,
    operator: Arc<Session>,
    anonymous: Arc<Session>,
}

#[derive(Debug, Default)]
struct Files {
    keys: WatchedFile,
    revocations: WatchedFile,
}

impl Authority {
    pub(crate) fn new(persistent: Arc<TokenState>) -> Self {
        Self {
            persistent,
            keys: ArcSwap::default(),
            logins: Logins::default(),
            expiry: Expiry::default(),
            has_changed: AtomicBool::new(false),
            files: Mutex::default(),
            public: ArcSwap::default(),
            unrestricted: Session::unrestricted(),
            operator: Session::unrestricted(),
            anonymous: Session::anonymous(),
        }
    }

    /// Uses the keys of a key file's text.
    ///
    /// # Errors
    /// The call returns a text that names the key and its field.
    #[cfg(feature = "internals")]
    pub(crate) fn set_keys(&self, document: &[u8]) -> Result<(), String> {
        let keys = KeySet::parse(document).map_err(|error| error.to_string())?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Returns the session of a connection to the operator's port.
    pub(crate) fn operator(&self) -> Arc<Session> {
        self.operator.clone()
    }

    /// Returns whether a session dates from a time when the server was open.
    pub(crate) fn is_of_open_server(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(session, &self.unrestricted)
    }

    /// Notes that permissions may have been withdrawn, so that live connections are checked.
    pub(crate) fn note_change(&self) {
        self.has_changed.store(true, Ordering::Release);
        self.expiry.wake();
    }

    /// Returns whether permissions may have been withdrawn since the last call.
    pub(crate) fn take_change(&self) -> bool {
        self.has_changed.swap(false, Ordering::AcqRel)
    }

    /// Returns the session of a connection to an open server.
    pub(crate) fn unrestricted(&self) -> Arc<Session> {
        self.unrestricted.clone()
    }

    /// Returns the session of a connection without a token.
    pub(crate) fn anonymous(&self) -> Arc<Session> {
        self.anonymous.clone()
    }

    /// Verifies a token and returns the session that it allows.
    ///
    /// # Errors
    /// The call returns the first [`TokenError`].
    pub(crate) fn verify(&self, token: &str, settings: &Settings) -> Result<Session, TokenError> {
        self.verify_at(token, settings, now())
    }

    /// Does the same as [`Self::verify`] at a time in seconds since 1970.
    ///
    /// # Errors
    /// The call returns the first [`TokenError`].
    pub(crate) fn verify_at(
        &self,
        token: &str,
        settings: &Settings,
        now: u64,
    ) -> Result<Session, TokenError> {
        if token.len() as u64 > settings.max_token_bytes {
            return Err(TokenError::TooLong(settings.max_token_bytes));
        }
        let unverified = Unverified::parse(token)?;
        let keys = self.keys.load();
        let own = self.persistent.own.key();
        let key = if unverified.kid == OWN_ISSUER {
            own
        } else {
            keys.find(&unverified.kid).ok_or(TokenError::Key)?
        };
        unverified.check_algorithm(key)?;
        if !self.logins.admit(settings.max_logins) {
            return Err(TokenError::Busy);
        }
        let claims = Claims::parse(&unverified.verify(key)?)?;
        if *claims.iss != *key.issuer {
            return Err(TokenError::Issuer);
        }
        claims.check(now, settings.token_max_life.as_secs())?;
        let grants = claims.grants()?;
        if claims.is_revoked(&self.persistent.revocations.read()) {
            return Err(TokenError::Revoked);
        }
        Ok(Session {
            grants,
            holder: Some(Holder {
                jti: claims.jti().map(Into::into),
                issued_at: claims.issued_at(),
                ends_at: claims.ends_at(now),
                iss: claims.iss.into(),
                sub: claims.sub.into(),
            }),
        })
    }

    /// Checks all subscriptions that a connection would hold.
    ///
    /// # Errors
    /// [`Forbidden`] for the first one that neither the session nor the setting `public_topics` allows.
    pub(crate) fn check<'s>(
        &self,
        session: &Session,
        settings: &Settings,
        held: impl Iterator<Item = &'s Subscription>,
    ) -> Result<(), Forbidden> {
        if session.grants.everything {
            return Ok(());
        }
        let mut public = self.public.load();
        if public.0 != settings.public_topics {
            let mut grants = Grants::default();
            for topic in &settings.public_topics.0 {
                // The table of settings has refused malformed topics.
                let _ = grants.add_topic(topic);
            }
            self.public
                .store(Arc::new((settings.public_topics.clone(), grants)));
            public = self.public.load();
        }
        session.grants.check(&public.1, held)
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The call returns [`IssueError`] that names the field.
    pub(crate) fn issue(
        &self,
        token: &NewToken,
        settings: &Settings,
    ) -> Result<String, IssueError> {
        let limits = (settings.token_max_life.as_secs(), settings.max_token_bytes);
        issue::sign(token, &self.persistent.own, now(), limits)
    }

    /// Revokes a token, or the tokens of a subject.
    ///
    /// # Errors
    /// The call returns [`RevokeError`] if the revocation is malformed or there are too many.
    pub(crate) fn revoke(
        &self,
        revocation: Revocation,
        settings: &Settings,
    ) -> Result<(), RevokeError> {
        let seconds = settings.token_max_life.as_secs();
        let mut revocations = self.persistent.revocations.write();
        revocations.add(revocation, now(), seconds)?;
        drop(revocations);
        self.note_change();
        Ok(())
    }

    /// Returns whether the token of a session was revoked.
    pub(crate) fn is_revoked(&self, session: &Session) -> bool {
        session.holder.as_ref().is_some_and(|holder| {
            let revocations = self.persistent.revocations.read();
            revocations.covers(holder.jti.as_deref(), &holder.sub, holder.issued_at)
        })
    }

    /// Reads the files of keys and revocations if they changed. It blocks on the disk. A broken file is logged, and what
    /// was read before stays in force.
    pub(crate) fn reload(&self, settings: &Settings) {
        let mut files = self.files.lock();
        let path = &settings.token_keys;
        match files.keys.changed(path).map(|content| {
            let content = content.map_err(|error| error.to_string())?;
            KeySet::parse(&content).map_err(|error| error.to_string())
        }) {
            Some(Ok(keys)) => {
                let count = keys.len();
                self.keys.store(Arc::new(keys));
                tracing::info!(
                    name: "token_file", setting = "token_keys", path, count,
                    "The WebSocket server read {count} keys from {path} (token_keys)."
                );
            }
            Some(Err(error)) => tracing::error!(
                name: "token_file", setting = "token_keys", path, %error,
                "The WebSocket server cannot use {path} (token_keys) and keeps the keys that it has: {error}."
            ),
            None if path.is_empty() && self.keys.load().len() > 0 => {
                self.keys.store(Arc::default());
            }
            None => {}
        }
        let path = &settings.token_revocations;
        match files.revocations.changed(path).map(|content| {
            let content = content.map_err(|error| error.to_string())?;
            Document::parse(&content)
        }) {
            Some(Ok(document)) => {
                self.persistent.revocations.write().set_file(document);
                self.note_change();
                tracing::info!(
                    name: "token_file", setting = "token_revocations", path,
                    "The WebSocket server read revocations from {path} (token_revocations)."
                );
            }
            Some(Err(error)) => tracing::error!(
                    name: "token_file", setting = "token_revocations", path, %error,
                    "The WebSocket server cannot use {path} (token_revocations) and keeps the revocations that it has: {error}."
            ),
            None => {}
        }
    }
}

/// Returns the time in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
