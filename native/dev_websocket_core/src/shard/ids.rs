//! Ids of connections, subscriptions and publications.

/// A connection's number, unique within the program.
pub(crate) type ConnectionId = u64;
/// The index of a connection in its shard.
pub(crate) type ConnectionIndex = u32;
/// The index of a distinct subscription in its shard.
pub(crate) type EntryIndex = u32;
/// A publication's sequence number.
pub(crate) type Seq = u64;
