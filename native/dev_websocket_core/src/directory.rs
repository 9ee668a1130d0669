//! Which topics exist, for `info`: those with subscribers, and those published to lately.
//!
//! The shards keep it up to date when a topic gains its first or loses its last subscriber, so it costs a publication
//! nothing but a look at one shard's own table of recent topics.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::interest::{Interest, InterestSignal, Interests};
use crate::topic::{PrecomputedHash, Topic};

/// The topics that are known, and which processes they name. One per server.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    topics: Mutex<Topics>,
    signal: Arc<InterestSignal>,
}

#[derive(Debug, Default)]
struct Topics {
    known: HashMap<Topic, Known, PrecomputedHash>,
    interests: Interests,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// Shards in which the topic has subscribers.
    subscribed: u32,
    published: bool,
}

impl Directory {
    /// An empty one that signals changes of the interest.
    pub(crate) fn new(signal: Arc<InterestSignal>) -> Self {
        Self {
            topics: Mutex::default(),
            signal,
        }
    }

    /// A shard has its first subscriber of the topic.
    pub(crate) fn subscribed(&self, topic: &Topic) {
        self.change_interest(|Topics { known, interests }| {
            let known = known.entry(topic.clone()).or_default();
            known.subscribed += 1;
            known.subscribed == 1 && interests.add_topic(topic.name())
        });
    }

    /// A shard has lost its last subscriber of the topic.
    pub(crate) fn unsubscribed(&self, topic: &Topic) {
        self.change_interest(|topics| {
            topics.update(topic, |known| {
                known.subscribed = known.subscribed.saturating_sub(1)
            }) == Some(0)
                && topics.interests.remove_topic(topic.name())
        });
    }

    /// A shard has its first subscriber of something that is no topic.
    pub(crate) fn subscribed_other(&self) {
        self.change_interest(|topics| topics.interests.add_other());
    }

    /// A shard has lost its last subscriber of something that is no topic.
    pub(crate) fn unsubscribed_other(&self) {
        self.change_interest(|topics| topics.interests.remove_other());
    }

    /// Signals a change once the lock is given back.
    fn change_interest(&self, change: impl FnOnce(&mut Topics) -> bool) {
        let has_changed = change(&mut self.topics.lock());
        if has_changed {
            self.signal.changed();
        }
    }

    /// The topic was published to the longest ago.
    fn forget(&self, topic: &Topic) {
        self.topics
            .lock()
            .update(topic, |known| known.published = false);
    }

    /// Which processes have subscribers, with at most so many ids.
    pub(crate) fn interest(&self, max: usize) -> Interest {
        self.topics.lock().interests.read(max)
    }

    /// The names, sorted, at most `limit`; those with subscribers have precedence.
    pub(crate) fn names(&self, limit: usize) -> Vec<String> {
        let topics = self.topics.lock();
        let mut names: Vec<_> = topics
            .known
            .iter()
            .map(|(topic, known)| (known.subscribed == 0, topic.name().to_owned()))
            .collect();
        drop(topics);
        names.sort_unstable();
        names.truncate(limit);
        let mut names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names
    }

    /// How many topics are known.
    pub(crate) fn len(&self) -> usize {
        self.topics.lock().known.len()
    }
}

impl Topics {
    /// Changes what is known of a topic, and gives in how many shards it has subscribers then.
    fn update(&mut self, topic: &Topic, change: impl FnOnce(&mut Known)) -> Option<u32> {
        let known = self.known.get_mut(topic)?;
        change(known);
        let subscribed = known.subscribed;
        if subscribed == 0 && !known.published {
            self.known.remove(topic);
        }
        Some(subscribed)
    }
}

/// The topics published to lately, the newest kept. Owned by one shard.
#[derive(Debug)]
pub(crate) struct RecentTopics {
    topics: LruCache<Topic, (), PrecomputedHash>,
}

impl RecentTopics {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            topics: LruCache::with_hasher(at_least_one(limit), PrecomputedHash::default()),
        }
    }

    /// A publication has the topic.
    pub(crate) fn published(&mut self, topic: &Topic, directory: &Directory) {
        if self.topics.get(topic).is_some() {
            return;
        }
        directory
            .topics
            .lock()
            .known
            .entry(topic.clone())
            .or_default()
            .published = true;
        if let Some((forgotten, ())) = self.topics.push(topic.clone(), ()) {
            directory.forget(&forgotten);
        }
    }

    /// Takes a new limit.
    pub(crate) fn resize(&mut self, limit: usize, directory: &Directory) {
        while self.topics.len() > limit {
            let Some((forgotten, ())) = self.topics.pop_lru() else {
                break;
            };
            directory.forget(&forgotten);
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

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn the_topic_published_to_the_longest_ago_is_forgotten() {
        let directory = Directory::default();
        let mut recent = RecentTopics::new(2);
        for name in ["a", "b", "a", "c"] {
            recent.published(&topic(name), &directory);
        }
        assert_eq!(directory.names(10), ["a", "c"]);
        recent.resize(1, &directory);
        assert_eq!(directory.names(10), ["c"]);
    }

    #[test]
    fn a_topic_with_subscribers_is_never_forgotten() {
        let directory = Directory::default();
        let mut recent = RecentTopics::new(1);
        directory.subscribed(&topic("z"));
        directory.subscribed(&topic("z"));
        for name in ["z", "a", "b"] {
            recent.published(&topic(name), &directory);
        }
        assert_eq!(directory.names(10), ["b", "z"]);
        assert_eq!(directory.names(1), ["z"]);
        directory.unsubscribed(&topic("z"));
        assert_eq!(directory.len(), 2);
        directory.unsubscribed(&topic("z"));
        assert_eq!(directory.names(10), ["b"]);
    }
}
