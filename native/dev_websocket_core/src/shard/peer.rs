//! What is known of a client from its request. Every connection keeps this for its life, so it is kept small.

use std::net::SocketAddr;

use hyper::header::{CONNECTION, HeaderMap, HeaderName, UPGRADE};

use crate::wire::format::Format;

/// Bytes of headers that are kept of one request, names included; what does not fit is left out.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) format: Format,
    /// `name:value` lines. A value may be no UTF-8, but has no line breaks.
    headers: Box<[u8]>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, format: Format, headers: &HeaderMap) -> Self {
        let mut lines = Vec::new();
        for name in headers.keys().filter(|name| !is_of_handshake(name)) {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| value.as_bytes())
                .collect();
            // Several headers of one name mean the same as one with a list (RFC 9110 section 5.3).
            let value = values.join(b", ".as_slice());
            if lines.len() + name.as_str().len() + value.len() + 2 <= MAX_HEADER_BYTES {
                lines.extend_from_slice(name.as_str().as_bytes());
                lines.push(b':');
                lines.extend_from_slice(&value);
                lines.push(b'\n');
            }
        }
        Self {
            address,
            format,
            headers: lines.into(),
        }
    }

    /// Names in lower case, and values.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                Some((&line[..colon], &line[colon + 1..]))
            })
    }
}

fn is_of_handshake(name: &HeaderName) -> bool {
    name == CONNECTION || name == UPGRADE || name.as_str().starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn peer(headers: &[(&'static str, &[u8])]) -> Peer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        Peer::new(([127, 0, 0, 1], 80).into(), Format::Json, &map)
    }

    #[test]
    fn headers_are_kept_but_those_of_the_handshake() {
        let peer = peer(&[
            ("host", b"a:1"),
            ("connection", b"Upgrade"),
            ("upgrade", b"websocket"),
            ("sec-websocket-key", b"k"),
            ("accept", b"x"),
            ("accept", b"y\xff"),
            ("empty", b""),
        ]);
        let mut headers: Vec<_> = peer.headers().collect();
        headers.sort_unstable();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"accept", b"x, y\xff"), (b"empty", b""), (b"host", b"a:1")];
        assert_eq!(headers, expected);
    }

    #[test]
    fn headers_are_bounded() {
        let peer = peer(&[("large", &[b'x'; MAX_HEADER_BYTES]), ("small", b"x")]);
        assert_eq!(
            peer.headers().collect::<Vec<_>>(),
            [(&b"small"[..], &b"x"[..])]
        );
    }
}
