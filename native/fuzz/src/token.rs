//! Fuzzing of tokens. The first byte of an input selects what the rest is: a token, a header and claims that a known key
//! signs, or changes to a valid token.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dev_websocket_core::internals::tokens::{Accepted, Verifier};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::signing::{ALGORITHMS, ISSUER, Keys, decode};

/// The time of all checks, in seconds since 1970.
const NOW: u64 = 1_764_460_800;
const LEEWAY: f64 = 30.0;
const MAX_GLOBS: usize = 64;
/// Limit on the changes to one token.
const MAX_CHANGES: usize = 16;
const NAMING_KEYS: [&str; 7] = ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip"];

struct Known {
    keys: Keys,
    verifier: Verifier,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let keys = Keys::new();
    let document = keys.document().to_string();
    let verifier = Verifier::new(document.as_bytes()).expect("a key file");
    Known { keys, verifier }
});

/// Checks the reader and verifier of tokens with any bytes.
pub fn check(input: &[u8]) {
    match input.split_first() {
        Some((b's', rest)) => signed(rest),
        Some((b'c', rest)) => changed(rest),
        Some((_, rest)) => unsigned(rest),
        None => {}
    }
}

/// Nobody without a key makes a token.
fn unsigned(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    is_refused(text);
}

fn is_refused(token: &str) {
    let Known { verifier, .. } = &*KNOWN;
    let refused = verifier.verify(token, NOW);
    let reason = refused.expect_err("nobody signed this token");
    // Nothing of a token that nobody signed is shown.
    assert!(reason.len() < 100, "{reason}");
    assert!(reason.starts_with("token: "), "{reason}");
    let is_too_long = token.len() as u64 > verifier.max_bytes();
    assert_eq!(is_too_long, reason.contains("longer than"));
}

/// A key that signs what it is given. The token is accepted only if a second implementation accepts it.
fn signed(input: &[u8]) {
    let Some((algorithm, text)) = choice(input) else {
        return;
    };
    let mut parts = text.splitn(2, |byte| *byte == b'\n');
    let header = parts.next().unwrap_or_default();
    let claims = parts.next().unwrap_or_default();
    let Known { keys, verifier } = &*KNOWN;
    let token = keys.sign(algorithm, header, claims);
    match verifier.verify(&token, NOW) {
        Ok(accepted) => {
            assert!(token.len() as u64 <= verifier.max_bytes());
            is_valid_header(&Fields::of(header), algorithm);
            are_valid_claims(&Fields::of(claims), &accepted, verifier.max_life() as f64);
        }
        Err(reason) => assert!(reason.starts_with("token: "), "{reason}"),
    }
    if algorithm != "HS256" {
        is_refused(&keys.confuse(algorithm, header, claims));
    }
}

/// The fields of an object. Only those that are looked at need have a value.
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    fn of(json: &[u8]) -> Self {
        Self(serde_json::from_slice(json).expect("a JSON object"))
    }

    fn get(&self, name: &str) -> Json {
        let raw = self.0.get(name);
        raw.map_or(Json::Null, |raw| {
            serde_json::from_str(raw.get()).expect("JSON")
        })
    }
}

fn is_valid_header(header: &Fields, algorithm: &str) {
    assert_eq!(header.get("alg"), algorithm);
    assert_eq!(header.get("kid"), algorithm);
    let typ = header.get("typ");
    let typ = typ.as_str().expect("a type").to_lowercase();
    assert!(["at+jwt", "application/at+jwt"].contains(&typ.as_str()));
    for name in NAMING_KEYS {
        assert!(header.get(name).is_null(), "{name}");
    }
}

fn are_valid_claims(claims: &Fields, accepted: &Accepted, max_life: f64) {
    let now = NOW as f64;
    assert_eq!(claims.get("iss"), ISSUER);
    assert_eq!(accepted.iss, ISSUER);
    assert_eq!(claims.get("sub"), accepted.sub.as_str());
    assert!(!accepted.sub.is_empty());
    let audiences = match claims.get("aud") {
        Json::Array(many) => many,
        one => vec![one],
    };
    assert!(audiences.contains(&"dev_websocket".into()));
    let exp = claims.get("exp").as_f64().expect("a number");
    assert!(exp + LEEWAY > now && exp <= now + max_life + LEEWAY);
    assert!(accepted.ends_at as f64 >= now * 1000.0);
    assert!(accepted.ends_at as f64 <= (now + max_life + LEEWAY) * 1000.0);
    for name in ["nbf", "iat"] {
        let time = claims.get(name);
        assert!(time.is_null() || time.as_f64().expect("a number") <= now + LEEWAY);
    }
    let jti = claims.get("jti");
    assert!(jti.is_null() || jti.is_string());
    are_valid_grants(&claims.get("authorization_details"), accepted);
}

