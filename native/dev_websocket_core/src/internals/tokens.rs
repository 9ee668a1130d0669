//! The verifier of tokens, at any time and with the keys of a text.

use std::sync::Arc;

use crate::access::{Authority, TokenState};
use crate::settings::Settings;

/// Verifies tokens as a server with these keys does.
#[derive(Debug)]
pub struct Verifier {
    authority: Authority,
    settings: Settings,
}

/// What an accepted token allows.
#[derive(Debug)]
pub struct Accepted {
    /// The issuer.
    pub iss: String,
    /// The subject.
    pub sub: String,
    /// The time at which its connections end, in milliseconds since 1970.
    pub ends_at: u64,
    /// True for the grant `*`.
    pub everything: bool,
    /// True if the holder may send messages to the node.
    pub send: bool,
}

impl Verifier {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// The call returns a text that names the key and its field.
    pub fn new(keys: &[u8]) -> Result<Self, String> {
        let authority = Authority::new(Arc::<TokenState>::default());
        authority.set_keys(keys)?;
        let settings = Settings {
            // No number of tokens is too many.
            max_logins: u64::MAX,
            ..Settings::default()
        };
        Ok(Self {
            authority,
            settings,
        })
    }

    /// Returns the greatest length of a token in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.settings.max_token_bytes
    }

    /// Returns the longest life of a token in seconds.
    #[must_use]
    pub fn max_life(&self) -> u64 {
        self.settings.token_max_life.as_secs()
    }

    /// Verifies a token at a time in seconds since 1970.
    ///
    /// # Errors
    /// The call returns the text for the client.
    pub fn verify(&self, token: &str, now: u64) -> Result<Accepted, String> {
        let session = self
            .authority
            .verify_at(token, &self.settings, now)
            .map_err(|error| error.to_string())?;
        let holder = session.holder.as_ref().ok_or("no holder")?;
        Ok(Accepted {
            iss: holder.iss.to_string(),
            sub: holder.sub.to_string(),
            ends_at: holder.ends_at,
            everything: session.grants.everything,
            send: session.grants.send,
        })
    }
}
