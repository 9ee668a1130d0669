//! The compressed forms of a publication, which all shards and connections share.
//!
//! The shard that needs a form first makes it. A form never changes afterwards, nor does its absence, because queued
//! frames are measured by it. The draft has reserved the memory ([`room`]), so the bounds of the log hold.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Publication;
use crate::log::eras::{Eras, Shown};
use crate::wire::deflate::{Deflater, TAIL};
use crate::wire::format::Format;
use crate::wire::{frame, gzip, sse};

/// Divisor for the part of a frame that compression must save; a form that saves less is not kept.
const LEAST_SAVED: usize = 10;

/// The memory for both ends of an event, besides the forms themselves.
const EVENT_ENDS: usize = 128;

/// The memory that a publication may take for compressed forms, in bytes. Frames of at least `min` bytes are
/// compressed, and 0 compresses none.
pub(crate) fn room(frame: usize, min: usize) -> usize {
    let shared = size_of::<Compressed>() + EVENT_ENDS;
    match min {
        0 => 0,
        min if frame < min => shared,
        _ => shared + forms_room(frame),
    }
}

/// The memory for the forms of a frame: the one of its JSON, and that of its data if both fit. A long event that does
/// not become smaller is copied to stand in several blocks.
fn forms_room(frame: usize) -> usize {
    let copy = if frame > gzip::MAX_STORED - sse::START.len() {
        frame + frame / 1000 + 64
    } else {
        0
    };
    copy + frame - frame / LEAST_SAVED + TAIL.len()
}

/// The compressed forms of a publication.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    /// The frame of the JSON format, followed by [`TAIL`]; none if compression does not pay.
    json: OnceLock<Option<Box<[u8]>>>,
    /// The frame of the raw format, likewise.
    raw: OnceLock<Option<Box<[u8]>>>,
    /// The bytes of both.
    taken: AtomicUsize,
    /// The beginning of the event in a gzip stream, if its JSON is not compressed.
    event_start: OnceLock<Box<[u8]>>,
    /// The end of the event in a gzip stream.
    event_end: OnceLock<Box<[u8]>>,
}

impl Compressed {
    fn form(&self, format: Format) -> &OnceLock<Option<Box<[u8]>>> {
        match format {
            Format::Raw => &self.raw,
            Format::Json | Format::Edges | Format::Events => &self.json,
        }
    }

    /// Counts the bytes of a form, if there is room for it.
    fn take(&self, bytes: usize, room: usize) -> bool {
        let add = |taken: usize| Some(taken + bytes).filter(|sum| *sum <= room);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }
}

/// The result of an attempt to compress a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It was made before, or the frame is too small.
    Nothing,
    /// The compressed form was made.
    Made,
    /// The frame would not become a tenth smaller.
    NotSmaller,
    /// The shard is behind.
    Skipped,
}

impl Publication {
    /// Frees the compressed forms of a publication whose memory is kept for another one.
    pub(crate) fn forget_compressed(&mut self) {
        self.compressed.take();
    }

    fn compressed_forms(&self) -> &Compressed {
        self.compressed.get_or_init(Box::default)
    }

    /// Makes the compressed form for a format if nobody has tried before. Without a compressor it is left out for good.
    pub(crate) fn compress(
        &self,
        format: Format,
        min: usize,
        deflater: Option<&mut Deflater>,
    ) -> Attempt {
        if !self.is_compressible {
            return Attempt::Nothing;
        }
        let forms = self.compressed_forms();
        let mut attempt = Attempt::Nothing;
        forms.form(format).get_or_init(|| {
            let payload = self.plain_payload(format);
            if payload.len() < min {
                return None;
            }
            let Some(deflater) = deflater else {
                attempt = Attempt::Skipped;
                return None;
            };
            let made = self.compressed_form(payload, deflater, forms);
            attempt = match made {
                Some(_) => Attempt::Made,
                None => Attempt::NotSmaller,
            };
            made
        });
        attempt
    }

    fn compressed_form(
        &self,
        payload: &[u8],
        deflater: &mut Deflater,
        forms: &Compressed,
    ) -> Option<Box<[u8]>> {
        let plain = frame::text_header(payload.len()).len() + payload.len();
        let limit = plain - plain / LEAST_SAVED;
        let deflated = deflater.deflate(payload, limit + TAIL.len())?;
        let header = frame::compressed_text_header(deflated.len() - TAIL.len());
        let bytes = header.len() + deflated.len();
        let room = forms_room(self.json_frame().len());
        let is_kept = bytes <= limit + TAIL.len() && forms.take(bytes, room);
        is_kept.then(|| [&header, deflated].concat().into())
    }

    fn plain_payload(&self, format: Format) -> &[u8] {
        match format {
            Format::Raw => self.raw_frame().1,
            Format::Json | Format::Edges | Format::Events => frame::payload(self.json_frame()),
        }
    }

