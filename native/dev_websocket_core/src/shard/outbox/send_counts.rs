//! Results of sending and dropping, which the shard adds to the counters.

/// The results of writes to one or more connections.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendCounts {
    /// Publications that matched a subscription.
    pub(crate) matched: u64,
    /// Publications that are completely on the socket.
    pub(crate) publications: u64,
    /// Bytes that the socket took.
    pub(crate) bytes: u64,
    /// Bytes of control frames among them.
    pub(crate) control_bytes: usize,
    /// Bytes among them of frames for one connection alone.
    pub(crate) direct_bytes: usize,
    /// Bytes that compression saved of the publications.
    pub(crate) saved_bytes: u64,
    /// System calls.
    pub(crate) writes: u64,
    /// Publications dropped for slow clients.
    pub(crate) dropped_slow: u64,
    /// Publications dropped for clients that are being closed.
    pub(crate) dropped_disconnected: u64,
}

impl SendCounts {
    /// Returns the number of publications that are sent or dropped.
    pub(crate) fn settled(&self) -> u64 {
        self.publications + self.dropped_slow + self.dropped_disconnected
    }
}

/// Entries dropped from the send buffer of a connection that is being closed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) publications: u64,
    pub(crate) control_bytes: usize,
    /// Bytes of frames for this connection alone.
    pub(crate) direct_bytes: usize,
}
