//! Who is subscribed to what within one shard, and which publications of the batch concern which subscription.
//!
//! Each distinct subscription is one entry, however many connections have it. Matching costs one look-up for each topic
//! of each publication and one visit for each subscriber of the entries found; patterns are remembered for each topic,
//! and templates are found by a tag that they name. The publications of an entry are listed once, at the entry.

use std::collections::HashMap;

use slab::Slab;

use super::batch::Batch;
use super::frames::Frames;
use super::place::{ConnectionIndex, EntryIndex, Seq};
use super::runs::Runs;
use super::subscribers::Subscribers;
use crate::delivery::Format;
use crate::directory::Directory;
use crate::pattern_cache::PatternCache;
use crate::publication::Publication;
use crate::subscription::{Kind, Subscription};
use crate::template_index::TemplateIndex;
use crate::topic::{PrecomputedHash, Topic};

/// The subscriptions to everything stand at this place from the start.
const EVERYTHING: EntryIndex = 0;

/// After a large batch an entry gives the memory of its list back.
const KEPT_SEQS: usize = 32;

/// Publications that a word of a set of them stands for.
const SEQS_PER_WORD: usize = 64;

/// Topics whose patterns are remembered.
const CACHED_TOPICS: usize = 16 * 1024;

/// The subscriptions of one shard.
#[derive(Debug)]
pub(crate) struct Registry {
    by_topic: HashMap<Topic, EntryIndex, PrecomputedHash>,
    patterns: PatternCache<EntryIndex>,
    templates: TemplateIndex<EntryIndex>,
    entries: Slab<Entry>,
    runs: Runs,
    /// Entries with publications of the batch.
    listed: Vec<EntryIndex>,
    /// Those that got one since the subscribers were last told.
    touched: Vec<EntryIndex>,
    /// Those that a publication concerns, while it is looked at.
    found: Vec<EntryIndex>,
}

#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    subscribers: Subscribers,
    /// The publications of the batch that belong here, in order.
    seqs: Vec<Seq>,
    is_touched: bool,
}

