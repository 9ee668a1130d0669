//! Validation of hosts and origins in settings. A text that no client or browser can send is refused when it is set,
//! so that the operator sees the error at once.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Settings;

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

/// The parts of the setting `public_uri`.
struct PublicUri<'t> {
    host: &'t str,
    path: &'t str,
}

impl<'t> PublicUri<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let rest = text
            .strip_prefix("wss://")
            .or_else(|| text.strip_prefix("ws://"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_valid = is_host(host) && port.is_none_or(is_number_of_port) && is_path(path);
        is_valid.then_some(Self { host, path })
    }
}

/// Returns whether a text is the URL of a WebSocket.
pub(super) fn is_public_uri(text: &str) -> bool {
    PublicUri::parse(text).is_some()
}

impl Settings {
    /// Returns the host of `public_uri`.
    pub(crate) fn public_uri_host(&self) -> Option<&str> {
        PublicUri::parse(&self.public_uri).map(|uri| uri.host)
    }

    /// Returns `public_uri`; without a path of its own it gets the default path.
    pub(crate) fn public_uri_with(&self, default_path: &str) -> Option<String> {
        let uri = PublicUri::parse(&self.public_uri)?;
        let start = self.public_uri.strip_suffix(uri.path)?;
        let path = match uri.path {
            "" | "/" => default_path,
            path => path,
        };
        Some(format!("{start}{path}"))
    }
}

/// Returns whether a text is a path as in a URL (RFC 3986 section 3.3), or empty.
fn is_path(text: &str) -> bool {
    let mut escapes = text.split('%');
    let is_plain = |part: &str| {
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
        part.bytes().all(is_allowed)
    };
    let is_escape = |part: &str| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    escapes.next().is_some_and(is_plain) && escapes.all(|part| is_escape(part) && is_plain(part))
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
    !is_default && is_number_of_port(port)
}

pub(super) fn is_number_of_port(port: &str) -> bool {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    is_number && port.parse::<u16>().is_ok()
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
    fn a_public_uri_is_the_url_of_a_websocket() {
        let uri = |text: &str| {
            let settings = Settings {
                public_uri: text.to_owned(),
                ..Settings::default()
            };
            let host = settings.public_uri_host().map(str::to_owned);
            host.zip(settings.public_uri_with("/ws"))
        };
        for (text, host, whole) in [
            (
                "wss://node.example",
                "node.example",
                "wss://node.example/ws",
            ),
            (
                "wss://node.example/",
                "node.example",
                "wss://node.example/ws",
            ),
            (
                "ws://node.example:1",
                "node.example",
                "ws://node.example:1/ws",
            ),
            (
                "wss://node.example:8443/push/ws",
                "node.example",
                "wss://node.example:8443/push/ws",
            ),
            ("ws://[::1]:80/a%20b/", "[::1]", "ws://[::1]:80/a%20b/"),
            ("ws://[::1]", "[::1]", "ws://[::1]/ws"),
            ("ws://192.0.2.1/x", "192.0.2.1", "ws://192.0.2.1/x"),
        ] {
            assert!(is_public_uri(text));
            assert_eq!(uri(text), Some((host.to_owned(), whole.to_owned())));
        }
        for text in [
            "",
            "node.example",
            "https://node.example",
            "wss://",
            "wss:///ws",
            "wss://:443",
            "wss://node.example:",
            "wss://node.example:0",
            "wss://node.example:65536",
            "wss://node.example:+1",
            "wss://node.example:0443",
            "wss://user@node.example",
            "wss://node.example/ws?topic=a",
            "wss://node.example?topic=a",
            "wss://node.example/ws#a",
            "wss://node.example/a b",
            "wss://node.example/%2",
            "wss://node.example/%zz",
            "wss://node.example/\u{fc}",
            "wss://::1/ws",
            "wss://[::1/ws",
            "wss://*/ws",
            " wss://node.example",
        ] {
            assert!(!is_public_uri(text), "{text}");
            assert_eq!(uri(text), None, "{text}");
        }
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
