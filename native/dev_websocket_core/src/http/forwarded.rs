//! The client's address behind proxies: the headers `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that its connection came from, so the list is read from its end. An address counts
//! only if the one that wrote it is trusted: the socket's peer first, then each address that is itself a trusted proxy.
//! The first address that is not trusted is the client, and everything before it may be the client's invention.
//!
//! Text that is not an address ends the walk, and the last known address counts. Nginx, Caddy, HAProxy and Envoy write
//! `X-Forwarded-For` and pass on a client's own `Forwarded`. Therefore `Forwarded` counts only without the other header.

use std::borrow::Cow;
use std::iter;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::settings::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client's address. Only a trusted peer can state another one than its own; the port is 0 if the proxy
/// states none.
pub(crate) fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &Networks) -> SocketAddr {
    if !trusted.contains(peer.ip()) {
        return peer;
    }
    let lines = |name| {
        let lines = headers.get_all(name).iter().rev();
        lines.map(|line| line.as_bytes())
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        let elements = lines(X_FORWARDED_FOR).flat_map(|line| line.rsplit(|byte| *byte == b','));
        walk(peer, elements.map(|element| node(text(element)?)), trusted)
    } else {
        let elements = lines(FORWARDED).flat_map(|line| from_last(line, b','));
        walk(peer, elements.map(forwarded_for), trusted)
    }
}

fn walk(
    peer: SocketAddr,
    nodes: impl Iterator<Item = Option<SocketAddr>>,
    trusted: &Networks,
) -> SocketAddr {
    let mut address = peer;
    for node in nodes {
        match node {
            Some(node) if trusted.contains(address.ip()) => address = node,
            _ => break,
        }
    }
    address
}

/// Reads the value of `for` in an element of `Forwarded`. The result is `None` unless there is exactly one address.
fn forwarded_for(element: &[u8]) -> Option<SocketAddr> {
    let mut found = None;
    for pair in from_last(element, b';') {
        let pair = text(pair)?;
        let Some((name, value)) = pair.split_once('=') else {
            // Empty pairs are allowed, in an empty element as well.
            if pair.is_empty() {
                continue;
            }
            return None;
        };
        if name.trim_end().eq_ignore_ascii_case("for")
            && found
                .replace(node(&unquoted(value.trim_start())?)?)
                .is_some()
        {
            return None;
        }
    }
    found
}

/// Reads an address with or without a port. An IPv6 address with a port stands in brackets.
fn node(text: &str) -> Option<SocketAddr> {
    let (ip, port): (IpAddr, _) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (IpAddr::V6(ip.parse().ok()?), port)
        }
        None => match (text.parse(), text.split_once(':')) {
            (Ok(ip), _) => (ip, None),
            (Err(_), Some((ip, port))) => (IpAddr::V4(ip.parse().ok()?), Some(port)),
            (Err(_), None) => return None,
        },
    };
    let port = port.map_or(Some(0), port_number)?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Reads a port. A hidden one counts as 0.
fn port_number(text: &str) -> Option<u16> {
    let is_hidden = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.strip_prefix('_') {
        Some(hidden) => (!hidden.is_empty() && hidden.bytes().all(is_hidden)).then_some(0),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// Returns a token, or the content of a quoted string (RFC 9110 section 5.6.4).
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then_some(value.into());
    };
    let mut content = String::new();
    let mut rest = rest.strip_suffix('"')?.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' => return None,
            '\\' => content.push(rest.next()?),
            character => content.push(character),
        }
    }
    Some(content.into())
}

/// Splits a text at separators outside quoted strings, from the last part on. A client's unbalanced quote at the
/// beginning of a list thus spoils only the client's own parts.
fn from_last(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let (before, part) = match last_separator(text, separator) {
            Some(index) => (Some(&text[..index]), &text[index + 1..]),
            None => (None, text),
        };
        rest = before;
        Some(part)
    })
}

fn last_separator(text: &[u8], separator: u8) -> Option<usize> {
    let mut is_quoted = false;
    for (index, byte) in text.iter().enumerate().rev() {
        if *byte == b'"' && !is_escaped(&text[..index]) {
            is_quoted = !is_quoted;
        } else if *byte == separator && !is_quoted {
            return Some(index);
        }
    }
    None
}

/// Returns whether the character after this text is escaped by a backslash.
fn is_escaped(before: &[u8]) -> bool {
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes.trim_ascii()).ok()
}

#[cfg(test)]
mod tests;
