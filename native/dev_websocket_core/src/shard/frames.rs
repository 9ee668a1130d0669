//! The frames of publications as they go to sockets, in one format or another.

use arrayvec::ArrayVec;

use super::ids::Seq;
use crate::log::publication::Publication;
use crate::wire::format::Format;

/// The most that a frame is made of.
const MOST_PARTS: usize = 3;

/// What stands one after the other on the socket.
pub(crate) type Parts<'p> = ArrayVec<&'p [u8], MOST_PARTS>;

/// The publications that a connection is to be sent, in order.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Frames<'f> {
    pub(crate) seqs: &'f [Seq],
    /// The frames of the first of them, where these lie side by side.
    pub(crate) joined: &'f [u8],
    /// How many that are.
    pub(crate) joined_count: usize,
}

impl<'f> Frames<'f> {
    /// Each frame lies where its publication does.
    pub(crate) fn scattered(seqs: &'f [Seq]) -> Self {
        Self {
            seqs,
            ..Self::default()
        }
    }
}

/// The parts of a frame, as many as [`parts_per_frame`] says. For events they must have been prepared.
pub(crate) fn parts(publication: &Publication, format: Format) -> Parts<'_> {
    let mut parts = Parts::new();
    match format {
        Format::Json => parts.push(publication.json_frame()),
        Format::Raw => {
            let (header, data) = publication.raw_frame();
            parts.push(header);
            parts.push(data);
        }
        Format::Events => parts.extend(publication.event()),
    }
    parts
}

/// Bytes of a frame.
pub(crate) fn length(publication: &Publication, format: Format) -> usize {
    parts(publication, format)
        .iter()
        .map(|part| part.len())
        .sum()
}

/// Of how many parts every frame is.
pub(crate) const fn parts_per_frame(format: Format) -> usize {
    match format {
        Format::Json => 1,
        Format::Raw => 2,
        Format::Events => 3,
    }
}
