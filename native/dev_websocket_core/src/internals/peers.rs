//! The readers of a client's address: PROXY headers, and the lists of proxies.

use std::net::SocketAddr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http::{forwarded, proxy_header};
use crate::settings::Networks;

/// Returns the length of the PROXY header that the bytes begin with, or `None` if more bytes must show it.
///
/// # Errors
/// The call returns the reason when the bytes are not a header.
pub fn proxy_header_length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    proxy_header::length(bytes).map_err(proxy_header::Fault::name)
}

/// Returns the address in a complete PROXY header, if it states one.
///
/// # Errors
/// The call returns the reason when the header is malformed.
pub fn proxy_header_address(header: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    proxy_header::address(header).map_err(proxy_header::Fault::name)
}

/// Returns the client's address of a request with these header lines. Lines that no header can have are left out.
#[must_use]
pub fn forwarded(
    peer: SocketAddr,
    lines: &[(&'static str, &[u8])],
    trusted: &Networks,
) -> SocketAddr {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    forwarded::client(peer, &headers, trusted)
}
