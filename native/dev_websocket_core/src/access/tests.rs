//! Tests of tokens: each way in which one can be wrong.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::authority::now;
use super::test_tokens::{ISSUER, Keys, claims, encode};
use super::*;
use crate::settings::{Settings, Topics};
use crate::subscription::Subscription;

const ALGORITHMS: [&str; 4] = ["HS256", "EdDSA", "ES256", "RS256"];

struct Fixture {
    authority: Authority,
    settings: Settings,
    keys: Keys,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let keys = Keys::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let path = path.to_str().unwrap().to_owned();
        std::fs::write(&path, keys.document().to_string()).unwrap();
        let settings = Settings {
            token_keys: path,
            ..Settings::default()
        };
        let authority = Authority::new(Arc::default());
        authority.reload(&settings);
        Self {
            authority,
            settings,
            keys,
            _folder: folder,
        }
    }

    fn verify(&self, token: &str) -> Result<Session, TokenError> {
        self.authority.verify(token, &self.settings)
    }

    /// Verifies the valid claims with one changed; `null` removes it.
    fn with(&self, name: &str, value: Json) -> Result<Session, TokenError> {
        let mut claims = claims(now(), &["prices"]);
        claims[name] = value;
        if claims[name].is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        self.verify(&self.keys.sign("HS256", &claims))
    }

    fn with_details(&self, details: Json) -> Result<Session, TokenError> {
        self.with("authorization_details", details)
    }

    fn with_header(&self, header: &Json) -> Result<Session, TokenError> {
        let claims = claims(now(), &["prices"]).to_string();
        self.verify(&self.keys.sign_with("HS256", header.to_string(), &claims))
    }
}

#[test]
fn tokens_of_each_algorithm_are_accepted() {
    let fixture = Fixture::new();
    for algorithm in ALGORITHMS {
        let token = fixture.keys.sign(algorithm, &claims(now(), &["prices"]));
        let session = fixture.verify(&token).unwrap();
        let holder = session.holder.unwrap();
        assert_eq!((&*holder.iss, &*holder.sub), (ISSUER, "alice"));
    }
}

#[test]
fn a_changed_byte_anywhere_refuses_the_token() {
    let fixture = Fixture::new();
    for algorithm in ALGORITHMS {
        let token = fixture.keys.sign(algorithm, &claims(now(), &["prices"]));
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(fixture.verify(&changed).is_err(), "{algorithm} {place}");
        }
        for end in 0..token.len() {
            assert!(fixture.verify(&token[..end]).is_err(), "{algorithm} {end}");
        }
    }
}

#[test]
fn a_key_is_used_with_its_own_algorithm_only() {
    let fixture = Fixture::new();
    let claims = claims(now(), &["*"]).to_string();
    for kid in ALGORITHMS {
        for alg in ALGORITHMS.into_iter().filter(|alg| *alg != kid) {
            let header = json!({"alg": alg, "typ": "at+jwt", "kid": kid}).to_string();
            let token = fixture.keys.sign_with(alg, &header, &claims);
            assert_eq!(fixture.verify(&token).unwrap_err(), TokenError::Algorithm);
        }
    }
    // A public key must not become the secret of an HMAC.
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "RS256"}).to_string();
    let token = fixture.keys.sign_with("HS256", &header, &claims);
    assert_eq!(fixture.verify(&token).unwrap_err(), TokenError::Algorithm);
}

#[test]
fn unsigned_tokens_and_unknown_headers_are_refused() {
    let fixture = Fixture::new();
    for alg in [
        "none", "None", "NONE", "", "HS512", "PS256", "ES384", "hs256",
    ] {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": "HS256"});
        assert_eq!(
            fixture.with_header(&header).unwrap_err(),
            TokenError::Algorithm
        );
    }
    for name in ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip"] {
        let mut header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "HS256"});
        header[name] = json!("x");
        assert_eq!(
            fixture.with_header(&header).unwrap_err(),
            TokenError::Header(name)
        );
    }
    for typ in [json!("JWT"), json!("jwt"), json!(""), Json::Null] {
        let header = json!({"alg": "HS256", "typ": typ, "kid": "HS256"});
        assert_eq!(fixture.with_header(&header).unwrap_err(), TokenError::Type);
    }
    for kid in [
        json!("other"),
        json!(""),
        json!("dev_websocket2"),
        Json::Null,
    ] {
        let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": kid});
        assert_eq!(fixture.with_header(&header).unwrap_err(), TokenError::Key);
    }
    let typ = json!({"alg": "HS256", "typ": "application/AT+JWT", "kid": "HS256"});
    assert!(fixture.with_header(&typ).is_ok());
    let twice = r#"{"alg":"HS256","alg":"HS256","typ":"at+jwt","kid":"HS256"}"#;
    let token = fixture
        .keys
        .sign_with("HS256", twice, claims(now(), &[]).to_string());
    assert!(matches!(
        fixture.verify(&token),
        Err(TokenError::Malformed(_))
    ));
}

