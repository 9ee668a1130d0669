//! A signed token in compact form (RFC 7515 section 7.1): its three parts, its header, and the check of its signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::TokenError;
use super::keys::{Algorithm, Key};
use super::object::Object;

/// The type of a token (RFC 9068 section 2.1). The prefix `application/` may be left out (RFC 7515 section 4.1.9).
const TYPE: &str = "at+jwt";

/// A token whose signature is not verified yet.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    /// The id of the key.
    pub(super) kid: String,
    algorithm: Algorithm,
    signed: &'t [u8],
    payload: &'t str,
    signature: Vec<u8>,
}

/// The header. Parameters that name keys or change the meaning of the token are refused; others have no effect
/// (RFC 7515 section 4).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

impl Header {
    fn unsupported(&self) -> Option<&'static str> {
        [
            ("crit", &self.crit),
            ("b64", &self.b64),
            ("jku", &self.jku),
            ("jwk", &self.jwk),
            ("x5u", &self.x5u),
            ("x5c", &self.x5c),
            ("zip", &self.zip),
        ]
        .into_iter()
        .find_map(|(name, value)| value.is_some().then_some(name))
    }
}

impl<'t> Unverified<'t> {
    /// Splits a token and reads its header.
    ///
    /// # Errors
    /// The call returns [`TokenError`] if the text has another form, or its header is not supported.
    pub(super) fn parse(text: &'t str) -> Result<Self, TokenError> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it must have three parts"));
        };
        let signed = text.as_bytes().get(..header.len() + 1 + payload.len());
        let header = decode_text(header)?;
        let Object::<Header>(header) = serde_json::from_str(&header)
            .map_err(|_| TokenError::Malformed("its header is not a JSON object with alg"))?;
        if let Some(name) = header.unsupported() {
            return Err(TokenError::Header(name));
        }
        let typ = header
            .typ
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if typ.strip_prefix("application/").unwrap_or(&typ) != TYPE {
            return Err(TokenError::Type);
        }
        Ok(Self {
            kid: header.kid.ok_or(TokenError::Key)?,
            algorithm: Algorithm::parse(&header.alg).ok_or(TokenError::Algorithm)?,
            signed: signed.unwrap_or_default(),
            payload,
            signature: decode(signature)?,
        })
    }

    /// Returns whether the token and the key name the same algorithm.
    ///
    /// # Errors
    /// [`TokenError::Algorithm`] if they differ: a key is used with its own algorithm only (RFC 8725 section 3.1).
    pub(super) fn check_algorithm(&self, key: &Key) -> Result<(), TokenError> {
        if key.algorithm == self.algorithm {
            Ok(())
        } else {
            Err(TokenError::Algorithm)
        }
    }

    /// Verifies the signature and returns the claims as JSON.
    ///
    /// # Errors
    /// [`TokenError::Signature`] if the key did not sign the token.
    pub(super) fn verify(&self, key: &Key) -> Result<String, TokenError> {
        if !key.verifies(self.signed, &self.signature) {
            return Err(TokenError::Signature);
        }
        decode_text(self.payload)
    }
}

/// Decodes a part that is JSON. Also what no reader looks at must be UTF-8 (RFC 7519 section 7.2).
fn decode_text(text: &str) -> Result<String, TokenError> {
    String::from_utf8(decode(text)?).map_err(|_| TokenError::Malformed("a part is not UTF-8"))
}

/// Encodes a part of a token.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a part of a token. Padding and other spellings of the same bytes are refused.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed("a part is not base64url"))
}
