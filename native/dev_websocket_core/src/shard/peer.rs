//! The data from a client's request, and its permissions. Every connection keeps them for its life, so they are kept
//! small.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HeaderMap, HeaderName, PROXY_AUTHORIZATION, UPGRADE,
};

use crate::access::Session;
use crate::wire::format::Form;

/// Limit on the bytes of headers kept from one request, including names. Headers beyond it are left out.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The address and the headers of a client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) form: Form,
    /// The permissions of the client, which a new token replaces.
    pub(crate) session: ArcSwap<Session>,
    /// Lines of the form `name:value`. A value may be invalid UTF-8, but has no line breaks.
    headers: Box<[u8]>,
}

impl Peer {
    pub(crate) fn new(
        address: SocketAddr,
        form: impl Into<Form>,
        headers: &HeaderMap,
        session: Arc<Session>,
    ) -> Self {
        let mut lines = Vec::new();
        for name in headers.keys().filter(|name| !is_left_out(name)) {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| value.as_bytes())
                .collect();
            // Several headers of one name mean the same as one header with a list (RFC 9110 section 5.3).
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
            form: form.into(),
            session: ArcSwap::new(session),
            headers: lines.into(),
        }
    }

    /// Iterates over names in lower case and values.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                Some((&line[..colon], &line[colon + 1..]))
            })
    }
}

/// Headers of the handshake say nothing about the client, and credentials must not be shown.
fn is_left_out(name: &HeaderName) -> bool {
    [CONNECTION, UPGRADE, AUTHORIZATION, PROXY_AUTHORIZATION].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::format::Format;
    use hyper::header::HeaderValue;

    fn peer(headers: &[(&'static str, &[u8])]) -> Peer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        Peer::new(
            ([127, 0, 0, 1], 80).into(),
            Format::Json,
            &map,
            Session::unrestricted(),
        )
    }

    #[test]
    fn headers_are_kept_but_those_of_the_handshake() {
        let peer = peer(&[
            ("host", b"a:1"),
            ("connection", b"Upgrade"),
            ("upgrade", b"websocket"),
            ("authorization", b"Bearer t"),
            ("proxy-authorization", b"Basic p"),
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