#[test]
fn a_list_is_no_header_and_no_claims() {
    let fixture = Fixture::new();
    let header = r#"["HS256","HS256","at+jwt",null,null,null,null,null,null,null]"#;
    let claims = claims(now(), &["prices"]).to_string();
    let refused = |header: &str, claims: &str| {
        let token = fixture.keys.sign_with("HS256", header, claims);
        fixture.verify(&token).unwrap_err()
    };
    assert!(matches!(refused(header, &claims), TokenError::Malformed(_)));
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "HS256"}).to_string();
    let claims = json!([
        ISSUER,
        "dev_websocket",
        "alice",
        now() + 600,
        null,
        null,
        null,
        []
    ]);
    let error = refused(&header, &claims.to_string());
    assert!(matches!(error, TokenError::Claims(_)), "{error}");
}

#[test]
fn a_field_without_a_meaning_must_be_utf8_too() {
    let fixture = Fixture::new();
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "HS256"}).to_string();
    let claims = claims(now(), &["prices"]).to_string();
    let longer =
        |json: &str, text: &[u8]| [b"{\"x\":\"", text, b"\",", &json.as_bytes()[1..]].concat();
    for (text, is_accepted) in [(&b"\xc3\xa4"[..], true), (b"\xff", false)] {
        for (header, claims) in [
            (longer(&header, text), claims.clone().into_bytes()),
            (header.clone().into_bytes(), longer(&claims, text)),
        ] {
            let token = fixture.keys.sign_with("HS256", header, claims);
            assert_eq!(fixture.verify(&token).is_ok(), is_accepted, "{text:?}");
        }
    }
}

#[test]
fn claims_are_checked() {
    let fixture = Fixture::new();
    let now = now();
    assert!(fixture.with("jti", Json::Null).is_ok());
    assert!(fixture.with("iat", Json::Null).is_ok());
    for (name, value, error) in [
        ("iss", json!("https://other.example"), TokenError::Issuer),
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!(["a", "b"]), TokenError::Audience),
        ("exp", json!(now - 31), TokenError::Expired),
        ("exp", json!(-1), TokenError::Expired),
        (
            "exp",
            json!(now + 24 * 3600 + 60),
            TokenError::Life(24 * 3600),
        ),
        ("exp", json!(1e300), TokenError::Life(24 * 3600)),
        ("nbf", json!(now + 60), TokenError::Early),
        ("iat", json!(now + 60), TokenError::Early),
    ] {
        assert_eq!(
            fixture.with(name, value.clone()).unwrap_err(),
            error,
            "{name} {value}"
        );
    }
    for (name, value) in [
        ("iss", Json::Null),
        ("aud", Json::Null),
        ("aud", json!(1)),
        ("sub", Json::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("exp", Json::Null),
        ("exp", json!("soon")),
        ("jti", json!(1)),
        ("nbf", json!("x")),
        ("authorization_details", json!("x")),
        ("authorization_details", json!({})),
    ] {
        let error = fixture.with(name, value.clone()).unwrap_err();
        assert!(
            matches!(&error, TokenError::Claims(_)),
            "{name} {value} {error}"
        );
    }
    assert!(
        fixture
            .with("aud", json!(["other", "dev_websocket"]))
            .is_ok()
    );
    // The leeway of 30 seconds covers clocks that differ.
    let late = fixture.with("exp", json!(now - 10)).unwrap();
    assert_eq!(late.ends_at(), Some((now + 20) * 1000));
    let session = fixture.with("exp", json!(now + 100)).unwrap();
    assert_eq!(session.ends_at(), Some((now + 100) * 1000));
}

