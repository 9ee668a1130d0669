//! The known topics for `info`: those with subscribers and those of recent publications.
//!
//! Shards update the registry when a topic gains its first or loses its last subscriber. A publication therefore costs
//! only a look-up in one shard's own table of recent topics.
//!
//! The topics lie side by side, those with subscribers first. A reader takes the first ones in parts, and holds the
//! lock for one part at a time, however many topics there are.

use std::num::NonZeroUsize;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use lru::LruCache;
use parking_lot::Mutex;

use crate::message::topic::{PrecomputedHash, Topic};
use crate::shard::interest::{Interest, InterestSignal, Interests};

/// Number of topics read under one hold of the lock.
const PART: usize = 256;

/// The known topics, and the processes that they name. A server has one registry.
#[derive(Debug, Default)]
pub(crate) struct TopicRegistry {
    topics: Mutex<Topics>,
    signal: Arc<InterestSignal>,
    /// Grows with each change of the listed topics.
    generation: AtomicU64,
    /// Topics that readers have visited.
    #[cfg(test)]
    pub(crate) visited: AtomicUsize,
}

#[derive(Debug, Default)]
struct Topics {
    known: IndexMap<Topic, Known, PrecomputedHash>,
    /// Number of topics with subscribers; these stand at the beginning.
    subscribed: usize,
    interests: Interests,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// Number of shards in which the topic has subscribers.
    subscribed: u32,
    published: bool,
}

impl TopicRegistry {
    /// Creates an empty registry that signals changes of the interest.
    pub(crate) fn new(signal: Arc<InterestSignal>) -> Self {
        Self {
            signal,
            ..Self::default()
        }
    }

    /// Records that a shard has its first subscriber of the topic.
    pub(crate) fn subscribed(&self, topic: &Topic) {
        self.change_interest(|topics| {
            let entry = topics.known.entry(topic.clone());
            let place = entry.index();
            let known = entry.or_default();
            known.subscribed += 1;
            if known.subscribed > 1 {
                return false;
            }
            topics.known.swap_indices(place, topics.subscribed);
            topics.subscribed += 1;
            self.changed();
            topics.interests.add_topic(topic.name())
        });
    }

    /// Records that a shard has lost its last subscriber of the topic.
    pub(crate) fn unsubscribed(&self, topic: &Topic) {
        self.change_interest(|topics| {
            let Some((place, _, known)) = topics.known.get_full_mut(topic) else {
                return false;
            };
            if known.subscribed == 0 {
                return false;
            }
            known.subscribed -= 1;
            if known.subscribed > 0 {
                return false;
            }
            let is_published = known.published;
            topics.subscribed -= 1;
            let last = topics.subscribed;
            topics.known.swap_indices(place, last);
            if !is_published {
                topics.known.swap_remove_index(last);
            }
            self.changed();
            topics.interests.remove_topic(topic.name())
        });
    }

    /// Records that a shard has its first subscriber of a subscription that is no topic.
    pub(crate) fn subscribed_other(&self) {
        self.change_interest(|topics| topics.interests.add_other());
    }

    /// Records that a shard has lost its last subscriber of a subscription that is no topic.
    pub(crate) fn unsubscribed_other(&self) {
        self.change_interest(|topics| topics.interests.remove_other());
    }

    /// Changes the interest and signals the change after releasing the lock.
    fn change_interest(&self, change: impl FnOnce(&mut Topics) -> bool) {
        let has_changed = change(&mut self.topics.lock());
        if has_changed {
            self.signal.changed();
        }
    }

    /// Returns the processes with subscribers, with at most `max` ids.
    pub(crate) fn interest(&self, max: usize) -> Interest {
        self.topics.lock().interests.read(max)
    }

    /// Returns whether a topic has subscribers.
    pub(crate) fn has_subscribers(&self, topic: &Topic) -> bool {
        let topics = self.topics.lock();
        let known = topics.known.get(topic);
        known.is_some_and(|known| known.subscribed > 0)
    }

    fn published(&self, topic: &Topic) {
        let mut topics = self.topics.lock();
        let known = topics.known.entry(topic.clone()).or_default();
        known.published = true;
        if known.subscribed == 0 {
            self.changed();
        }
    }

