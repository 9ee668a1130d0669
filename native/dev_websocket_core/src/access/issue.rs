//! Tokens that this server signs itself, for the program that embeds it.

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use thiserror::Error;

use super::claims::{AUDIENCE, READ, SEND};
use super::grants::Grants;
use super::jws::encode;
use super::keys::{OWN_ISSUER, OwnKey};

/// The content of a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The subject, for example the address of a wallet.
    pub subject: String,
    /// Topics and globs that the holder may subscribe to; `*` allows everything.
    pub topics: Vec<String>,
    /// True if the holder may send messages to the listener.
    pub send: bool,
    /// The life of the token in seconds.
    pub seconds: u64,
}

/// The reason why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssueError {
    /// The subject is empty.
    #[error("sub must not be empty")]
    Subject,
    /// A topic is malformed, or there are too many globs.
    #[error("topics: {0}")]
    Topics(String),
    /// The token would live longer than the server accepts.
    #[error("seconds must be a number from 1 to {0} (token_max_life)")]
    Life(u64),
    /// The token would be longer than the server accepts.
    #[error("the token would be longer than {0} bytes (max_token_bytes)")]
    Size(u64),
    /// The system has no random bytes for a key or an id.
    #[error("the system has no random bytes")]
    Random,
}

/// Signs a token at the time `now` in seconds since 1970.
pub(super) fn sign(
    token: &NewToken,
    key: &OwnKey,
    now: u64,
    (max_life, max_bytes): (u64, u64),
) -> Result<String, IssueError> {
    if token.subject.is_empty() {
        return Err(IssueError::Subject);
    }
    let mut grants = Grants::default();
    for topic in &token.topics {
        grants.add_topic(topic).map_err(IssueError::Topics)?;
    }
    if !(1..=max_life).contains(&token.seconds) {
        return Err(IssueError::Life(max_life));
    }
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| IssueError::Random)?;
    let mut details = vec![json!({"type": AUDIENCE, "actions": [READ], "topics": token.topics})];
    if token.send {
        details.push(json!({"type": AUDIENCE, "actions": [SEND]}));
    }
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": OWN_ISSUER});
    let claims = json!({
        "iss": OWN_ISSUER, "aud": AUDIENCE, "sub": token.subject, "jti": encode(id),
        "iat": now, "exp": now + token.seconds, "authorization_details": details,
    });
    let signed = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let tag = key.sign(signed.as_bytes()).ok_or(IssueError::Random)?;
    let text = format!("{signed}.{}", encode(tag));
    if text.len() as u64 > max_bytes {
        return Err(IssueError::Size(max_bytes));
    }
    Ok(text)
}
