//! The keys that verify tokens: a JSON Web Key Set in a file (RFC 7517), and the server's own secret.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use thiserror::Error;

use super::object::Object;

/// The key id and the issuer of tokens that this server signs itself.
pub(crate) const OWN_ISSUER: &str = "dev_websocket";

/// Limit on the keys of one file.
const MAX_KEYS: usize = 1000;

/// The least length of a shared secret in bytes (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The least and the largest length of an RSA modulus in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The supported algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
    Hs256,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }
}

/// A key, with the one algorithm that it is for and the one issuer that it speaks for.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) issuer: Box<str>,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
    P256(UnparsedPublicKey<Vec<u8>>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("..")
    }
}

impl Key {
    /// Returns whether this key signed these bytes. The comparison of secrets takes constant time (`ring::hmac`).
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Material::Ed25519(key) | Material::P256(key) => key.verify(signed, signature).is_ok(),
            Material::Rsa(key) => key
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
        }
    }
}

/// The secret with which this server signs tokens. It lives as long as the program.
#[derive(Debug)]
pub(crate) struct OwnKey(Key);

impl Default for OwnKey {
    fn default() -> Self {
        let mut secret = [0; 32];
        // Without random bytes from the system nobody can sign or verify, because the key is then unusable.
        let key = SystemRandom::new()
            .fill(&mut secret)
            .map(|()| hmac::Key::new(hmac::HMAC_SHA256, &secret));
        Self(Key {
            algorithm: Algorithm::Hs256,
            issuer: OWN_ISSUER.into(),
            material: match key {
                Ok(key) => Material::Secret(key),
                Err(_) => Material::Ed25519(UnparsedPublicKey::new(&ED25519, Vec::new())),
            },
        })
    }
}

impl OwnKey {
    pub(super) fn key(&self) -> &Key {
        &self.0
    }

    /// Signs bytes, unless the system had no random bytes for a key.
    pub(super) fn sign(&self, bytes: &[u8]) -> Option<hmac::Tag> {
        match &self.0.material {
            Material::Secret(key) => Some(hmac::sign(key, bytes)),
            _ => None,
        }
    }
}

/// The reason why a key file is not used. The text names the key and its field, and never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum KeyError {
    #[error("not a JSON Web Key Set: {0}")]
    Json(String),
    #[error("keys: more than {MAX_KEYS}")]
    TooMany,
    #[error("keys[{0}]: {1}")]
    Key(usize, &'static str),
}

/// The keys of a file by their ids.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<String, Key>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Object<Jwk>>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    alg: Option<String>,
    iss: Option<String>,
    kty: Option<String>,
    crv: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    k: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads a key file.
    ///
    /// # Errors
    /// The call returns [`KeyError`] for the first key that cannot be used; the others are not used either.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let Object::<Document>(document) = serde_json::from_slice(bytes).map_err(|error| {
            // The text of the error may quote a value, so only its position is told.
            let (line, column) = (error.line(), error.column());
            KeyError::Json(format!("error at line {line}, column {column}"))
        })?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        let mut keys = HashMap::new();
        for (index, Object(jwk)) in document.keys.into_iter().enumerate() {
            let (kid, key) = jwk.read().map_err(|reason| KeyError::Key(index, reason))?;
            if keys.insert(kid, key).is_some() {
                return Err(KeyError::Key(index, "kid is used twice"));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Jwk {
    fn read(self) -> Result<(String, Key), &'static str> {
        let kid = self.kid.as_ref().filter(|kid| !kid.is_empty());
        let kid = kid.ok_or("kid is missing")?.clone();
        let issuer = self.iss.as_ref().filter(|iss| !iss.is_empty());
        let issuer = issuer.ok_or("iss is missing; it names the issuer that the key speaks for")?;
        if kid == OWN_ISSUER || issuer == OWN_ISSUER {
            return Err("kid and iss must not be dev_websocket, which is the server itself");
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("use must be sig");
        }
        let name = self.alg.as_deref().ok_or("alg is missing")?;
        let algorithm = Algorithm::parse(name).ok_or("alg must be EdDSA, ES256, RS256 or HS256")?;
        Ok((
            kid,
            Key {
                algorithm,
                issuer: issuer.as_str().into(),
                material: self.material(algorithm)?,
            },
        ))
    }

    fn material(&self, algorithm: Algorithm) -> Result<Material, &'static str> {
        let is = |kty: &str, crv: Option<&str>| {
            self.kty.as_deref() == Some(kty) && (crv.is_none() || self.crv.as_deref() == crv)
        };
        match algorithm {
            Algorithm::Hs256 if is("oct", None) => {
                let secret = field(&self.k, "k is not base64url")?;
                if secret.len() < MIN_SECRET_BYTES {
                    return Err("k must have at least 32 bytes");
                }
                Ok(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            Algorithm::EdDsa if is("OKP", Some("Ed25519")) => {
                let point = sized(&self.x, 32, "x must be base64url of 32 bytes")?;
                Ok(Material::Ed25519(UnparsedPublicKey::new(&ED25519, point)))
            }
            Algorithm::Es256 if is("EC", Some("P-256")) => {
                // An uncompressed point (SEC 1 section 2.3.3).
                let mut point = vec![4];
                point.extend(sized(&self.x, 32, "x must be base64url of 32 bytes")?);
                point.extend(sized(&self.y, 32, "y must be base64url of 32 bytes")?);
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                Ok(Material::P256(key))
            }
            Algorithm::Rs256 if is("RSA", None) => {
                let (n, e) = (
                    field(&self.n, "n is not base64url")?,
                    field(&self.e, "e is not base64url")?,
                );
                if !RSA_BYTES.contains(&n.len()) {
                    return Err("n must have 2048 to 8192 bits");
                }
                Ok(Material::Rsa(RsaPublicKeyComponents { n, e }))
            }
            _ => Err(
                "kty and crv must be those of alg: oct, OKP with Ed25519, EC with P-256, or RSA",
            ),
        }
    }
}

fn field(value: &Option<String>, reason: &'static str) -> Result<Vec<u8>, &'static str> {
    let text = value.as_deref().filter(|text| !text.is_empty());
    URL_SAFE_NO_PAD
        .decode(text.ok_or(reason)?)
        .map_err(|_| reason)
}

fn sized(
    value: &Option<String>,
    bytes: usize,
    reason: &'static str,
) -> Result<Vec<u8>, &'static str> {
    field(value, reason).and_then(|value| (value.len() == bytes).then_some(value).ok_or(reason))
}
