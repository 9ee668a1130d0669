//! Renewal of a certificate under live connections. It reads log events of the whole program, so it has its own.
#![cfg(test)]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::fs;
use std::sync::Arc;

use dev_websocket_core::diagnostics::{self, Events};

use self::tls::*;

/// Waits until the log has an event of this kind.
fn until_event(events: &mut Events, kind: &str) {
    while !events
        .wait()
        .unwrap()
        .iter()
        .any(|event| event.kind == kind)
    {}
}

#[test]
fn a_renewed_certificate_is_used_and_connections_stay() {
    let (recorder, mut events) = diagnostics::channel(Arc::default());
    tracing::subscriber::set_global_default(recorder).unwrap();
    let (files, old) = Files::new();
    let server = files.server();
    let mut clients: Vec<_> = (0..20)
        .map(|_| websocket(&server, &old, "?topic=a"))
        .collect();
    // A broken pair changes nothing.
    fs::write(files.key(), "no key").unwrap();
    until_event(&mut events, "refused_certificate");
    clients.push(websocket(&server, &old, "?topic=a"));
    let new = files.renew();
    until_event(&mut events, "renewed_certificate");
    clients.push(websocket(&server, &new, "?topic=a"));
    server.send("a", "still here");
    for client in &mut clients {
        assert_eq!(json(client)["data"]["data"], "still here");
    }
    assert_eq!(server.stat("connections_closed"), 0);
}
