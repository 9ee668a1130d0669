//! Ids of connections, subscriptions and publications.

/// The id of a connection, unique within the program.
pub(crate) type ConnectionId = u64;
/// The index of a connection in its shard.
pub(crate) type ConnectionIndex = u32;
/// The index of a distinct subscription in its shard.
pub(crate) type EntryIndex = u32;
/// The sequence number of a publication.
pub(crate) type Seq = u64;
