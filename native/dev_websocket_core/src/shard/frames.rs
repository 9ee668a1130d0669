//! The frames of publications as sockets get them, in each format.

use arrayvec::ArrayVec;

use super::ids::Seq;
use crate::log::publication::Publication;
use crate::wire::format::{Form, Format};

/// Largest number of parts of a frame.
const MOST_PARTS: usize = 3;

/// Parts of a frame in the order in which they are written.
pub(crate) type Parts<'p> = ArrayVec<&'p [u8], MOST_PARTS>;

/// The publications for one connection, in order.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Frames<'f> {
    pub(crate) seqs: &'f [Seq],
    /// The frames of the first publications, if they lie side by side in memory.
    pub(crate) joined: &'f [u8],
    /// Number of publications in `joined`.
    pub(crate) joined_count: usize,
    /// Bytes that compression saves of them.
    pub(crate) joined_saved: usize,
}

impl<'f> Frames<'f> {
    /// Creates frames that are not joined: each lies in its publication.
    pub(crate) fn scattered(seqs: &'f [Seq]) -> Self {
        Self {
            seqs,
            ..Self::default()
        }
    }
}

/// Returns the parts of a frame, at most [`parts_per_frame`]. Frames of server-sent events must have been
/// prepared.
pub(crate) fn parts(publication: &Publication, form: impl Into<Form>) -> Parts<'_> {
    let form = form.into();
    let mut parts = Parts::new();
    if form.is_compressed
        && form.format != Format::Events
        && let Some(frame) = publication.compressed_frame(form.format)
    {
        parts.push(frame);
        return parts;
    }
    match form.format {
        Format::Json | Format::Edges => parts.push(publication.json_frame()),
        Format::Raw => {
            let (header, data) = publication.raw_frame();
            parts.push(header);
            parts.push(data);
        }
        Format::Events if form.is_compressed => parts.extend(publication.gzip_event()),
        Format::Events => parts.extend(publication.event()),
    }
    parts
}

/// Returns the bytes of a frame.
pub(crate) fn length(publication: &Publication, form: impl Into<Form>) -> usize {
    parts(publication, form).iter().map(|part| part.len()).sum()
}

/// Returns the bytes that compression saves of a frame.
pub(crate) fn saved(publication: &Publication, form: Form) -> usize {
    if !form.is_compressed {
        return 0;
    }
    length(publication, form.format).saturating_sub(length(publication, form))
}

/// Returns the largest number of parts of a frame in a format.
pub(crate) const fn parts_per_frame(format: Format) -> usize {
    match format {
        Format::Json | Format::Edges => 1,
        Format::Raw => 2,
        Format::Events => 3,
    }
}
