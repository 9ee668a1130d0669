//! Compression of publications by the shard that needs it first.

use crate::log::publication::Publication;
use crate::log::publication::compressed::Attempt;
use crate::telemetry::counters::Counters;
use crate::wire::deflate::Deflater;
use crate::wire::format::Format;

/// The memory of publications that may be compressed between two rounds of sending, in bytes. That takes some
/// milliseconds, which is how long compression may hold up the others.
const AT_ONCE: usize = 256 * 1024;

/// The compressed forms that some clients of a subscription get.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedForms {
    json: bool,
    raw: bool,
}

impl WantedForms {
    /// Adds the form for a format.
    pub(crate) fn add(&mut self, format: Format) {
        match format {
            Format::Raw => self.raw = true,
            Format::Json | Format::Edges | Format::Events => self.json = true,
        }
    }

    /// Returns true if no client gets a compressed form.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn formats(self) -> impl Iterator<Item = Format> {
        let json = self.json.then_some(Format::Json);
        json.into_iter().chain(self.raw.then_some(Format::Raw))
    }
}

/// The compressor of a shard. It takes no memory until a client needs it.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    deflater: Option<Deflater>,
    /// The smallest frame that is compressed, in bytes.
    pub(crate) min: usize,
    /// True if the shard has more to send than a batch. It then sends plain frames, because compression takes time.
    pub(crate) is_behind: bool,
}

impl Compressor {
    /// Returns the memory of the publications that a shard may take at once, in bytes. The last one may exceed it.
    pub(crate) fn most_at_once(&self) -> usize {
        if self.min == 0 { usize::MAX } else { AT_ONCE }
    }

    /// Makes the forms of a publication that no shard has made yet.
    pub(crate) fn compress(
        &mut self,
        publication: &Publication,
        wanted: WantedForms,
        counters: &Counters,
    ) {
        for format in wanted.formats() {
            let deflater =
                (!self.is_behind).then(|| self.deflater.get_or_insert_with(Deflater::new));
            match publication.compress(format, self.min, deflater) {
                Attempt::Nothing => {}
                Attempt::Made => counters.compressed.add(1),
                Attempt::NotSmaller => counters.compression_not_smaller.add(1),
                Attempt::Skipped => counters.compression_skipped.add(1),
            }
        }
    }
}
