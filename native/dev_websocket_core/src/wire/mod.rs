//! The wire protocol as stateless code: frames, control messages, cursors and close codes.

pub(crate) mod close;
pub(crate) mod control;
pub(crate) mod cursor;
pub(crate) mod deflate;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod gzip;
pub(crate) mod inflate;
pub(crate) mod slots;
pub(crate) mod sse;
