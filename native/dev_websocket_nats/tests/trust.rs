//! TLS to the engine with certificates on both sides, and what is wrong with files of settings.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::Path;

use dev_websocket_core::SettingValue;
use support::client::Client;
use support::{Engine, Node};

/// Makes a self-signed certificate for this machine, which is its own authority. Returns the paths of it and its key.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let paths =
        ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")).display().to_string());
    let [cert, key] = paths;
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

fn path(path: &str) -> SettingValue {
    SettingValue::Text(path.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_certificates_and_no_others_are_taken() {
    let folder = tempfile::TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path(), "engine");
    let (node_cert, node_key) = certificate(folder.path(), "node");
    let tls = format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {node_cert:?}, verify: true }}"
    );
    let Some(engine) = Engine::start_with(&[&tls]) else {
        return;
    };
    let url = engine.url().replace("nats:", "tls:");
    let trusted = [
        ("engine_ca", path(&cert)),
        ("engine_cert", path(&node_cert)),
        ("engine_key", path(&node_key)),
    ];
    let node = Node::start_with(&url, &trusted);
    let mut client = Client::connect(&node.uri(), "").await;
    node.publish("a", 1);
    client.take_messages(1).await;
    // An authority that has not signed the engine's certificate, and no certificate of the node.
    let (other, _) = certificate(folder.path(), "other");
    for wrong in [
        [
            ("engine_ca", path(&other)),
            trusted[1].clone(),
            trusted[2].clone(),
        ]
        .as_slice(),
        &trusted[..1],
    ] {
        let node = Node::start_with(&url, wrong);
        node.refuses().await;
        assert_eq!(node.stat("engine_present"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_keeps_the_node_from_its_stream() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let folder = tempfile::TempDir::new().unwrap();
    let junk = folder.path().join("junk").display().to_string();
    fs::write(&junk, "secret").unwrap();
    for (name, file) in [
        ("engine_credentials", "/nowhere"),
        ("engine_credentials", junk.as_str()),
        ("engine_ca", "/nowhere"),
        ("engine_key", junk.as_str()),
    ] {
        let node = Node::start_with(&engine.url(), &[(name, path(file))]);
        node.refuses().await;
        assert_eq!(node.stat("engine_present"), 0, "{name}");
    }
}
