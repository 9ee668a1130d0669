//! The protocol as bytes and words: frames, control messages, cursors and close codes. Nothing here has state.

pub(crate) mod close;
pub(crate) mod control;
pub(crate) mod cursor;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod sse;
