//! Tokens of the tests, signed with a shared secret, and requests with them.
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::Access;
use ring::hmac;
use serde_json::{Value as Json, json};

use crate::support::{Client, Raw, Response, TestServer, upgrade_request};

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

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A server that needs tokens, with the key file of [`keys`].
pub(crate) fn server() -> TestServer {
    TestServer::with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = keys();
    })
}

pub(crate) fn token(topics: &[&str]) -> String {
    sign(&claims(now() + 600, topics))
}

/// Asks for an upgrade with further header lines.
pub(crate) fn ask(server: &TestServer, query: &str, headers: &str) -> Response {
    let request = upgrade_request(query);
    let (start, rest) = request.split_once("\r\n").unwrap();
    Raw::ask(server, format!("{start}\r\n{headers}{rest}"))
}

pub(crate) fn get(server: &TestServer, target: &str, headers: &str) -> Response {
    Raw::ask(
        server,
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"),
    )
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub(crate) fn auth(client: &mut Client, token: &str) -> Json {
    client.request(&json!({"type": "auth", "id": 1, "token": token}))
}
