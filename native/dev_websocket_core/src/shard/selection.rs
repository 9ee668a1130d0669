//! The subscriptions of one client, as places in the registry of its shard.

use super::ids::EntryIndex;
use crate::subscription::Kind;

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

    /// Those of a kind.
    pub(crate) fn of_kind(&mut self, kind: Kind) -> &mut Vec<EntryIndex> {
        match kind {
            Kind::Template => &mut self.templates,
            Kind::Topic | Kind::Match => &mut self.topics,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.topics.len() + self.templates.len()
    }

    /// All of it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryIndex> {
        self.topics.iter().chain(&self.templates).copied()
    }
}
