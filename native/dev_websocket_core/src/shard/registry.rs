//! Who is subscribed to what within one shard, and which publications of the batch concern which topic.
//!
//! Matching costs one look-up for each topic of each publication, and one visit for each subscriber of the topics found,
//! however many publications there are: the publications of a topic are listed once, at the topic.

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
/// A publication's number.
pub(crate) type Seq = u64;

/// The subscriptions to everything stand at this place from the start.
const EVERYTHING: TopicIndex = 0;

/// After a large batch a topic gives the memory of its list back.
const KEPT_SEQS: usize = 32;

/// The subscriptions of one shard.
#[derive(Debug)]
pub(crate) struct Registry {
    by_topic: HashMap<Topic, TopicIndex, PrecomputedHash>,
    entries: Slab<Entry>,
    /// Entries with publications of the batch.
    listed: Vec<TopicIndex>,
    /// Those that got one since the subscribers were last told.
    touched: Vec<TopicIndex>,
}

#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    subscribers: Vec<ConnectionIndex>,
    /// The publications of the batch that belong here, in order.
    seqs: Vec<Seq>,
    is_touched: bool,
}

impl Entry {
    fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            subscribers: Vec::new(),
            seqs: Vec::new(),
            is_touched: false,
        }
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        let mut entries = Slab::new();
        entries.insert(Entry::new(Subscription::Everything));
        Self {
            by_topic: HashMap::default(),
            entries,
            listed: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a subscriber; the caller knows that it is not one yet.
    pub(crate) fn subscribe(
        &mut self,
        subscription: Subscription,
        connection: ConnectionIndex,
        directory: &Directory,
    ) -> TopicIndex {
        let index = match (&subscription, self.find(&subscription)) {
            (_, Some(index)) => index,
            (Subscription::Everything, None) => EVERYTHING,
            (Subscription::Topic(topic), None) => {
                directory.subscribed(topic);
                let topic = topic.clone();
                let index = self.entries.insert(Entry::new(subscription)) as TopicIndex;
                self.by_topic.insert(topic, index);
                index
            }
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
        let subscribers = &mut self.entries[index as usize].subscribers;
        if let Some(place) = subscribers
            .iter()
            .position(|subscriber| *subscriber == connection)
        {
            subscribers.swap_remove(place);
        }
        if subscribers.is_empty()
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

    /// Lists a publication of the batch at its topics. To be called in order of publications.
    pub(crate) fn list(&mut self, publication: &Publication) {
        self.list_at(EVERYTHING, publication.seq());
        for topic in publication.topics() {
            if let Some(index) = self.by_topic.get(topic) {
                self.list_at(*index, publication.seq());
            }
        }
    }

    fn list_at(&mut self, index: TopicIndex, seq: Seq) {
        let entry = &mut self.entries[index as usize];
        if entry.subscribers.is_empty() {
            return;
        }
        if entry.seqs.is_empty() {
            self.listed.push(index);
        }
        if !entry.is_touched {
            entry.is_touched = true;
            self.touched.push(index);
        }
        entry.seqs.push(seq);
    }

    /// Tells each subscriber of each topic that got publications since the last call.
    pub(crate) fn tell_touched(&mut self, mut tell: impl FnMut(ConnectionIndex, TopicIndex)) {
        for index in self.touched.drain(..) {
            // The topic may have gone with its last subscriber.
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            entry.is_touched = false;
            for connection in &entry.subscribers {
                tell(*connection, index);
            }
        }
    }

    /// The publications of the batch after `seq` that belong there, in order.
    pub(crate) fn after(&self, index: TopicIndex, seq: Seq) -> &[Seq] {
        let seqs = self.entries[index as usize].seqs.as_slice();
        match seqs.first() {
            Some(first) if *first > seq => seqs,
            _ => &seqs[seqs.partition_point(|listed| *listed <= seq)..],
        }
    }

    /// Forgets the batch.
    pub(crate) fn end_batch(&mut self) {
        for index in self.listed.drain(..) {
            if let Some(entry) = self.entries.get_mut(index as usize) {
                entry.seqs.clear();
                entry.seqs.shrink_to(KEPT_SEQS);
            }
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

    fn told(registry: &mut Registry) -> Vec<(ConnectionIndex, TopicIndex)> {
        let mut told = Vec::new();
        registry.tell_touched(|connection, topic| told.push((connection, topic)));
        told.sort_unstable();
        told
    }

    #[test]
    fn publications_are_listed_once_at_each_topic_with_subscribers() {
        let directory = Directory::default();
        let mut registry = Registry::new();
        let a = registry.subscribe(topic("a"), 7, &directory);
        assert_eq!(registry.subscribe(topic("a"), 8, &directory), a);
        let everything = registry.subscribe(topic("*"), 9, &directory);
        for (seq, topics) in [(1, &["a", "b"][..]), (2, &["b"]), (3, &["a"]), (4, &[])] {
            registry.list(&publication(seq, topics, ""));
        }
        assert_eq!(told(&mut registry), [(7, a), (8, a), (9, everything)]);
        assert_eq!(told(&mut registry), []);
        assert_eq!(registry.after(a, 0), [1, 3]);
        assert_eq!(registry.after(a, 1), [3]);
        assert_eq!(registry.after(a, 3), [] as [Seq; 0]);
        assert_eq!(registry.after(everything, 0), [1, 2, 3, 4]);
        registry.list(&publication(5, &["a"], ""));
        assert_eq!(told(&mut registry).len(), 3);
        registry.end_batch();
        assert!(registry.after(a, 0).is_empty());
    }

    #[test]
    fn a_topic_goes_with_its_last_subscriber_even_within_a_batch() {
        let directory = Directory::default();
        let mut registry = Registry::new();
        let a = registry.subscribe(topic("a"), 1, &directory);
        registry.subscribe(topic("a"), 2, &directory);
        registry.list(&publication(1, &["a"], ""));
        assert_eq!(directory.names(9), ["a"]);
        registry.unsubscribe(a, 1, &directory);
        assert_eq!(registry.topics(), 1);
        registry.unsubscribe(a, 2, &directory);
        assert_eq!(registry.topics(), 0);
        assert_eq!(registry.find(&topic("a")), None);
        assert!(directory.names(9).is_empty());
        // Another topic takes the place, and has nothing of the batch.
        let b = registry.subscribe(topic("b"), 3, &directory);
        assert_eq!(b, a);
        registry.tell_touched(|_, _| {});
        assert!(registry.after(b, 0).is_empty());
        registry.end_batch();
    }
}