#[test]
fn a_malformed_grant_refuses_the_whole_token() {
    let fixture = Fixture::new();
    let good = json!({"type": "dev_websocket", "actions": ["read"], "topics": ["a"]});
    for bad in [
        json!({"type": "dev_websocket", "actions": ["publish"]}),
        json!({"type": "dev_websocket", "actions": ["read", "write"], "topics": ["a"]}),
        json!({"type": "dev_websocket", "actions": []}),
        json!({"type": "dev_websocket", "actions": "read"}),
        json!({"type": "dev_websocket", "topics": ["a"]}),
        json!({"type": "dev_websocket", "actions": ["read"]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": "a"}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": [""]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": ["a,b"]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": ["a\u{1}b"]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": [1]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": ["x".repeat(256)]}),
        json!({"type": "dev_websocket", "actions": ["send"], "topics": ["a,b"]}),
        json!({"type": "dev_websocket", "actions": ["read"], "topics": ["a"], "locations": ["x"]}),
        json!({"actions": ["read"], "topics": ["a"]}),
        json!("dev_websocket"),
    ] {
        let error = fixture.with_details(json!([good, bad])).unwrap_err();
        assert!(matches!(&error, TokenError::Grants(_)), "{bad} {error}");
    }
    let globs: Vec<_> = (0..65).map(|number| format!("{number}*")).collect();
    let details =
        |globs: &[String]| json!([{"type": "dev_websocket", "actions": ["read"], "topics": globs}]);
    assert!(fixture.with_details(details(&globs[..64])).is_ok());
    assert!(matches!(
        fixture.with_details(details(&globs)),
        Err(TokenError::Grants(_))
    ));
    // Grants for other servers have no meaning here.
    let other = json!([{"type": "other", "actions": ["publish"], "x": 1}, good]);
    assert!(fixture.with_details(other).is_ok());
}

#[test]
fn a_long_token_and_too_many_logins_are_refused() {
    let mut fixture = Fixture::new();
    let token = fixture.keys.sign("HS256", &claims(now(), &["a"]));
    fixture.settings.max_token_bytes = token.len() as u64;
    assert!(fixture.verify(&token).is_ok());
    fixture.settings.max_token_bytes -= 1;
    assert!(matches!(
        fixture.verify(&token),
        Err(TokenError::TooLong(_))
    ));
    let mut fixture = Fixture::new();
    fixture.settings.max_logins = 1;
    // Three verifications take less than two seconds, so two of them are in one second.
    let refused = (0..3).any(|_| matches!(fixture.verify(&token), Err(TokenError::Busy)));
    assert!(refused);
}

#[test]
fn revoked_tokens_are_refused_by_id_and_by_subject() {
    let fixture = Fixture::new();
    let revoke = |revocation| fixture.authority.revoke(revocation, &fixture.settings);
    let session = fixture.with("jti", json!("7")).unwrap();
    revoke(Revocation::Token("7".into())).unwrap();
    assert!(fixture.authority.is_revoked(&session));
    assert_eq!(
        fixture.with("jti", json!("7")).unwrap_err(),
        TokenError::Revoked
    );
    assert!(fixture.with("jti", json!("8")).is_ok());
    let now = now();
    revoke(Revocation::Subject("alice".into(), Some(now - 5))).unwrap();
    assert_eq!(
        fixture.with("iat", json!(now - 5)).unwrap_err(),
        TokenError::Revoked
    );
    assert_eq!(
        fixture.with("iat", Json::Null).unwrap_err(),
        TokenError::Revoked
    );
    assert!(fixture.with("iat", json!(now - 4)).is_ok());
    assert!(fixture.with("sub", json!("bob")).is_ok());
    for bad in [
        Revocation::Token(String::new()),
        Revocation::Subject("x".repeat(4097), None),
    ] {
        assert!(matches!(revoke(bad), Err(RevokeError::Text(_))));
    }
}

