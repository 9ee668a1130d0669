//! Validation of hosts and origins in settings. A text that no client or browser can send is refused when it is set,
//! so that the operator sees the error at once.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The maximum length of a host name, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Returns whether a text is a host as in a URL, without a port.
pub(super) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => is_name(text),
    }
}

/// Returns whether a text is an origin as browsers write it (RFC 6454 section 6.2), or a glob of origins.
pub(super) fn is_origin(text: &str) -> bool {
    if text == "*" || text == "null" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    };
    is_scheme(scheme) && is_origin_host(host) && port.is_none_or(|port| is_port(port, scheme))
}

/// Returns whether an origin can have this scheme. Pages are loaded by HTTP, not by `ws`, and a page from a file has
/// the origin `null`.
fn is_scheme(scheme: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.*".contains(&byte);
    !scheme.is_empty() && scheme.bytes().all(is_allowed) && !["ws", "wss", "file"].contains(&scheme)
}

fn is_origin_host(host: &str) -> bool {
    if host.contains('*') {
        let is_allowed = |byte: u8| is_of_name(byte) || b"*[]:".contains(&byte);
        return host.bytes().all(is_allowed);
    }
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        // Browsers write each address in one canonical form.
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok_and(|ip| ip.to_string() == address || ip.to_ipv4_mapped().is_some()),
        None => is_name(host),
    }
}

/// Returns whether a port can occur. Browsers omit the scheme's default port.
fn is_port(port: &str, scheme: &str) -> bool {
    if port.contains('*') {
        return port
            .bytes()
            .all(|byte| byte == b'*' || byte.is_ascii_digit());
    }
    let is_default = matches!((scheme, port), ("http", "80") | ("https", "443"));
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    is_number && !is_default && port.parse::<u16>().is_ok()
}

/// Returns whether a text is a host name or an IPv4 address. URL parsers read a name that ends in a number as an
/// address.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| !label.is_empty())
        && name.bytes().all(is_of_name)
        && (!is_number || name.parse::<Ipv4Addr>().is_ok())
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_without_a_port() {
        for host in [
            "node.example",
            "NODE.example",
            "localhost",
            "n",
            "a_b.example",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]",
            "node.example.",
            "4chan.example",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "node.example:443",
            "2001:db8::1",
            "[::1]:80",
            "[::1",
            "::1]",
            "[node.example]",
            "https://node.example",
            "node.example/ws",
            "a b",
            "a..b",
            ".a",
            ".",
            "b\u{fc}cher.example",
            "127.0.01",
            "1.2.3",
            "256.1.1.1",
            "1",
            "0x7f",
            "user@node.example",
            "*.node.example",
            "a,b",
            "[fe80::1%eth0]",
        ] {
            assert!(!is_host(host), "{host}");
        }
        let longest = format!("{}b", "a.".repeat(126));
        assert!(is_host(&longest) && is_host(&format!("{longest}.")));
        assert!(!is_host(&format!("{longest}b")));
    }

    #[test]
    fn an_origin_is_what_a_browser_can_send() {
        for origin in [
            "*",
            "null",
            "https://app.example",
            "https://app.example:8443",
            "http://app.example:443",
            "https://app.example:80",
            "https://*.app.example",
            "https://*",
            "*://app.example",
            "http*://app.example:443",
            "http://localhost:*",
            "http://[::1]:3000",
            "http://[::1]",
            "http://127.0.0.1:3000",
            "chrome-extension://abcdefgh",
            "capacitor://localhost",
            "http://[::ffff:102:304]",
            "http://[*]:1",
            "https://app.example:8*",
            "http://a.example:65535",
            "http://a.example:1",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "",
            "app.example",
            "https://",
            "://app.example",
            "https://app.example/",
            "https://app.example/page",
            "https://app.example:443",
            "http://app.example:80",
            "https://app.example:",
            "https://app.example:0",
            "https://app.example:08443",
            "https://app.example:65536",
            "https://app.example:x",
            "wss://app.example",
            "ws://app.example",
            "file://",
            "file:///page",
            "https://user@app.example",
            "https://app.example?x",
            "https://a b",
            "http://::1",
            "http://[::1",
            "http://[0:0::1]",
            "http://127.0.01",
            "https://b\u{fc}cher.example",
            "https://app..example",
            "https:app.example",
            "https://*/x",
            "https://app.example:*x",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
