//! Who is subscribed to what within one shard, and which publications of a batch concern whom.
//!
//! Matching a batch costs one look-up for each topic of each publication and one visit for each subscriber, however
//! many publications the batch has: the publications of a topic are listed once, at the topic.

use std::collections::HashMap;

use slab::Slab;

use crate::directory::Directory;
use crate::publication::Publication;
use crate::subscription::Subscription;
use crate::topic::{PrecomputedHash, Topic};

/// A connection's place in its shard.
pub(crate) type ConnectionIndex = u32;
/// A subscribed topic's place in its shard.
pub(crate) type TopicIndex = u32;
/// A publication's place in the batch.
pub(crate) type Position = u32;

/// The subscriptions to everything stand at this place from the start.
const EVERYTHING: TopicIndex = 0;

/// After a large batch a topic gives the memory of its list back.
const KEPT_POSITIONS: usize = 64;

/// The subscriptions of one shard.
#[derive(Debug)]
pub(crate) struct Registry {
    by_topic: HashMap<Topic, TopicIndex, PrecomputedHash>,
    entries: Slab<Entry>,
    /// Entries that the present batch concerns.
    active: Vec<TopicIndex>,
}

#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    subscribers: Vec<ConnectionIndex>,
    /// The publications of the batch that belong here, in order.
    positions: Vec<Position>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let mut entries = Slab::new();
        entries.insert(Entry {
            subscription: Subscription::Everything,
            subscribers: Vec::new(),
            positions: Vec::new(),
        });
        Self {
            by_topic: HashMap::default(),
            entries,
            active: Vec::new(),
        }
    }

    /// Adds a subscriber; the caller knows that it is not one yet.
    pub(crate) fn subscribe(
        &mut self,
        subscription: Subscription,
        connection: ConnectionIndex,
        directory: &Directory,
    ) -> TopicIndex {
        let index = match &subscription {
            Subscription::Everything => EVERYTHING,
            Subscription::Topic(topic) => match self.by_topic.get(topic) {
                Some(index) => *index,
                None => {
                    directory.subscribed(topic);
                    let topic = topic.clone();
                    let index = self.entries.insert(Entry {
                        subscription,
                        subscribers: Vec::new(),
                        positions: Vec::new(),
                    }) as TopicIndex;
                    self.by_topic.insert(topic, index);
                    index
                }
            },
        };
        self.entries[index as usize].subscribers.push(connection);
        index
    }

    /// Removes a subscriber.
    pub(crate) fn unsubscribe(
        &mut self,
        index: TopicIndex,
        connection: ConnectionIndex,
        directory: &Directory,
    ) {
        let entry = &mut self.entries[index as usize];
        if let Some(place) = entry
            .subscribers
            .iter()
            .position(|subscriber| *subscriber == connection)
        {
            entry.subscribers.swap_remove(place);
        }
        if entry.subscribers.is_empty()
            && index != EVERYTHING
            && let Subscription::Topic(topic) = self.entries.remove(index as usize).subscription
        {
            self.by_topic.remove(&topic);
            directory.unsubscribed(&topic);
        }
    }

    /// Where the subscription stands, if anybody has it.
    pub(crate) fn find(&self, subscription: &Subscription) -> Option<TopicIndex> {
        match subscription {
            Subscription::Everything => Some(EVERYTHING),
            Subscription::Topic(topic) => self.by_topic.get(topic).copied(),
        }
    }

    /// The name of a subscription.
    pub(crate) fn name(&self, index: TopicIndex) -> &str {
        self.entries[index as usize].subscription.name()
    }

    /// Lists a publication of the batch at the topics it has. To be called in order of positions.
    pub(crate) fn list(&mut self, position: Position, publication: &Publication) {
        self.list_at(EVERYTHING, position);
        for topic in publication.topics() {
            if let Some(index) = self.by_topic.get(topic) {
                self.list_at(*index, position);
            }
        }
    }

    fn list_at(&mut self, index: TopicIndex, position: Position) {
        let entry = &mut self.entries[index as usize];
        if entry.subscribers.is_empty() {
            return;
        }
        if entry.positions.is_empty() {
            self.active.push(index);
        }
        entry.positions.push(position);
    }

    /// The topics that the batch concerns.
    pub(crate) fn active(&self) -> &[TopicIndex] {
        &self.active
    }

    /// Who is subscribed there.
    pub(crate) fn subscribers(&self, index: TopicIndex) -> &[ConnectionIndex] {
        &self.entries[index as usize].subscribers
    }

    /// The publications of the batch that belong there, in order.
    pub(crate) fn positions(&self, index: TopicIndex) -> &[Position] {
        &self.entries[index as usize].positions
    }

    /// Forgets the batch.
    pub(crate) fn end_batch(&mut self) {
        for index in self.active.drain(..) {
            let positions = &mut self.entries[index as usize].positions;
            positions.clear();
            positions.shrink_to(KEPT_POSITIONS);
        }
    }

    /// How many different topics have subscribers here.
    #[cfg(test)]
    pub(crate) fn topics(&self) -> usize {
        self.by_topic.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::tests::publication;

    fn topic(name: &str) -> Subscription {
        Subscription::parse(name).unwrap()
    }

    #[test]
    fn a_batch_is_listed_once_per_topic_with_subscribers() {
        let directory = Directory::default();
        let mut registry = Registry::new();
        let a = registry.subscribe(topic("a"), 7, &directory);
        assert_eq!(registry.subscribe(topic("a"), 8, &directory), a);
        let everything = registry.subscribe(topic("*"), 9, &directory);
        for (position, topics) in [&["a", "b"][..], &["b"], &["a"], &[]]
            .into_iter()
            .enumerate()
        {
            registry.list(
                position as Position,
                &publication(position as u64 + 1, topics, ""),
            );
        }
        let mut active = registry.active().to_vec();
        active.sort_unstable();
        assert_eq!(active, [everything, a]);
        assert_eq!(registry.positions(a), [0, 2]);
        assert_eq!(registry.positions(everything), [0, 1, 2, 3]);
        assert_eq!(registry.subscribers(a), [7, 8]);
        registry.end_batch();
        assert!(registry.active().is_empty());
        assert!(registry.positions(a).is_empty());
    }

    #[test]
    fn a_topic_goes_with_its_last_subscriber() {
        let directory = Directory::default();
        let mut registry = Registry::new();
        let a = registry.subscribe(topic("a"), 1, &directory);
        registry.subscribe(topic("a"), 2, &directory);
        assert_eq!(directory.names(9), ["a"]);
        registry.unsubscribe(a, 1, &directory);
        assert_eq!(registry.topics(), 1);
        registry.unsubscribe(a, 2, &directory);
        assert_eq!(registry.topics(), 0);
        assert_eq!(registry.find(&topic("a")), None);
        assert!(directory.names(9).is_empty());
    }
}
