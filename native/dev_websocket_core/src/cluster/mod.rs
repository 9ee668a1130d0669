//! Several nodes, one stream: what travels between them, and what waits to be sent.
//!
//! An engine beyond the core keeps the stream. See `shared/stream` for its side.

pub(crate) mod outgoing;
pub(crate) mod record;
pub(crate) mod state;
