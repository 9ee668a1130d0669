//! The sender of a request, and the listener through which it came.

use std::net::{Ipv4Addr, SocketAddr};

use crate::shared::Shared;

/// The sender of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// The address that counts for limits and logs. A trusted proxy may have stated it.
    pub(super) peer: SocketAddr,
    /// The other end of the socket, which is a proxy or the client.
    pub(super) sender: SocketAddr,
    /// True if nobody on the way to this server can read the request.
    pub(super) is_encrypted: bool,
    pub(super) door: Door,
}

/// The listener through which a request came. Both serve the same paths.
///
/// The operator's door needs no token: it is meant for `/metrics`, `/info` and the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// `host` and `port`.
    Public,
    /// `operator_host` and `operator_port`. Neither the PROXY protocol nor TLS applies here.
    Operator,
}

impl Door {
    /// Returns the address of the listener.
    pub(super) fn address(self, shared: &Shared) -> SocketAddr {
        match self {
            Self::Public => **shared.address.load(),
            // A request may outlive its listener. The rules of a loopback address are the strictest.
            Self::Operator => shared
                .operator_address
                .load()
                .as_deref()
                .copied()
                .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()),
        }
    }
}
