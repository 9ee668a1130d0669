//! Keys and tokens of the tests: one issuer for each algorithm.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value as Json, json};

/// The issuer of every key.
pub(crate) const ISSUER: &str = "https://shop.example";

/// A shared secret of 32 bytes.
const SECRET: [u8; 32] = [7; 32];

/// An RSA key that signs nothing outside these tests.
const RSA: &[u8] = include_bytes!("../../tests/support/keys/rsa.der");

/// Keys that sign tokens, and their public halves.
#[derive(Debug)]
pub(crate) struct Keys {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Keys {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(),
        }
    }

    /// Returns the key file. The id of each key is its algorithm.
    pub(crate) fn document(&self) -> Json {
        let point = self.p256.public_key().as_ref();
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kid": "HS256", "alg": "HS256", "kty": "oct", "iss": ISSUER, "k": encode(SECRET)},
            {"kid": "EdDSA", "alg": "EdDSA", "kty": "OKP", "crv": "Ed25519", "iss": ISSUER,
             "x": encode(self.ed25519.public_key())},
            {"kid": "ES256", "alg": "ES256", "kty": "EC", "crv": "P-256", "iss": ISSUER,
             "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kid": "RS256", "alg": "RS256", "kty": "RSA", "iss": ISSUER, "n": encode(n), "e": encode(e),
             "use": "sig"},
        ]})
    }

    /// Signs claims with the key of an algorithm.
    pub(crate) fn sign(&self, algorithm: &str, claims: &Json) -> String {
        let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": algorithm});
        self.sign_with(algorithm, header.to_string(), claims.to_string())
    }

    /// Signs any header and claims.
    pub(crate) fn sign_with(
        &self,
        algorithm: &str,
        header: impl AsRef<[u8]>,
        claims: impl AsRef<[u8]>,
    ) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let bytes = signed.as_bytes();
        let signature = match algorithm {
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            "EdDSA" => self.ed25519.sign(bytes).as_ref().to_vec(),
            "ES256" => self.p256.sign(&random, bytes).unwrap().as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{signed}.{}", encode(signature))
    }
}

/// Returns claims that are valid at a time in seconds since 1970.
pub(crate) fn claims(now: u64, topics: &[&str]) -> Json {
    json!({
        "iss": ISSUER, "aud": "dev_websocket", "sub": "alice", "jti": "1", "iat": now, "exp": now + 600,
        "authorization_details": [{"type": "dev_websocket", "actions": ["read"], "topics": topics}],
    })
}
