//! What sending and dropping came to, for the counters.

/// What a write came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendCounts {
    /// Publications that were to be sent.
    pub(crate) matched: u64,
    /// Publications that are on the socket whole.
    pub(crate) publications: u64,
    /// Bytes that the socket took.
    pub(crate) bytes: u64,
    /// Control bytes among them.
    pub(crate) control_bytes: usize,
    /// Bytes among them of frames for this connection alone.
    pub(crate) direct_bytes: usize,
    /// System calls.
    pub(crate) writes: u64,
    /// Publications dropped for slow clients.
    pub(crate) dropped_slow: u64,
    /// Publications dropped for clients that are being closed.
    pub(crate) dropped_disconnected: u64,
}

impl SendCounts {
    /// Publications that nobody owes to a client any more: sent or dropped.
    pub(crate) fn settled(&self) -> u64 {
        self.publications + self.dropped_slow + self.dropped_disconnected
    }
}

/// What is dropped of a connection that is being closed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) publications: u64,
    pub(crate) control_bytes: usize,
    /// Bytes of frames for this connection alone.
    pub(crate) direct_bytes: usize,
}
