//! The publication log: buffers of publications, the log that numbers and keeps them, the numbers that clients see, and
//! the marks of published slots.

pub(crate) mod buffer_pool;
pub(crate) mod eras;
pub(crate) mod publication;
pub(crate) mod publication_log;
pub(crate) mod slot_marks;
