//! The batch of publications that a shard is sending.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ids::Seq;
use crate::log::publication::Publication;

/// Limit on the publications of one batch; later ones stay in the log until the next batch.
const MAX_PUBLICATIONS: usize = 64 * 1024;
/// Limit on the bytes of one batch; later publications stay in the log until the next batch.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Number of publications for which an ended batch keeps its memory, so that the next one need not allocate.
const KEPT: usize = 1024;

/// A run of consecutive publications. It grows while the shard sends it, so that connections served late get everything
/// in one write.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    publications: VecDeque<Arc<Publication>>,
    first: Seq,
    bytes: usize,
    /// True if the batch contains reports of missing messages.
    has_notices: bool,
}

impl Batch {
    /// Returns true if the batch accepts no more publications.
    pub(crate) fn is_full(&self) -> bool {
        self.publications.len() >= MAX_PUBLICATIONS || self.bytes >= MAX_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Appends the next publication.
    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        if self.publications.is_empty() {
            self.first = publication.seq();
        }
        debug_assert_eq!(
            self.first + self.publications.len() as Seq,
            publication.seq()
        );
        self.bytes += publication.footprint();
        self.has_notices |= !publication.is_message();
        self.publications.push_back(publication);
    }

    /// Returns the publication with a sequence number, which must be in the batch.
    pub(crate) fn get(&self, seq: Seq) -> &Arc<Publication> {
        &self.publications[(seq - self.first) as usize]
    }

    /// Counts the messages among these publications, leaving out reports of missing messages.
    pub(crate) fn messages(&self, seqs: &[Seq]) -> u64 {
        if self.has_notices {
            let is_message = |seq: &&Seq| self.get(**seq).is_message();
            seqs.iter().filter(is_message).count() as u64
        } else {
            seqs.len() as u64
        }
    }

    /// Returns the memory of the publications, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of publications.
    pub(crate) fn len(&self) -> usize {
        self.publications.len()
    }

    /// Returns the time of each publication, in nanoseconds since 1970.
    pub(crate) fn cast_times(&self) -> impl Iterator<Item = u64> {
        self.publications
            .iter()
            .map(|publication| publication.cast_at())
    }

    /// Clears the batch.
    pub(crate) fn end(&mut self) {
        self.has_notices = false;
        self.publications.clear();
        self.publications.shrink_to(KEPT);
        self.bytes = 0;
    }
}
