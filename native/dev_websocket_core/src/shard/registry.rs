//! The subscriptions of one shard and the publications of the batch that match each of them.
//!
//! Each distinct subscription is one entry, however many connections have it. Matching costs one look-up for each topic
//! of a publication and one visit for each subscriber of the entries found. Matches of patterns are cached for each
//! topic, and templates are found by a tag that they name. The publications of an entry are listed once, at the entry.

use std::collections::HashMap;

use slab::Slab;

use super::batch::Batch;
use super::compressor::WantedForms;
use super::frame_runs::FrameRuns;
use super::frames::Frames;
use super::ids::{ConnectionIndex, EntryIndex, Seq};
use super::subscribers::Subscribers;
use crate::log::publication::Publication;
use crate::message::topic::{PrecomputedHash, Topic};
use crate::shard::topic_registry::TopicRegistry;
use crate::subscription::pattern_cache::PatternCache;
use crate::subscription::template_index::TemplateIndex;
use crate::subscription::{Kind, Subscription};
use crate::wire::format::{Form, Format};

/// Index of the subscriptions to everything, which exist from the start.
const EVERYTHING: EntryIndex = 0;

/// Capacity that an entry's list keeps after a large batch.
const KEPT_SEQS: usize = 32;

/// Number of publications for one word of a bit set.
const SEQS_PER_WORD: usize = 64;

/// Number of topics whose pattern matches are cached.
const CACHED_TOPICS: usize = 16 * 1024;

/// The subscriptions of one shard.
#[derive(Debug)]
pub(crate) struct Registry {
    by_topic: HashMap<Topic, EntryIndex, PrecomputedHash>,
    patterns: PatternCache<EntryIndex>,
    templates: TemplateIndex<EntryIndex>,
    entries: Slab<Entry>,
    runs: FrameRuns,
    /// Entries with publications of the batch.
    listed: Vec<EntryIndex>,
    /// Entries that got a publication since the subscribers were last notified.
    touched: Vec<EntryIndex>,
    /// Entries that match the publication under examination.
    found: Vec<EntryIndex>,
}

#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    subscribers: Subscribers,
    /// Matching publications of the batch, in order.
    seqs: Vec<Seq>,
    /// Number of publications that the subscribers have been notified of.
    told: u32,
    is_touched: bool,
}

