//! Fuzzing of a client's address: bytes as a PROXY header, and lines as the lists of proxies.

use std::net::SocketAddr;

use dev_websocket_core::internals::peers;
use dev_websocket_core::{Networks, SettingValue, Settings};

/// Limit on the length of a PROXY header.
const MAX_HEADER: usize = 4096;
const NAMES: [&str; 2] = ["x-forwarded-for", "forwarded"];
const PROXY: &str = "10.0.0.1:1";
const CLIENT: &str = "[2001:db9::1]:80";

/// Checks the readers of a client's address with any bytes.
pub fn check(input: &[u8]) {
    proxy_header(input);
    forwarded(input);
}

/// The length is known at some byte and never changes, and a complete header is read or refused.
fn proxy_header(input: &[u8]) {
    let whole = peers::proxy_header_length(input);
    for end in 0..input.len().min(300) {
        match peers::proxy_header_length(&input[..end]) {
            Ok(None) => {}
            known => assert_eq!(known, whole, "after {end} bytes"),
        }
    }
    let Ok(Some(length)) = whole else {
        return;
    };
    assert!(length <= MAX_HEADER);
    if let Some(header) = input.get(..length)
        && let Ok(Some(address)) = peers::proxy_header_address(header)
    {
        assert_eq!(address.ip(), address.ip().to_canonical());
    }
}

/// Only lines of proxies count, whatever stands before them.
fn forwarded(input: &[u8]) {
    let trusted = trusted();
    let [proxy, client]: [SocketAddr; 2] =
        [PROXY, CLIENT].map(|text| text.parse().expect("an address"));
    for name in NAMES {
        let mut lines: Vec<(&'static str, &[u8])> = input
            .split(|byte| *byte == b'\n')
            .map(|line| (name, line))
            .collect();
        let found = peers::forwarded(proxy, &lines, &trusted);
        assert_eq!(found.ip(), found.ip().to_canonical());
        assert_eq!(peers::forwarded(client, &lines, &trusted), client);
        let own = match name {
            "forwarded" => format!("proto=http;for=\"{CLIENT}\", for=10.0.0.2"),
            _ => format!("{CLIENT}, 10.0.0.2"),
        };
        lines.push((name, own.as_bytes()));
        assert_eq!(peers::forwarded(proxy, &lines, &trusted), client);
        // In one line, after the client's text.
        let last = input
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if last
            .iter()
            .all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 127)
        {
            let joined = [last, b", ", own.as_bytes()].concat();
            let found = peers::forwarded(proxy, &[(name, joined.as_slice())], &trusted);
            assert_eq!(found, client);
        }
    }
}

fn trusted() -> Networks {
    let mut settings = Settings::default();
    let networks = SettingValue::Text("10.0.0.0/8".to_owned());
    settings
        .set("trusted_proxies", networks)
        .expect("a valid setting");
    settings.trusted_proxies
}