    fn forget(&self, topic: &Topic) {
        let mut topics = self.topics.lock();
        let Some((place, _, known)) = topics.known.get_full_mut(topic) else {
            return;
        };
        known.published = false;
        if known.subscribed == 0 {
            topics.known.swap_remove_index(place);
            self.changed();
        }
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns the generation, which differs after every change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns at most `limit` names, sorted; topics with subscribers have precedence. A topic that gains its first or
    /// loses its last subscriber during the call may be listed or not. The same holds for the topic with which it
    /// changes places.
    pub(crate) fn names(&self, limit: usize) -> Vec<String> {
        let mut end = self.len().min(limit);
        let mut names = Vec::with_capacity(end);
        // The reader goes backwards, because the last topic takes the place of a removed one.
        while end > 0 {
            let part: Vec<Topic> = {
                let topics = self.topics.lock();
                end = end.min(topics.known.len());
                let start = end.saturating_sub(PART);
                let part = topics.known.get_range(start..end);
                end = start;
                part.into_iter()
                    .flat_map(|part| part.keys().cloned())
                    .collect()
            };
            #[cfg(test)]
            self.visited.fetch_add(part.len(), Ordering::Relaxed);
            names.extend(part.iter().map(|topic| topic.name().to_owned()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the number of known topics.
    pub(crate) fn len(&self) -> usize {
        self.topics.lock().known.len()
    }
}

/// The topics of recent publications, of which the newest are kept. One shard owns the table.
#[derive(Debug)]
pub(crate) struct RecentTopics {
    topics: LruCache<Topic, (), PrecomputedHash>,
}

impl RecentTopics {
    pub(crate) fn new(limit: usize) -> Self {
        // A limit from the start would allocate memory for all topics at once.
        let mut topics = LruCache::unbounded_with_hasher(PrecomputedHash::default());
        topics.resize(at_least_one(limit));
        Self { topics }
    }

    /// Records a topic of a publication.
    pub(crate) fn published(&mut self, topic: &Topic, topics: &TopicRegistry) {
        if self.topics.get(topic).is_some() {
            return;
        }
        topics.published(topic);
        if let Some((forgotten, ())) = self.topics.push(topic.clone(), ()) {
            topics.forget(&forgotten);
        }
    }

    /// Applies a new limit.
    pub(crate) fn resize(&mut self, limit: usize, topics: &TopicRegistry) {
        while self.topics.len() > limit {
            let Some((forgotten, ())) = self.topics.pop_lru() else {
                break;
            };
            topics.forget(&forgotten);
        }
        self.topics.resize(at_least_one(limit));
    }
}

fn at_least_one(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn the_topic_published_to_the_longest_ago_is_forgotten() {
        let registry = TopicRegistry::default();
        let mut recent = RecentTopics::new(2);
        for name in ["a", "b", "a", "c"] {
            recent.published(&topic(name), &registry);
        }
        assert_eq!(registry.names(10), ["a", "c"]);
        recent.resize(1, &registry);
        assert_eq!(registry.names(10), ["c"]);
    }

    #[test]
    fn a_topic_with_subscribers_is_never_forgotten() {
        let registry = TopicRegistry::default();
        let mut recent = RecentTopics::new(1);
        registry.subscribed(&topic("z"));
        registry.subscribed(&topic("z"));
        for name in ["z", "a", "b"] {
            recent.published(&topic(name), &registry);
        }
        assert_eq!(registry.names(10), ["b", "z"]);
        assert_eq!(registry.names(1), ["z"]);
        registry.unsubscribed(&topic("z"));
        assert_eq!(registry.len(), 2);
        registry.unsubscribed(&topic("z"));
        assert_eq!(registry.names(10), ["b"]);
    }

    #[test]
    fn readers_visit_no_more_topics_than_they_list() {
        let registry = TopicRegistry::default();
        let mut recent = RecentTopics::new(5 * PART);
        for number in 0..5 * PART {
            recent.published(&topic(&format!("p{number}")), &registry);
        }
        for number in 0..3 {
            registry.subscribed(&topic(&format!("s{number}")));
        }
        for limit in [1, 3, PART - 1, PART, PART + 1, 5 * PART, 100 * PART] {
            registry.visited.store(0, Ordering::Relaxed);
            let names = registry.names(limit);
            let expected = limit.min(5 * PART + 3);
            assert_eq!(names.len(), expected);
            assert_eq!(registry.visited.load(Ordering::Relaxed), expected);
            assert!(names.is_sorted());
            let subscribed = names.iter().filter(|name| name.starts_with('s'));
            assert_eq!(subscribed.count(), limit.min(3), "{limit}");
        }
    }

    #[test]
    fn the_generation_tells_of_what_is_listed_only() {
        let registry = TopicRegistry::default();
        let mut recent = RecentTopics::new(1);
        let mut last = registry.generation();
        let mut has_changed = || std::mem::replace(&mut last, registry.generation()) != last;
        assert!(!has_changed());
        registry.subscribed(&topic("a"));
        assert!(has_changed());
        // A second shard or a publication does not change the generation.
        registry.subscribed(&topic("a"));
        recent.published(&topic("a"), &registry);
        recent.published(&topic("a"), &registry);
        registry.unsubscribed(&topic("a"));
        registry.unsubscribed(&topic("unknown"));
        assert!(!has_changed());
        registry.unsubscribed(&topic("a"));
        assert!(has_changed());
        recent.published(&topic("b"), &registry);
        assert!(has_changed());
        assert_eq!(registry.names(9), ["b"]);
    }

    proptest! {
        #[test]
        fn any_changes_leave_the_topics_that_a_plain_model_has(
            changes in proptest::collection::vec((0..4_u8, 0..6_u8), 0..200),
            limit in 0..8_usize,
        ) {
            let registry = TopicRegistry::default();
            let mut counts = [(0_u32, false); 6];
            for (change, number) in changes {
                let (name, count) = (topic(&format!("t{number}")), &mut counts[usize::from(number)]);
                match change {
                    0 => {
                        registry.subscribed(&name);
                        count.0 += 1;
                    }
                    1 => {
                        registry.unsubscribed(&name);
                        count.0 = count.0.saturating_sub(1);
                    }
                    2 => {
                        registry.published(&name);
                        count.1 = true;
                    }
                    _ => {
                        registry.forget(&name);
                        count.1 = false;
                    }
                }
            }
            let all = (0..6).filter(|number| counts[*number] != (0, false));
            let all: Vec<_> = all.map(|number| (format!("t{number}"), counts[number].0 > 0)).collect();
            let names = registry.names(limit);
            prop_assert_eq!(registry.names(10), all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
            prop_assert_eq!(names.len(), limit.min(all.len()));
            let of_subscribers = all.iter().filter(|(name, is_subscribed)| *is_subscribed && names.contains(name)).count();
            let subscribed = all.iter().filter(|(_, is_subscribed)| *is_subscribed).count();
            prop_assert_eq!(of_subscribers, subscribed.min(limit));
        }
    }
}
