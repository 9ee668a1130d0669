//! Revoked tokens: by their ids, and by subject for all tokens that were issued before a time.
//!
//! No token lives longer than `token_max_life`, so a revocation by call is forgotten after that time. Revocations in
//! the file hold as long as the file has them.

use std::collections::HashMap;

use serde::Deserialize;
use thiserror::Error;

use super::LEEWAY_SECONDS;
use super::object::Object;

/// Limit on the revocations that calls add. It bounds the memory at some megabytes.
const MAX_REVOKED: usize = 65_536;

/// Limit on the length of an id or a subject, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// A revocation of one token, or of the tokens of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The token with this `jti`.
    Token(String),
    /// The tokens of this `sub` that were issued up to a time in seconds since 1970, or up to now.
    Subject(String, Option<u64>),
}

/// The reason why a revocation was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RevokeError {
    /// The id or the subject is empty or too long.
    #[error("{0} must be a text of 1 to {MAX_TEXT_BYTES} bytes")]
    Text(&'static str),
    /// Too many revocations are in force.
    #[error("more than {MAX_REVOKED} revocations are in force; use the file token_revocations")]
    TooMany,
}

/// The revocations in force.
#[derive(Debug, Default, Clone)]
pub(crate) struct Revocations {
    file: Document,
    /// Revoked ids, and the time at which each was revoked, in seconds since 1970.
    tokens: HashMap<String, u64>,
    /// Subjects, with the time up to which their tokens are revoked, and the time of the revocation.
    subjects: HashMap<String, (u64, u64)>,
}

/// The file: `{"jti": ["id"], "sub": {"alice": 1764460800}}`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(default)]
    jti: std::collections::HashSet<String>,
    #[serde(default)]
    sub: HashMap<String, u64>,
}

impl Document {
    /// Reads the file.
    ///
    /// # Errors
    /// The call returns a text with the position of the error.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Object(document) = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(document)
    }
}

impl Revocations {
    /// Returns whether a token is revoked. A token issued in the second of its revocation is.
    pub(super) fn covers(&self, jti: Option<&str>, sub: &str, issued_at: u64) -> bool {
        let is_listed = |jti: &str| self.file.jti.contains(jti) || self.tokens.contains_key(jti);
        jti.is_some_and(is_listed)
            || self
                .file
                .sub
                .get(sub)
                .is_some_and(|until| issued_at <= *until)
            || self
                .subjects
                .get(sub)
                .is_some_and(|(until, _)| issued_at <= *until)
    }

    /// Replaces the revocations of the file.
    pub(super) fn set_file(&mut self, document: Document) {
        self.file = document;
    }

    /// Adds a revocation at the time `now` in seconds since 1970, and forgets those that no token can meet any more.
    ///
    /// # Errors
    /// The call returns [`RevokeError`] if the revocation is malformed or there are too many.
    pub(super) fn add(
        &mut self,
        revocation: Revocation,
        now: u64,
        max_life: u64,
    ) -> Result<(), RevokeError> {
        let check = |name, text: &str| {
            if text.is_empty() || text.len() > MAX_TEXT_BYTES {
                Err(RevokeError::Text(name))
            } else {
                Ok(())
            }
        };
        let life = max_life + 2 * LEEWAY_SECONDS;
        self.tokens.retain(|_, revoked| *revoked + life > now);
        self.subjects
            .retain(|_, (_, revoked)| *revoked + life > now);
        if self.tokens.len() + self.subjects.len() >= MAX_REVOKED {
            return Err(RevokeError::TooMany);
        }
        match revocation {
            Revocation::Token(jti) => {
                check("jti", &jti)?;
                self.tokens.insert(jti, now);
            }
            Revocation::Subject(sub, until) => {
                check("sub", &sub)?;
                let until = until.unwrap_or(now);
                let entry = self.subjects.entry(sub).or_insert((until, now));
                *entry = (entry.0.max(until), now);
            }
        }
        Ok(())
    }
}