impl Entry {
    fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            subscribers: Subscribers::default(),
            seqs: Vec::new(),
            is_touched: false,
        }
    }

    /// Where the publications after `seq` begin.
    fn place_after(&self, seq: Seq) -> usize {
        match self.seqs.first() {
            Some(first) if *first > seq => 0,
            _ => self.seqs.partition_point(|listed| *listed <= seq),
        }
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        let mut entries = Slab::new();
        entries.insert(Entry::new(Subscription::Everything));
        Self {
            by_topic: HashMap::default(),
            patterns: PatternCache::new(CACHED_TOPICS),
            templates: TemplateIndex::new(),
            entries,
            runs: Runs::default(),
            listed: Vec::new(),
            touched: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Adds a subscriber; the caller knows that it is not one yet.
    pub(crate) fn subscribe(
        &mut self,
        subscription: Subscription,
        connection: ConnectionIndex,
        directory: &Directory,
    ) -> EntryIndex {
        let index = match self.find(&subscription) {
            Some(index) => index,
            None => self.add_entry(subscription, directory),
        };
        self.entries[index as usize].subscribers.add(connection);
        index
    }

    fn add_entry(&mut self, subscription: Subscription, directory: &Directory) -> EntryIndex {
        let index = self.entries.insert(Entry::new(subscription.clone())) as EntryIndex;
        match subscription {
            Subscription::Everything => {}
            Subscription::Topic(topic) => {
                directory.subscribed(&topic);
                self.by_topic.insert(topic, index);
            }
            Subscription::Pattern(pattern) => self.patterns.add(pattern, index),
            Subscription::Template(template) => self.templates.add(template, index),
        }
        index
    }

    /// Removes a subscriber.
    pub(crate) fn unsubscribe(
        &mut self,
        index: EntryIndex,
        connection: ConnectionIndex,
        directory: &Directory,
    ) {
        let subscribers = &mut self.entries[index as usize].subscribers;
        subscribers.remove(connection);
        if !subscribers.is_empty() || index == EVERYTHING {
            return;
        }
        self.runs.forget(index);
        match self.entries.remove(index as usize).subscription {
            Subscription::Everything => {}
            Subscription::Topic(topic) => {
                self.by_topic.remove(&topic);
                directory.unsubscribed(&topic);
            }
            Subscription::Pattern(pattern) => self.patterns.remove(&pattern),
            Subscription::Template(template) => self.templates.remove(&template),
        }
    }

    /// Tells the directory that nobody is subscribed here any more.
    pub(crate) fn leave(self, directory: &Directory) {
        self.by_topic
            .keys()
            .for_each(|topic| directory.unsubscribed(topic));
    }

    /// Where the subscription stands, if anybody has it.
    pub(crate) fn find(&self, subscription: &Subscription) -> Option<EntryIndex> {
        match subscription {
            Subscription::Everything => Some(EVERYTHING),
            Subscription::Topic(topic) => self.by_topic.get(topic).copied(),
            Subscription::Pattern(pattern) => self.patterns.get(pattern),
            Subscription::Template(template) => self.templates.get(template),
        }
    }

    /// Whether a connection has what stands there.
    pub(crate) fn has_subscriber(&self, index: EntryIndex, connection: ConnectionIndex) -> bool {
        self.entries[index as usize]
            .subscribers
            .contains(connection)
    }

    /// What stands there.
    pub(crate) fn subscription(&self, index: EntryIndex) -> &Subscription {
        &self.entries[index as usize].subscription
    }

    /// Lists a publication of the batch where it belongs. To be called in order of publications.
    pub(crate) fn list(&mut self, publication: &Publication) {
        self.matching(publication);
        for place in 0..self.found.len() {
            self.list_at(self.found[place], publication.seq());
        }
    }

    /// The entries that a publication concerns; one may stand there twice.
    pub(crate) fn matching(&mut self, publication: &Publication) -> &[EntryIndex] {
        self.found.clear();
        if publication.concerns_everybody() {
            self.found
                .extend(self.entries.iter().map(|(index, _)| index as EntryIndex));
            return &self.found;
        }
        self.found.push(EVERYTHING);
        for topic in publication.topics() {
            self.found.extend(self.by_topic.get(topic));
            if !self.patterns.is_empty() {
                self.found.extend_from_slice(self.patterns.matches(topic));
            }
        }
        if !self.templates.is_empty() {
            match publication.message() {
                Some(message) => self.templates.matching(&message, &mut self.found),
                // Of one that was lost nobody knows what it held, so everybody is told who could have wanted it.
                None => self.found.extend(self.templates.handles()),
            }
        }
        &self.found
    }

    fn list_at(&mut self, index: EntryIndex, seq: Seq) {
        let entry = &mut self.entries[index as usize];
        if entry.subscribers.is_empty() || entry.seqs.last() == Some(&seq) {
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

    /// Tells each subscriber of each entry that got publications since the last call.
    pub(crate) fn tell_touched(&mut self, mut tell: impl FnMut(ConnectionIndex, EntryIndex)) {
        for index in self.touched.drain(..) {
            // The entry may have gone with its last subscriber.
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            entry.is_touched = false;
            for connection in entry.subscribers.as_slice() {
                tell(*connection, index);
            }
        }
    }

    /// The publications of the batch after `seq` that belong there, in order.
    pub(crate) fn after(&self, index: EntryIndex, seq: Seq) -> &[Seq] {
        let entry = &self.entries[index as usize];
        &entry.seqs[entry.place_after(seq)..]
    }

    /// The same, with as many of their frames as possible in one piece.
    pub(crate) fn frames_after(
        &mut self,
        index: EntryIndex,
        seq: Seq,
        format: Format,
        batch: &Batch,
    ) -> Frames<'_> {
        let entry = &self.entries[index as usize];
        let start = entry.place_after(seq);
        self.runs.join(
            (index, entry.subscribers.len()),
            &entry.seqs,
            start,
            format,
            batch,
        )
    }

    /// The publications after `seq` that belong to any of these entries, in order. Takes a step for each that is listed
    /// at one of them.
    pub(crate) fn merge(&self, entries: &[EntryIndex], seq: Seq, into: &mut Vec<Seq>) {
        into.clear();
        let lists = || entries.iter().map(|entry| self.after(*entry, seq));
        let listed: usize = lists().map(<[Seq]>::len).sum();
        let first = lists().filter_map(|list| list.first()).min();
        let last = lists().filter_map(|list| list.last()).max();
        let (Some(first), Some(last)) = (first, last) else {
            return;
        };
        let words = (last - first) as usize / SEQS_PER_WORD + 1;
        if words > listed {
            // Few of many: to look through all would cost more.
            lists().for_each(|list| into.extend_from_slice(list));
            into.sort_unstable();
            into.dedup();
            return;
        }
        let mut belongs = vec![0_u64; words];
        for listed in lists().flatten() {
            let place = (listed - first) as usize;
            belongs[place / SEQS_PER_WORD] |= 1 << (place % SEQS_PER_WORD);
        }
        for (word, start) in belongs.into_iter().zip((*first..).step_by(SEQS_PER_WORD)) {
            let mut rest = word;
            while rest != 0 {
                into.push(start + Seq::from(rest.trailing_zeros()));
                rest &= rest - 1;
            }
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
        self.runs.end_batch();
    }

    /// Of which kind the subscription there is.
    pub(crate) fn kind(&self, index: EntryIndex) -> Kind {
        self.subscription(index).kind()
    }

    /// How often a pattern was compared with a topic, and a template with a message.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn compared(&self) -> (u64, u64) {
        (self.patterns.compared, self.templates.compared())
    }

    /// How many different topics have subscribers here.
    #[cfg(test)]
    pub(crate) fn topics(&self) -> usize {
        self.by_topic.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::filters::{Counts, Filters};
    use crate::message::template::Template;
    use crate::publication::tests::{message, publication};
    use crate::settings::Settings;

    fn topic(name: &str) -> Subscription {
        Subscription::parse(name).unwrap()
    }

    fn told(registry: &mut Registry) -> Vec<(ConnectionIndex, EntryIndex)> {
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

    /// 51,200 globs and 12,800 templates, as 400 connections hold them.
    fn crowded(filters: &Filters) -> Registry {
        let glob = |n: usize| match n % 4 {
            0 => format!("id{n}:*"),
            1 => format!("*:id{n}"),
            2 => format!("id:*{n}"),
            _ => format!("id:{n}*x*y"),
        };
        let directory = Directory::default();
        let mut registry = Registry::new();
        for connection in 0..400 {
            let globs = (0..128).map(|n| topic(&glob(connection * 128 + n)));
            let templates = (0..16).map(|n| {
                let text = format!(r#"{{"action":"Mint","id":"{}"}}"#, connection * 16 + n);
                Subscription::Template(Template::parse(&text).unwrap())
            });
            let mut wanted: Vec<_> = globs.chain(templates).collect();
            filters.hold(&mut wanted, &Settings::default()).unwrap();
            for subscription in wanted {
                registry.subscribe(subscription, connection as ConnectionIndex, &directory);
            }
        }
        registry
    }

    #[test]
    fn a_message_meets_only_the_patterns_and_templates_that_may_match_it() {
        let filters = Filters::default();
        let mut registry = crowded(&filters);
        for seq in 1..=100 {
            let tags = (0..5).map(|tag| format!("id{tag}:{}", seq * 7919 + tag));
            let names: Vec<String> = tags.collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let data = format!(r#"{{"action":"Mint","id":"{seq}"}}"#);
            registry.list(&message(seq, &names, &data));
        }
        let (patterns, templates) = registry.compared();
        assert!(patterns <= 100 * 5 * 8, "{patterns}");
        assert!((100..=200).contains(&templates), "{templates}");
        drop(registry);
        assert_eq!(filters.counts(), Counts::default());
    }

    #[test]
    fn joining_and_leaving_compare_nothing() {
        let filters = Filters::default();
        let directory = Directory::default();
        let mut registry = crowded(&filters);
        let entries: Vec<EntryIndex> = registry
            .entries
            .iter()
            .map(|(index, _)| index as EntryIndex)
            .collect();
        for entry in entries.into_iter().filter(|entry| *entry != EVERYTHING) {
            let connection = registry.entries[entry as usize].subscribers.as_slice()[0];
            registry.unsubscribe(entry, connection, &directory);
        }
        assert_eq!(registry.compared(), (0, 0));
        assert!(registry.patterns.is_empty() && registry.templates.is_empty());
        assert_eq!(filters.counts(), Counts::default());
    }

    proptest! {
        #[test]
        fn publications_of_several_entries_come_once_and_in_order(
            listed in prop::collection::vec(prop::collection::btree_set(1_u64..3000, 0..80), 1..5),
            after in 0_u64..200,
        ) {
            let directory = Directory::default();
            let mut registry = Registry::new();
            let entries: Vec<EntryIndex> = (0..listed.len())
                .map(|n| registry.subscribe(topic(&format!("t{n}")), 1, &directory))
                .collect();
            for (entry, seqs) in entries.iter().zip(&listed) {
                registry.entries[*entry as usize].seqs = seqs.iter().copied().collect();
            }
            let mut merged = vec![7];
            registry.merge(&entries, after, &mut merged);
            let expected: BTreeSet<Seq> = listed.into_iter().flatten().filter(|seq| *seq > after).collect();
            prop_assert_eq!(merged, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
