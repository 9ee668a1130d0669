//! Publications, in order: the buffers they are made in, the log that numbers and keeps them, the slots already published.

pub(crate) mod buffer_pool;
pub(crate) mod publication;
pub(crate) mod publication_log;
pub(crate) mod slot_marks;
