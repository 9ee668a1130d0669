//! What a connection that gets past publications has to remember; `replaying` is what happens with it.

use std::collections::{HashSet, VecDeque};

use super::command::Command;
use super::place::{EntryIndex, Seq};
use crate::cursor::{From, Since};
use crate::protocol::RequestId;

/// So few entries are looked through.
const FEW: usize = 16;

/// The state of one connection's replay.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The next publication to look at.
    pub(super) next: Seq,
    /// How many matching ones are still to be found going back from `next`, before it goes forward.
    pub(super) looking_back: Option<usize>,
    /// Up to here nothing was asked for by number, so what is forgotten of it before the first block goes out is not
    /// missing. 0 from then on.
    pub(super) unnumbered_until: Seq,
    /// What the connection has had already: everything of `had` up to this number.
    pub(super) had_until: Seq,
    pub(super) had: Selection,
    /// The request that asked for it, for its `live` frame.
    pub(super) id: RequestId,
    /// Requests that change what the connection is subscribed to wait until it is live.
    pub(super) deferred: VecDeque<Command>,
}

/// A connection's subscriptions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Topics, patterns and everything.
    pub(crate) topics: Vec<EntryIndex>,
    pub(crate) templates: Vec<EntryIndex>,
}

impl Selection {
    /// Whether topics alone decide.
    pub(crate) fn is_plain(&self) -> bool {
        self.templates.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.topics.len() + self.templates.len()
    }

    /// All of it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryIndex> {
        self.topics.iter().chain(&self.templates).copied()
    }

    /// Whether it chooses a publication that concerns these entries.
    pub(crate) fn chooses(&self, entries: &[EntryIndex]) -> bool {
        // Both may be many.
        let found: HashSet<EntryIndex> = match entries.len() {
            0..=FEW => HashSet::new(),
            _ => entries.iter().copied().collect(),
        };
        let is_found = |entry: &EntryIndex| match entries.len() {
            0..=FEW => entries.contains(entry),
            _ => found.contains(entry),
        };
        let any = |held: &[EntryIndex]| held.iter().any(is_found);
        match (self.topics.as_slice(), self.templates.as_slice()) {
            ([], []) => false,
            (topics, []) => any(topics),
            ([], templates) => any(templates),
            (topics, templates) => any(topics) && any(templates),
        }
    }
}

impl Replay {
    /// One that begins there; `present` is the last publication that the shard has taken.
    pub(super) fn new(from: From, present: Seq) -> Self {
        let (next, looking_back) = match from {
            From::Since(Since { seq, .. }) => (seq.saturating_add(1), None),
            From::Last(count) => (present + 1, Some(count)),
        };
        Self {
            next,
            looking_back,
            unnumbered_until: if looking_back.is_some() { present } else { 0 },
            had_until: 0,
            had: Selection::default(),
            id: None,
            deferred: VecDeque::new(),
        }
    }

    /// One for a live connection, which has had everything of `had` up to `present`.
    pub(super) fn of_subscribe(seq: Seq, present: Seq, had: Selection, id: RequestId) -> Self {
        Self {
            had_until: present,
            had,
            id,
            ..Self::new(From::Since(Since { epoch: None, seq }), present)
        }
    }

    /// The number that a client may take for its cursor: it has had everything up to there. 0 while it is not known
    /// where the newest begin.
    pub(super) fn position(&self) -> Seq {
        if self.unnumbered_until > 0 {
            0
        } else {
            self.next.saturating_sub(1)
        }
    }
}
