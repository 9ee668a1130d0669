//! Limits on connections, handshakes and file descriptors.

pub(crate) mod admission;
pub(crate) mod descriptors;
pub(crate) mod handshakes;