    /// Returns the compressed frame of a format with [`TAIL`] behind it. If there is none yet, there never will be one.
    fn compressed_with_tail(&self, format: Format) -> Option<&[u8]> {
        let form = self
            .is_compressible
            .then(|| self.compressed_forms().form(format))?;
        form.get_or_init(|| None).as_deref()
    }

    /// Returns the compressed frame of a WebSocket format, if compression pays. If there is none yet, there never will
    /// be one.
    pub(crate) fn compressed_frame(&self, format: Format) -> Option<&[u8]> {
        let frame = self.compressed_with_tail(format)?;
        Some(&frame[..frame.len() - TAIL.len()])
    }

    /// Prepares the event's end for [`Self::gzip_event`].
    pub(crate) fn prepare_gzip_event(&self, eras: &Eras) {
        if self.compressed_forms().event_end.get().is_none() {
            self.prepare_gzip_event_at(&eras.at(self.seq));
        }
    }

    /// Prepares the event's end for [`Self::gzip_event`], with the cursor of the publication.
    pub(crate) fn prepare_gzip_event_at(&self, shown: &Shown) {
        self.compressed_forms().event_end.get_or_init(|| {
            let end = sse::end_at(&shown.epoch, shown.number, "");
            gzip::stored(end.as_bytes()).into()
        });
    }

    /// Returns the parts of the event in a gzip stream.
    pub(crate) fn gzip_event(&self) -> [&[u8]; 3] {
        let forms = self.compressed_forms();
        let end = forms.event_end.get().map_or(gzip::END, |end| end);
        if let Some(frame) = self.compressed_with_tail(Format::Events) {
            return [gzip::START, frame::payload(frame), end];
        }
        let json = frame::payload(self.json_frame());
        let start = forms
            .event_start
            .get_or_init(|| gzip::plain_start(json).into());
        let json = if gzip::is_split(json) { &[] } else { json };
        [start, json, end]
    }

    /// Returns the memory of the compressed forms, in bytes.
    #[cfg(test)]
    pub(crate) fn compressed_bytes(&self) -> usize {
        let Some(forms) = self.compressed.get() else {
            return 0;
        };
        let form = |form: &OnceLock<Option<Box<[u8]>>>| {
            form.get()
                .and_then(Option::as_ref)
                .map_or(0, |form| form.len())
        };
        let ends = [&forms.event_start, &forms.event_end];
        let ends = ends.map(|end| end.get().map_or(0, |end| end.len()));
        size_of::<Compressed>() + form(&forms.json) + form(&forms.raw) + ends[0] + ends[1]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::buffer_pool::BufferPool;
    use crate::log::publication::draft::Draft;
    use crate::message::Value;
    use crate::message::provenance::UNKNOWN;
    use crate::message::topic::Topics;
    use crate::wire::format::Form;

    #[test]
    fn a_publication_is_as_small_as_without_compression() {
        assert!(
            size_of::<Publication>() <= PUBLICATION,
            "{}",
            size_of::<Publication>()
        );
    }

    /// The size before there was compression.
    const PUBLICATION: usize = 240;

    fn draft(data: &str, min: usize) -> Draft {
        let pool = BufferPool::default();
        pool.compression.set(min);
        let data = Value::Text(data.into());
        Draft::encode(&pool, Topics::new(), &data, &UNKNOWN, 1 << 20, false).unwrap()
    }

    proptest! {
        /// Whatever is compressed, in any order, the publication takes no more memory than it has reserved, and every
        /// form has the content of the plain one.
        #[test]
        fn the_forms_fit_into_the_reserved_memory(
            text in prop_oneof!["[ -~]{0,600}", "(ab?c? ){0,400}", "[a-z]{60000,70000}", Just("x".repeat(100_000))],
            steps in prop::collection::vec((0_usize..4, any::<bool>()), 0..6),
        ) {
            let mut deflater = Deflater::new();
            let eras = Eras::new("epoch1");
            let plain = draft(&text, 0).number(7, 7);
            let publication = draft(&text, 200).number(7, 7);
            for (format, is_behind) in steps {
                let form = Form { format: Format::ALL[format], is_compressed: true };
                publication.compress(form.format, 200, (!is_behind).then_some(&mut deflater));
                let before: Vec<u8> = crate::shard::frames::parts(&publication, form).concat();
                publication.prepare_gzip_event(&eras);
                let after = publication.gzip_event().concat();
                let stream = [&gzip::HEAD[..], &after].concat();
                let is_event = crate::wire::gzip::tests::decoded(&stream).starts_with(b"data: {");
                prop_assert!(is_event);
                if form.format != Format::Events {
                    // The form stays the same, although another shard is not behind.
                    publication.compress(form.format, 200, Some(&mut deflater));
                    prop_assert_eq!(before, crate::shard::frames::parts(&publication, form).concat());
                }
            }
            let room = publication.footprint() - plain.footprint();
            prop_assert!(publication.compressed_bytes() <= room, "{} > {}", publication.compressed_bytes(), room);
        }
    }
}
