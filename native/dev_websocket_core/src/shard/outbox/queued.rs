//! A publication in the send buffer of one connection.

use std::ops::Deref;
use std::sync::Arc;

use crate::log::publication::Publication;
use crate::shard::frames::{Parts, parts};
use crate::wire::format::{Form, Format};

/// A queued publication, with the end of its server-sent event where that is the connection's own.
#[derive(Debug)]
pub(super) struct Queued {
    publication: Arc<Publication>,
    end: Option<Box<[u8]>>,
}

impl Queued {
    pub(super) fn new(publication: Arc<Publication>, end: Option<Box<[u8]>>) -> Self {
        Self { publication, end }
    }

    /// Returns the parts of the frame.
    pub(super) fn parts(&self, form: Form) -> Parts<'_> {
        let mut parts = parts(&self.publication, form);
        if let (Format::Events, Some(end), Some(last)) = (form.format, &self.end, parts.last_mut())
        {
            *last = end;
        }
        parts
    }

    /// Returns the bytes of the frame.
    pub(super) fn length(&self, form: Form) -> usize {
        self.parts(form).iter().map(|part| part.len()).sum()
    }
}

impl Deref for Queued {
    type Target = Publication;

    fn deref(&self) -> &Publication {
        &self.publication
    }
}
