//! Credentials in a file, as `nsc` writes it: an operator signs an account, and the account a user.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::SettingValue;
use nkeys::KeyPair;
use serde_json::{Value as Json, json};
use support::client::Client;
use support::{Engine, Node};

/// Signs what an issuer says of a key.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: Json) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test", "sub": subject.public_key(),
        "nats": claims,
    });
    let encode = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", encode(&header), encode(&body));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// Writes the file of a user.
fn credentials(path: &Path, token: &str, user: &KeyPair) -> SettingValue {
    let seed = user.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(path, text).unwrap();
    SettingValue::Text(path.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_file_of_credentials_has_the_stream_and_no_other_file_opens_it() {
    let [operator, system, account, user, other] = [
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
        KeyPair::new_account(),
    ];
    let all = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_account = json!({"type": "account", "version": 2, "limits": all});
    let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
    let trusted = token(
        &operator,
        &operator,
        json!({"type": "operator", "version": 2}),
    );
    let preload = token(&operator, &account, of_account);
    // The system account of a server has no streams.
    let of_system = json!({"type": "account", "version": 2, "limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    }});
    let preload_system = token(&operator, &system, of_system);
    let lines = [
        format!("operator: {trusted}"),
        "resolver: MEMORY".to_owned(),
        format!("system_account: {}", system.public_key()),
        format!(
            "resolver_preload: {{ {}: {preload}, {}: {preload_system} }}",
            account.public_key(),
            system.public_key()
        ),
    ];
    let lines = lines.each_ref().map(String::as_str);
    let Some(engine) = Engine::start_with(&lines) else {
        return;
    };
    let folder = tempfile::TempDir::new().unwrap();
    let file = |name: &str, issuer: &KeyPair| {
        let token = token(issuer, &user, of_user.clone());
        credentials(&folder.path().join(name), &token, &user)
    };
    let (right, wrong) = (file("right", &account), file("wrong", &other));
    let node = Node::start_with(&engine.url(), &[("engine_credentials", right)]);
    let mut client = Client::connect(&node.uri(), "").await;
    node.publish("a", 1);
    client.take_messages(1).await;
    for settings in [vec![("engine_credentials", wrong)], Vec::new()] {
        let node = Node::start_with(&engine.url(), &settings);
        node.refuses().await;
    }
}