#[test]
fn own_tokens_are_accepted_by_this_program_only() {
    let fixture = Fixture::new();
    let token = NewToken {
        subject: "alice".into(),
        topics: vec!["target:alice".into()],
        send: true,
        seconds: 300,
    };
    let issue = |token: &NewToken| fixture.authority.issue(token, &fixture.settings);
    let text = issue(&token).unwrap();
    let session = fixture.verify(&text).unwrap();
    assert!(session.grants.send && !session.grants.everything);
    let other = Authority::new(Arc::default());
    assert_eq!(
        other.verify(&text, &fixture.settings).unwrap_err(),
        TokenError::Signature
    );
    for (change, name) in [
        (
            NewToken {
                subject: String::new(),
                ..token.clone()
            },
            "sub",
        ),
        (
            NewToken {
                topics: vec!["a,b".into()],
                ..token.clone()
            },
            "topics",
        ),
        (
            NewToken {
                seconds: 0,
                ..token.clone()
            },
            "seconds",
        ),
        (
            NewToken {
                seconds: 24 * 3600 + 1,
                ..token.clone()
            },
            "seconds",
        ),
        (
            NewToken {
                topics: vec!["x".repeat(200); 30],
                ..token
            },
            "max_token_bytes",
        ),
    ] {
        let error = issue(&change).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_broken_key_file_names_the_key_and_keeps_the_old_keys() {
    let fixture = Fixture::new();
    let token = fixture.keys.sign("HS256", &claims(now(), &["a"]));
    let good = fixture.keys.document();
    let change = |index: usize, name: &str, value: Json| {
        let mut document = good.clone();
        document["keys"][index][name] = value;
        document.to_string()
    };
    for (text, part) in [
        ("{".to_owned(), "line 1"),
        ("[]".to_owned(), "JSON Web Key Set"),
        ("[[]]".to_owned(), "JSON Web Key Set"),
        (r#"{"keys": [[]]}"#.to_owned(), "JSON Web Key Set"),
        (r#"{"keys": 1}"#.to_owned(), "JSON Web Key Set"),
        (
            change(0, "k", json!(encode([1; 31]))),
            "keys[0]: k must have",
        ),
        (change(0, "k", json!("+/")), "keys[0]: k is not"),
        (change(0, "kid", Json::Null), "keys[0]: kid is missing"),
        (change(0, "iss", json!("")), "keys[0]: iss is missing"),
        (
            change(0, "iss", json!("dev_websocket")),
            "keys[0]: kid and iss",
        ),
        (
            change(0, "kid", json!("dev_websocket")),
            "keys[0]: kid and iss",
        ),
        (change(0, "alg", json!("none")), "keys[0]: alg must be"),
        (change(0, "alg", Json::Null), "keys[0]: alg is missing"),
        (change(0, "alg", json!("RS256")), "keys[0]: kty and crv"),
        (change(1, "crv", json!("X25519")), "keys[1]: kty and crv"),
        (change(1, "x", json!(encode([1; 31]))), "keys[1]: x must be"),
        (change(2, "y", Json::Null), "keys[2]: y must be"),
        (
            change(3, "n", json!(encode([1; 128]))),
            "keys[3]: n must have",
        ),
        (change(3, "use", json!("enc")), "keys[3]: use must be"),
        (
            change(3, "kid", json!("HS256")),
            "keys[3]: kid is used twice",
        ),
    ] {
        let error = super::keys::KeySet::parse(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
        std::fs::write(&fixture.settings.token_keys, &text).unwrap();
        fixture.authority.reload(&fixture.settings);
        assert!(fixture.verify(&token).is_ok(), "{part}");
    }
    std::fs::write(&fixture.settings.token_keys, r#"{"keys":[]}"#).unwrap();
    fixture.authority.reload(&fixture.settings);
    assert_eq!(fixture.verify(&token).unwrap_err(), TokenError::Key);
}

#[test]
fn debug_output_has_no_token_and_no_secret() {
    let fixture = Fixture::new();
    let token = fixture.keys.sign("HS256", &claims(now(), &["a"]));
    let shown = format!("{:?} {:?}", Token::new(token.as_str()), fixture.authority);
    assert!(!shown.contains(&token) && !shown.contains("[7, 7"));
}

proptest! {
    #[test]
    fn any_text_is_a_token_or_refused(text in "[A-Za-z0-9_.-]{0,60}") {
        let authority = Authority::new(Arc::default());
        prop_assert!(authority.verify(&text, &Settings::default()).is_err());
    }
}

#[test]
fn public_topics_follow_the_setting() {
    let fixture = Fixture::new();
    let anonymous = fixture.authority.anonymous();
    let asked = [Subscription::parse("news:eu").unwrap()];
    let check = |public: &[&str]| {
        let settings = Settings {
            public_topics: Topics(public.iter().map(|topic| (*topic).to_owned()).collect()),
            ..Settings::default()
        };
        fixture
            .authority
            .check(&anonymous, &settings, asked.iter())
            .is_ok()
    };
    assert!(!check(&[]) && check(&["news:*"]) && !check(&["other"]) && check(&["*"]));
}