fn are_valid_grants(details: &Json, accepted: &Accepted) {
    let (mut everything, mut send, mut globs) = (false, false, Vec::new());
    for detail in details.as_array().into_iter().flatten() {
        let detail = detail.as_object().expect("an object");
        if detail["type"].as_str().expect("a type") != "dev_websocket" {
            continue;
        }
        let known = ["type", "actions", "topics"];
        assert!(detail.keys().all(|key| known.contains(&key.as_str())));
        let actions = detail["actions"].as_array().expect("actions");
        assert!(!actions.is_empty());
        assert!(
            actions
                .iter()
                .all(|action| action == "read" || action == "send")
        );
        send |= actions.contains(&"send".into());
        let topics = detail.get("topics").filter(|topics| !topics.is_null());
        let reads = actions.contains(&"read".into());
        assert!(!reads || topics.is_some());
        for topic in topics.and_then(Json::as_array).into_iter().flatten() {
            let topic = topic.as_str().expect("a text").trim();
            assert!(!topic.is_empty() && topic.len() <= 255 && !topic.contains(','));
            assert!(!topic.chars().any(char::is_control));
            everything |= reads && topic == "*";
            if reads && topic != "*" && topic.contains('*') && !globs.contains(&topic) {
                globs.push(topic);
            }
        }
    }
    assert!(globs.len() <= MAX_GLOBS);
    assert_eq!(accepted.everything, everything);
    assert_eq!(accepted.send, send);
}

/// A valid token is accepted, and no longer after any change.
fn changed(input: &[u8]) {
    let Some((algorithm, changes)) = choice(input) else {
        return;
    };
    let Known { keys, verifier } = &*KNOWN;
    let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": algorithm}).to_string();
    let claims = json!({
        "iss": ISSUER, "aud": "dev_websocket", "sub": "alice", "jti": "1", "iat": NOW, "exp": NOW + 600,
        "authorization_details": [{"type": "dev_websocket", "actions": ["read"], "topics": ["a", "b*"]}],
    })
    .to_string();
    let token = keys.sign(algorithm, header.as_bytes(), claims.as_bytes());
    let accepted = verifier.verify(&token, NOW).expect("a valid token");
    assert_eq!(accepted.ends_at, (NOW + 600) * 1000);
    assert!(!accepted.everything && !accepted.send);
    let mut text = token.clone().into_bytes();
    for change in changes.chunks_exact(4).take(MAX_CHANGES) {
        apply(change, &mut text);
    }
    let Ok(text) = std::str::from_utf8(&text) else {
        return;
    };
    if text != token {
        is_refused(text);
    }
}

/// One change: its kind, a place, and a byte.
fn apply(change: &[u8], text: &mut Vec<u8>) {
    let &[kind, high, low, byte] = change else {
        return;
    };
    let place = usize::from(u16::from_be_bytes([high, low])) % (text.len() + 1);
    match kind % 8 {
        0 if place < text.len() => text[place] = byte,
        1 => text.insert(place, byte),
        2 if place < text.len() => {
            text.remove(place);
        }
        3 => text.truncate(place),
        4 => text.rotate_left(place),
        5 => replace_part(text, usize::from(byte), |part| {
            let index = place % part.len().max(1);
            if let Some(byte) = part.get_mut(index) {
                *byte ^= 1 << (low % 8);
            }
        }),
        6 => replace_part(text, usize::from(byte), Vec::clear),
        _ => {
            let piece = text[place..].to_vec();
            text.extend(piece);
        }
    }
    text.truncate(8192);
}

/// Changes one part of a token below its encoding, if it has one.
fn replace_part(text: &mut Vec<u8>, number: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let Ok(token) = std::str::from_utf8(text) else {
        return;
    };
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let number = number % parts.len();
    if let Some(mut bytes) = decode(&parts[number]) {
        change(&mut bytes);
        parts[number] = super::signing::encode(bytes);
        *text = parts.join(".").into_bytes();
    }
}

/// The algorithm by the first byte, and the rest.
fn choice(input: &[u8]) -> Option<(&'static str, &[u8])> {
    let (first, rest) = input.split_first()?;
    Some((ALGORITHMS[usize::from(*first) % 4], rest))
}
