//! The claims of a token (RFC 9068 section 2.2), and the grants in them (RFC 9396).

use serde::Deserialize;
use serde_json::Value;

use super::LEEWAY_SECONDS;
use super::error::TokenError;
use super::grants::Grants;
use super::object::Object;
use super::revocations::Revocations;

/// The audience of a token for this server, and the type of its grants.
pub(super) const AUDIENCE: &str = "dev_websocket";

/// Actions that a token may grant. Nobody publishes over a socket.
pub(super) const READ: &str = "read";
pub(super) const SEND: &str = "send";

/// The claims of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    aud: Audience,
    pub(super) sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
    authorization_details: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// One grant in `authorization_details` of the type `dev_websocket`. A field without a meaning here could be a
/// restriction, so it refuses the token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    #[serde(rename = "type")]
    _type: String,
    actions: Vec<String>,
    #[serde(default)]
    topics: Option<Vec<String>>,
}

impl Claims {
    /// Reads the claims of a verified token.
    ///
    /// # Errors
    /// [`TokenError::Claims`] names a claim that is missing or has the wrong type.
    pub(super) fn parse(json: &str) -> Result<Self, TokenError> {
        let Object::<Self>(claims) = serde_json::from_str(json).map_err(|error| {
            let text = error.to_string();
            let end = text.find(" at line").unwrap_or(text.len());
            TokenError::Claims(text[..end].to_owned())
        })?;
        for (name, value) in [("iss", &claims.iss), ("sub", &claims.sub)] {
            if value.is_empty() {
                return Err(TokenError::Claims(format!("{name} is empty")));
            }
        }
        Ok(claims)
    }

    /// Checks audience and times against the time `now` in seconds since 1970. `max_life` is in seconds.
    ///
    /// # Errors
    /// The call returns the first [`TokenError`].
    pub(super) fn check(&self, now: u64, max_life: u64) -> Result<(), TokenError> {
        let is_ours = match &self.aud {
            Audience::One(audience) => audience == AUDIENCE,
            Audience::Many(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        if !is_ours {
            return Err(TokenError::Audience);
        }
        let (now, leeway) = (now as f64, LEEWAY_SECONDS as f64);
        // A comparison with NaN is false, and JSON has no NaN.
        if self.exp + leeway <= now {
            return Err(TokenError::Expired);
        }
        if self.exp > now + max_life as f64 + leeway {
            return Err(TokenError::Life(max_life));
        }
        let early = |time: Option<f64>| time.is_some_and(|time| time > now + leeway);
        if early(self.nbf) || early(self.iat) {
            return Err(TokenError::Early);
        }
        Ok(())
    }

    /// Returns whether the token, or all tokens of its subject at that time, were revoked.
    pub(super) fn is_revoked(&self, revocations: &Revocations) -> bool {
        revocations.covers(self.jti.as_deref(), &self.sub, self.issued_at())
    }

    /// Returns the time at which the token was issued, in seconds since 1970. A token that does not tell counts as old.
    pub(super) fn issued_at(&self) -> u64 {
        self.iat.map_or(0, |time| time.max(0.0) as u64)
    }

    pub(super) fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// Returns the time at which a connection with this token ends, in milliseconds since 1970. A token that was
    /// accepted within the leeway ends with it.
    pub(super) fn ends_at(&self, now: u64) -> u64 {
        let end = if self.exp > now as f64 {
            self.exp
        } else {
            self.exp + LEEWAY_SECONDS as f64
        };
        (end.max(0.0) * 1000.0) as u64
    }

    /// Reads the grants. Those of another type are for other servers.
    ///
    /// # Errors
    /// [`TokenError::Grants`] if a grant for this server is malformed; the whole token is then refused.
    pub(super) fn grants(&self) -> Result<Grants, TokenError> {
        let mut grants = Grants::default();
        for detail in self.authorization_details.iter().flatten() {
            let kind = detail.get("type").and_then(Value::as_str);
            match kind {
                Some(AUDIENCE) => add(&mut grants, detail).map_err(TokenError::Grants)?,
                Some(_) => {}
                None => return Err(TokenError::Grants("type is missing".into())),
            }
        }
        Ok(grants)
    }
}

fn add(grants: &mut Grants, detail: &Value) -> Result<(), String> {
    let detail = Detail::deserialize(detail).map_err(|error| error.to_string())?;
    if detail.actions.is_empty() {
        return Err("actions is empty".into());
    }
    let mut reads = false;
    for action in &detail.actions {
        match action.as_str() {
            READ => reads = true,
            SEND => grants.send = true,
            action => return Err(format!("unknown action {action:?}")),
        }
    }
    let mut granted = Grants::default();
    for topic in detail.topics.iter().flatten() {
        let granted = if reads { &mut *grants } else { &mut granted };
        granted.add_topic(topic)?;
    }
    if reads && detail.topics.is_none() {
        return Err("topics is missing".into());
    }
    Ok(())
}
