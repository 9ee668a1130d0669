//! Tokens of the tests, signed with a shared secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value as Json, json};

const SECRET: [u8; 32] = [7; 32];

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes the key file of this test program and returns its path.
pub(crate) fn keys() -> String {
    static KEYS: std::sync::OnceLock<(tempfile::TempDir, String)> = std::sync::OnceLock::new();
    let (_, path) = KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let keys = json!({"keys": [
            {"kid": "shop", "alg": "HS256", "kty": "oct", "iss": "https://shop.example", "k": encode(SECRET)},
        ]});
        std::fs::write(&path, keys.to_string()).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    });
    path.clone()
}

/// Returns claims that end at a time in seconds since 1970.
pub(crate) fn claims(exp: u64, topics: &[&str]) -> Json {
    json!({
        "iss": "https://shop.example", "aud": "dev_websocket", "sub": "alice", "jti": "1", "exp": exp,
        "authorization_details": [{"type": "dev_websocket", "actions": ["read"], "topics": topics}],
    })
}

/// Signs claims.
pub(crate) fn sign(claims: &Json) -> String {
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "shop"});
    let signed = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes())))
}
