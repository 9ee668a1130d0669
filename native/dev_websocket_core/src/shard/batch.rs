//! The publications that a shard is sending at present.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ids::Seq;
use crate::log::publication::Publication;

/// Publications of one batch at the most; what comes later waits in the log.
const MAX_PUBLICATIONS: usize = 64 * 1024;
/// Bytes of one batch, likewise.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Memory that an ended batch keeps for the next, in publications.
const KEPT: usize = 1024;

/// A run of publications without holes. It grows while it is sent, so that connections which have their turn late get
/// all there is in one write.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    publications: VecDeque<Arc<Publication>>,
    first: Seq,
    bytes: usize,
    /// Some of it tells of missing messages.
    has_notices: bool,
}

impl Batch {
    /// Whether it takes no more.
    pub(crate) fn is_full(&self) -> bool {
        self.publications.len() >= MAX_PUBLICATIONS || self.bytes >= MAX_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Adds the next publication.
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

    /// The publication of that number, which must be in the batch.
    pub(crate) fn get(&self, seq: Seq) -> &Arc<Publication> {
        &self.publications[(seq - self.first) as usize]
    }

    /// How many of these are messages, and not what tells of missing ones.
    pub(crate) fn messages(&self, seqs: &[Seq]) -> u64 {
        if self.has_notices {
            let is_message = |seq: &&Seq| self.get(**seq).is_message();
            seqs.iter().filter(is_message).count() as u64
        } else {
            seqs.len() as u64
        }
    }

    /// How many publications there are.
    pub(crate) fn len(&self) -> usize {
        self.publications.len()
    }

    /// When each was cast, in nanoseconds since 1970.
    pub(crate) fn cast_times(&self) -> impl Iterator<Item = u64> {
        self.publications
            .iter()
            .map(|publication| publication.cast_at())
    }

    /// Forgets everything.
    pub(crate) fn end(&mut self) {
        self.has_notices = false;
        self.publications.clear();
        self.publications.shrink_to(KEPT);
        self.bytes = 0;
    }
}
