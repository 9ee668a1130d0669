//! The subscriptions of one client, as indices in the registry of its shard.

use super::ids::EntryIndex;
use crate::subscription::Kind;

/// The subscriptions of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Topics, patterns and the subscription to everything.
    pub(crate) topics: Vec<EntryIndex>,
    pub(crate) templates: Vec<EntryIndex>,
}

impl Selection {
    /// Returns true if only topics decide, without templates.
    pub(crate) fn is_plain(&self) -> bool {
        self.templates.is_empty()
    }

    /// Returns the list for a kind of subscription.
    pub(crate) fn of_kind(&mut self, kind: Kind) -> &mut Vec<EntryIndex> {
        match kind {
            Kind::Template => &mut self.templates,
            Kind::Topic | Kind::Match => &mut self.topics,
        }
    }

    /// Returns the number of subscriptions.
    pub(crate) fn len(&self) -> usize {
        self.topics.len() + self.templates.len()
    }

    /// Iterates over all subscriptions.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryIndex> {
        self.topics.iter().chain(&self.templates).copied()
    }
}