impl Entry {
    fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            subscribers: Subscribers::default(),
            seqs: Vec::new(),
            told: 0,
            is_touched: false,
        }
    }

    /// Returns the index of the first publication after `seq`.
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
            runs: FrameRuns::default(),
            listed: Vec::new(),
            touched: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Adds a subscriber. The caller has checked that it is new.
    pub(crate) fn subscribe(
        &mut self,
        subscription: Subscription,
        connection: ConnectionIndex,
        topics: &TopicRegistry,
    ) -> EntryIndex {
        let index = match self.find(&subscription) {
            Some(index) => index,
            None => self.add_entry(subscription, topics),
        };
        let subscribers = &mut self.entries[index as usize].subscribers;
        if index == EVERYTHING && subscribers.is_empty() {
            topics.subscribed_other();
        }
        subscribers.add(connection);
        index
    }

    fn add_entry(&mut self, subscription: Subscription, topics: &TopicRegistry) -> EntryIndex {
        let index = self.entries.insert(Entry::new(subscription.clone())) as EntryIndex;
        match subscription {
            Subscription::Everything => {}
            Subscription::Topic(topic) => {
                topics.subscribed(&topic);
                self.by_topic.insert(topic, index);
            }
            Subscription::Pattern(pattern) => {
                topics.subscribed_other();
                self.patterns.add(pattern, index);
            }
            Subscription::Template(template) => {
                topics.subscribed_other();
                self.templates.add(template, index);
            }
        }
        index
    }

    /// Removes a subscriber.
    pub(crate) fn unsubscribe(
        &mut self,
        index: EntryIndex,
        connection: ConnectionIndex,
        topics: &TopicRegistry,
    ) {
        let subscribers = &mut self.entries[index as usize].subscribers;
        if !subscribers.remove(connection) || !subscribers.is_empty() {
            return;
        }
        if index == EVERYTHING {
            return topics.unsubscribed_other();
        }
        self.runs.forget(index);
        match self.entries.remove(index as usize).subscription {
            Subscription::Everything => {}
            Subscription::Topic(topic) => {
                self.by_topic.remove(&topic);
                topics.unsubscribed(&topic);
            }
            Subscription::Pattern(pattern) => {
                topics.unsubscribed_other();
                self.patterns.remove(&pattern);
            }
            Subscription::Template(template) => {
                topics.unsubscribed_other();
                self.templates.remove(&template);
            }
        }
    }

    /// Tells the topic registry that this shard has no subscribers any more.
    pub(crate) fn leave(self, topics: &TopicRegistry) {
        for (_, entry) in &self.entries {
            match &entry.subscription {
                Subscription::Everything if entry.subscribers.is_empty() => {}
                Subscription::Topic(topic) => topics.unsubscribed(topic),
                _ => topics.unsubscribed_other(),
            }
        }
    }

    /// Returns the entry of a subscription, if a connection has it.
    pub(crate) fn find(&self, subscription: &Subscription) -> Option<EntryIndex> {
        match subscription {
            Subscription::Everything => Some(EVERYTHING),
            Subscription::Topic(topic) => self.by_topic.get(topic).copied(),
            Subscription::Pattern(pattern) => self.patterns.get(pattern),
            Subscription::Template(template) => self.templates.get(template),
        }
    }

    /// Returns true if a connection has the subscription at an index.
    pub(crate) fn has_subscriber(&self, index: EntryIndex, connection: ConnectionIndex) -> bool {
        self.entries[index as usize]
            .subscribers
            .contains(connection)
    }

    /// Returns the subscription at an index.
    pub(crate) fn subscription(&self, index: EntryIndex) -> &Subscription {
        &self.entries[index as usize].subscription
    }

    /// Adds a publication of the batch to all entries that it matches. Call it in order of publications.
    pub(crate) fn list(&mut self, publication: &Publication) {
        self.matching(publication);
        for place in 0..self.found.len() {
            self.list_at(self.found[place], publication.seq());
        }
    }

    /// Returns the entries that a publication matches. The list may contain an entry twice.
    pub(crate) fn matching(&mut self, publication: &Publication) -> &[EntryIndex] {
        self.found.clear();
        if publication.concerns_everybody() {
            self.found
                .extend(self.entries.iter().map(|(index, _)| index as EntryIndex));
            return &self.found;
        }
        if publication.is_edge() {
            // It repeats other events, which globs and templates match.
            let topics = publication.topics().iter();
            self.found
                .extend(topics.filter_map(|topic| self.by_topic.get(topic)));
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
                // The content of a lost message is unknown, so every possible subscriber is told.
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

    /// Notifies each subscriber of each entry that got publications since the last call. A subscriber that takes
    /// compressed frames returns its format; `compress` gets the new publications of an entry with such subscribers.
    pub(crate) fn tell_touched(
        &mut self,
        mut tell: impl FnMut(ConnectionIndex, EntryIndex) -> Option<Format>,
        mut compress: impl FnMut(&[Seq], WantedForms),
    ) {
        for index in self.touched.drain(..) {
            // The entry may be gone with its last subscriber.
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            entry.is_touched = false;
            let mut wanted = WantedForms::default();
            for connection in entry.subscribers.as_slice() {
                if let Some(format) = tell(*connection, index) {
                    wanted.add(format);
                }
            }
            if !wanted.is_empty() {
                compress(&entry.seqs[entry.told as usize..], wanted);
            }
            // A batch has far fewer publications than 2^32.
            entry.told = entry.seqs.len() as u32;
        }
    }

    /// Returns the publications of the batch after `seq` that match an entry, in order.
    pub(crate) fn after(&self, index: EntryIndex, seq: Seq) -> &[Seq] {
        let entry = &self.entries[index as usize];
        &entry.seqs[entry.place_after(seq)..]
    }

    /// Returns the same publications as [`Self::after`], with as many of their frames as possible in one piece.
    pub(crate) fn frames_after(
        &mut self,
        index: EntryIndex,
        seq: Seq,
        form: Form,
        batch: &Batch,
    ) -> Frames<'_> {
        let entry = &self.entries[index as usize];
        let start = entry.place_after(seq);
        self.runs.join(
            (index, entry.subscribers.len()),
            &entry.seqs,
            start,
            form,
            batch,
        )
    }

    /// Collects the publications after `seq` that match any of these entries, in order. It takes one step for each
    /// listed publication of an entry.
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
            // Sorting a few publications costs less than a bit set over a wide range.
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

    /// Clears the lists of the batch.
    pub(crate) fn end_batch(&mut self) {
        for index in self.listed.drain(..) {
            if let Some(entry) = self.entries.get_mut(index as usize) {
                entry.seqs.clear();
                entry.told = 0;
                entry.seqs.shrink_to(KEPT_SEQS);
            }
        }
        self.runs.end_batch();
    }

    /// Forgets the joined frames of the batch, because a panic may have left some half copied.
    pub(crate) fn forget_runs(&mut self) {
        self.runs.end_batch();
    }

    /// Returns the kind of the subscription at an index.
    pub(crate) fn kind(&self, index: EntryIndex) -> Kind {
        self.subscription(index).kind()
    }

    /// Returns the number of comparisons of patterns with topics, and of templates with messages.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn compared(&self) -> (u64, u64) {
        (self.patterns.compared, self.templates.compared())
    }

    /// Returns the number of different topics with subscribers.
    #[cfg(test)]
    pub(crate) fn topics(&self) -> usize {
        self.by_topic.len()
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
