//! One key of each algorithm, known to both sides, and signatures with them.

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

/// The algorithms. The id of each key is its algorithm.
pub const ALGORITHMS: [&str; 4] = ["HS256", "EdDSA", "ES256", "RS256"];

/// The issuer of every key.
pub const ISSUER: &str = "https://shop.example";

const SECRET: [u8; 32] = [7; 32];
const SEED: [u8; 32] = [9; 32];

/// The key of RFC 6979 appendix A.2.5: its private half, and its point.
const P256: [&str; 3] = [
    "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
    "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
    "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
];

/// An RSA key that signs nothing outside tests.
const RSA: &[u8] = include_bytes!("../../dev_websocket_core/tests/support/keys/rsa.der");

/// The keys.
pub struct Keys {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
    random: SystemRandom,
}

/// Encodes a part of a token.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a part of a token.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl Keys {
    /// Creates the same keys each time.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let [private, x, y] = P256.map(hex);
        let point = [vec![4], x, y].concat();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &point, &random);
        Self {
            ed25519: Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed"),
            p256: p256.expect("a key"),
            rsa: RsaKeyPair::from_pkcs8(RSA).expect("a key"),
            random,
        }
    }

    /// Returns the key file.
    pub fn document(&self) -> Json {
        let point = self.p256.public_key().as_ref();
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kid": "HS256", "alg": "HS256", "kty": "oct", "iss": ISSUER, "k": encode(SECRET)},
            {"kid": "EdDSA", "alg": "EdDSA", "kty": "OKP", "crv": "Ed25519", "iss": ISSUER,
             "x": encode(self.ed25519.public_key())},
            {"kid": "ES256", "alg": "ES256", "kty": "EC", "crv": "P-256", "iss": ISSUER,
             "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kid": "RS256", "alg": "RS256", "kty": "RSA", "iss": ISSUER, "n": encode(n), "e": encode(e)},
        ]})
    }

    /// Signs any header and claims with the key of an algorithm.
    pub fn sign(&self, algorithm: &str, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let bytes = signed.as_bytes();
        let signature = match algorithm {
            "HS256" => hmac(&SECRET, bytes),
            "EdDSA" => self.ed25519.sign(bytes).as_ref().to_vec(),
            "ES256" => {
                let signature = self.p256.sign(&self.random, bytes);
                signature.expect("random bytes").as_ref().to_vec()
            }
            _ => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &self.random, bytes, &mut signature)
                    .expect("a signature");
                signature
            }
        };
        format!("{signed}.{}", encode(signature))
    }

    /// Signs with what everybody knows of a key, as if that were a shared secret (RFC 8725 section 2.1).
    pub fn confuse(&self, algorithm: &str, header: &[u8], claims: &[u8]) -> String {
        let public = match algorithm {
            "EdDSA" => self.ed25519.public_key().as_ref().to_vec(),
            "ES256" => self.p256.public_key().as_ref().to_vec(),
            "RS256" => self.rsa.public().as_ref().to_vec(),
            _ => Vec::new(),
        };
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", encode(hmac(&public, signed.as_bytes())))
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

fn hmac(secret: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, bytes).as_ref().to_vec()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("digits")
        })
        .collect()
}
