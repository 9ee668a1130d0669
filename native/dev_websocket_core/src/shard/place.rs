//! What a shard calls its connections, its subscriptions and its publications by.

/// A connection's place in its shard.
pub(crate) type ConnectionIndex = u32;
/// A distinct subscription's place in its shard.
pub(crate) type EntryIndex = u32;
/// A publication's number.
pub(crate) type Seq = u64;
