//! Which patterns match a topic, remembered for the topics that were asked for last.

use std::collections::{BTreeMap, HashMap};

use lru::LruCache;
use slab::Slab;

use crate::message::topic::{PrecomputedHash, Topic};
use crate::subscription::pattern::Pattern;
use crate::subscription::pattern_index::PatternIndex;

/// How many matches are remembered, those of all topics together. A topic alone may have more.
const MAX_MATCHES: usize = 1 << 20;

/// New patterns that a known topic is compared with one by one. Beyond that the index is asked again.
const MAX_NEW: usize = 8;

/// Which patterns a topic matches. A topic is compared with the patterns that its index finds, once as long as it is
/// remembered, and later with those that are new.
///
/// Patterns carry serial numbers that are never used again. A topic knows up to which it was checked, so that a new
/// pattern costs nothing until the topic comes up, and by its serial number a removed pattern is told from a newer one
/// with the same key.
#[derive(Debug)]
pub(crate) struct PatternCache<H> {
    held: Slab<Held<H>>,
    keys: HashMap<Pattern, u32>,
    /// In order of addition.
    by_serial: BTreeMap<u64, u32>,
    index: PatternIndex,
    next_serial: u64,
    /// How many patterns were removed so far.
    removals: u64,
    topics: LruCache<Topic, Matches<H>, PrecomputedHash>,
    /// The matches of all topics.
    stored: usize,
    max_topics: usize,
    max_matches: usize,
    /// How often a pattern was compared with a topic.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) compared: u64,
}

#[derive(Debug)]
struct Held<H> {
    pattern: Pattern,
    handle: H,
    serial: u64,
    /// Where it stands in the index.
    position: usize,
}

/// What is known of a topic.
#[derive(Debug)]
struct Matches<H> {
    /// The patterns that match, by serial number and key, and their handles in the same order.
    patterns: Vec<(u64, u32)>,
    handles: Vec<H>,
    /// Patterns from this serial number on are not yet checked.
    checked: u64,
    /// The removals that are taken into account.
    removals: u64,
}

impl<H: Copy> PatternCache<H> {
    /// A cache of at most `max_topics` topics.
    pub(crate) fn new(max_topics: usize) -> Self {
        Self {
            held: Slab::new(),
            keys: HashMap::new(),
            by_serial: BTreeMap::new(),
            index: PatternIndex::new(),
            next_serial: 0,
            removals: 0,
            topics: LruCache::unbounded_with_hasher(PrecomputedHash::default()),
            stored: 0,
            max_topics,
            max_matches: MAX_MATCHES,
            #[cfg(any(test, feature = "internals"))]
            compared: 0,
        }
    }

    /// Adds a pattern. One that is there already gets the new handle, and counts as added now.
    pub(crate) fn add(&mut self, pattern: Pattern, handle: H) {
        self.remove(&pattern);
        let serial = self.next_serial;
        self.next_serial += 1;
        let key = self.held.vacant_key() as u32;
        let position = self.index.add(&pattern, key);
        self.by_serial.insert(serial, key);
        self.keys.insert(pattern.clone(), key);
        self.held.insert(Held {
            pattern,
            handle,
            serial,
            position,
        });
    }

    /// Removes a pattern; its handle is in no answer any more.
    pub(crate) fn remove(&mut self, pattern: &Pattern) {
        let Some(key) = self.keys.remove(pattern) else {
            return;
        };
        let held = self.held.remove(key as usize);
        self.by_serial.remove(&held.serial);
        if let Some(moved) = self.index.remove(&held.pattern, held.position) {
            self.held[moved as usize].position = held.position;
        }
        self.removals += 1;
        if self.held.is_empty() {
            // Nobody will ask, so nobody would clean up.
            self.topics = LruCache::unbounded_with_hasher(PrecomputedHash::default());
            self.stored = 0;
        }
    }

    /// The handle of a pattern, if it is there.
    pub(crate) fn get(&self, pattern: &Pattern) -> Option<H> {
        let key = self.keys.get(pattern)?;
        Some(self.held[*key as usize].handle)
    }

    /// Whether there are no patterns.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The handles of the patterns that match, in order of addition.
    pub(crate) fn matches(&mut self, topic: &Topic) -> &[H] {
        if self.held.is_empty() {
            return &[];
        }
        let known = self.topics.get_or_insert_mut_ref(topic, Matches::new);
        let before = known.patterns.len();
        if known.removals != self.removals {
            known.forget_removed(&self.held);
            known.removals = self.removals;
        }
        if known.checked != self.next_serial {
            let is_few = self.by_serial.range(known.checked..).nth(MAX_NEW).is_none();
            let _compared = if is_few {
                known.check_new(topic, &self.by_serial, &self.held)
            } else {
                known.check_all(topic, &self.index, &self.held)
            };
            #[cfg(any(test, feature = "internals"))]
            {
                self.compared += _compared;
            }
            known.checked = self.next_serial;
        }
        self.stored = self.stored - before + known.patterns.len();
        self.evict();
        match self.topics.peek(topic) {
            Some(known) => &known.handles,
            None => &[],
        }
    }

    /// Forgets topics, but never the one asked for just now.
    fn evict(&mut self) {
        while self.topics.len() > 1
            && (self.topics.len() > self.max_topics || self.stored > self.max_matches)
        {
            if let Some((_, forgotten)) = self.topics.pop_lru() {
                self.stored -= forgotten.patterns.len();
            }
        }
    }
}

impl<H: Copy> Matches<H> {
    fn new() -> Self {
        Self {
            patterns: Vec::new(),
            handles: Vec::new(),
            checked: 0,
            removals: 0,
        }
    }

    fn forget_removed(&mut self, held: &Slab<Held<H>>) {
        let before = self.patterns.len();
        let is_held = |(serial, key): &(u64, u32)| {
            held.get(*key as usize)
                .is_some_and(|there| there.serial == *serial)
        };
        let mut kept = self.patterns.iter().map(is_held);
        self.handles.retain(|_| kept.next().unwrap_or(false));
        self.patterns.retain(is_held);
        if self.patterns.len() < before {
            self.patterns.shrink_to_fit();
            self.handles.shrink_to_fit();
        }
    }

    /// Compares the topic with the patterns that are new, and says how many there were.
    fn check_new(
        &mut self,
        topic: &Topic,
        by_serial: &BTreeMap<u64, u32>,
        held: &Slab<Held<H>>,
    ) -> u64 {
        let mut compared = 0;
        for (serial, key) in by_serial.range(self.checked..) {
            compared += 1;
            let there = &held[*key as usize];
            if there.pattern.is_match(topic.name()) {
                self.patterns.push((*serial, *key));
                self.handles.push(there.handle);
            }
        }
        compared
    }

    /// Compares the topic with all that may match it, and says how many there were.
    fn check_all(&mut self, topic: &Topic, index: &PatternIndex, held: &Slab<Held<H>>) -> u64 {
        let mut compared = 0;
        self.patterns.clear();
        index.candidates(topic.name(), |key| {
            compared += 1;
            let there = &held[key as usize];
            if there.pattern.is_match(topic.name()) {
                self.patterns.push((there.serial, key));
            }
        });
        self.patterns.sort_unstable();
        self.patterns.shrink_to_fit();
        self.handles.clear();
        let handles = self
            .patterns
            .iter()
            .map(|(_, key)| held[*key as usize].handle);
        self.handles.extend(handles);
        self.handles.shrink_to_fit();
        compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn glob(text: &str) -> Pattern {
        Pattern::glob(text).unwrap()
    }

    #[test]
    fn patterns_match_in_order_of_addition() {
        let mut cache = PatternCache::new(10);
        assert!(cache.is_empty());
        assert_eq!(cache.matches(&topic("ab")), [0_u32; 0]);
        cache.add(glob("a*"), 7);
        cache.add(glob("x*"), 8);
        cache.add(Pattern::regex("b$").unwrap(), 3);
        assert_eq!(cache.matches(&topic("ab")), [7, 3]);
        assert_eq!(cache.matches(&topic("xb")), [8, 3]);
        cache.add(glob("*"), 1);
        assert_eq!(cache.matches(&topic("ab")), [7, 3, 1]);
        cache.remove(&glob("a*"));
        assert_eq!(cache.matches(&topic("ab")), [3, 1]);
        assert!(!cache.is_empty());
    }

    #[test]
    fn the_handle_of_a_removed_pattern_may_be_used_again() {
        let mut cache = PatternCache::new(10);
        cache.add(glob("a*"), 1);
        cache.add(glob("*"), 2);
        assert_eq!(cache.matches(&topic("a")), [1, 2]);
        cache.remove(&glob("a*"));
        cache.add(glob("b*"), 1);
        assert_eq!(cache.matches(&topic("a")), [2]);
        assert_eq!(cache.matches(&topic("b")), [2, 1]);
    }

    #[test]
    fn a_pattern_added_again_takes_the_new_handle() {
        let mut cache = PatternCache::new(10);
        cache.add(glob("a*"), 1);
        assert_eq!(cache.matches(&topic("a")), [1]);
        cache.add(glob("a*"), 2);
        assert_eq!(cache.matches(&topic("a")), [2]);
        cache.remove(&glob("a*"));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_new_pattern_is_checked_when_the_topic_comes_up() {
        let mut cache = PatternCache::new(10);
        cache.add(glob("*"), 1);
        cache.matches(&topic("a"));
        cache.add(glob("a"), 2);
        let checked = |cache: &PatternCache<i32>| cache.topics.peek(&topic("a")).unwrap().checked;
        assert_eq!(checked(&cache), 1);
        assert_eq!(cache.matches(&topic("a")), [1, 2]);
        assert_eq!(checked(&cache), 2);
    }

    #[test]
    fn a_topic_is_compared_with_those_that_may_match_it_alone() {
        let mut cache = PatternCache::new(10);
        for handle in 0..2_000 {
            cache.add(glob(&format!("k{handle}:*")), handle);
            cache.add(glob(&format!("*:v{handle}")), handle);
        }
        assert_eq!(cache.matches(&topic("k17:v4")), [4, 17]);
        assert_eq!(cache.compared, 2);
        assert_eq!(cache.matches(&topic("k17:v4")), [4, 17]);
        assert_eq!(cache.compared, 2);
        // Few that are new are compared one by one, many found again.
        for handle in 0..MAX_NEW {
            cache.add(glob(&format!("x{handle}:*")), 0);
        }
        cache.matches(&topic("k17:v4"));
        assert_eq!(cache.compared, 2 + MAX_NEW as u64);
        for handle in 0..2_000 {
            cache.add(glob(&format!("y{handle}:*")), 0);
        }
        assert_eq!(cache.matches(&topic("k17:v4")), [4, 17]);
        assert_eq!(cache.compared, 4 + MAX_NEW as u64);
    }

    #[test]
    fn patterns_that_come_and_go_cost_a_known_topic_few_steps() {
        let mut cache = PatternCache::new(10);
        for handle in 0..200 {
            cache.add(glob(&format!("k{handle}:*")), handle);
        }
        for round in 0..200 {
            cache.add(glob(&format!("x{round}*")), 0);
            assert_eq!(cache.matches(&topic("k1:")), [1]);
            cache.remove(&glob(&format!("x{round}*")));
            assert_eq!(cache.matches(&topic("k1:")), [1]);
        }
        assert!(cache.compared <= 201, "{}", cache.compared);
    }

    #[test]
    fn stale_matches_are_reclaimed_at_the_next_look_up() {
        let mut cache = PatternCache::new(10);
        for handle in 0..100 {
            cache.add(glob(&format!("*{handle}*")), handle);
        }
        cache.add(glob("stays*"), 100);
        let all: String = (0..100).map(|handle| format!("{handle}.")).collect();
        let all = topic(&all[..250]);
        let found = cache.matches(&all).len();
        assert!(found > 80);
        for handle in 0..100 {
            cache.remove(&glob(&format!("*{handle}*")));
        }
        assert_eq!(cache.stored, found);
        assert_eq!(cache.matches(&all), [0_i32; 0]);
        assert_eq!(cache.stored, 0);
        assert_eq!(cache.topics.peek(&all).unwrap().handles.capacity(), 0);
    }

    #[test]
    fn nothing_is_kept_without_patterns() {
        let mut cache = PatternCache::new(10);
        cache.add(glob("*"), 1);
        cache.matches(&topic("a"));
        cache.remove(&glob("*"));
        cache.remove(&glob("*"));
        assert_eq!((cache.topics.len(), cache.stored), (0, 0));
        assert_eq!(cache.matches(&topic("a")), [0_i32; 0]);
        assert_eq!(cache.topics.len(), 0);
    }

    #[test]
    fn topics_and_matches_are_bounded() {
        let mut cache = PatternCache::new(2);
        cache.add(glob("*"), 1);
        for name in ["a", "b", "a", "c"] {
            assert_eq!(cache.matches(&topic(name)), [1]);
        }
        let cached =
            |cache: &PatternCache<i32>, name: &str| cache.topics.peek(&topic(name)).is_some();
        assert!(cached(&cache, "a") && !cached(&cache, "b") && cached(&cache, "c"));
        cache.max_matches = 3;
        for handle in 2..=4 {
            cache.add(glob(&format!("*{}", "*".repeat(handle))), 1);
        }
        assert_eq!(cache.matches(&topic("a")).len(), 4);
        assert_eq!((cache.topics.len(), cache.stored), (1, 4));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(usize),
        Remove(usize),
        Ask(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                (0..PATTERNS.len()).prop_map(Step::Add),
                (0..PATTERNS.len()).prop_map(Step::Remove),
                (0..NAMES.len()).prop_map(Step::Ask),
                (0..NAMES.len()).prop_map(Step::Ask),
            ],
            0..120,
        )
    }

    const PATTERNS: [&str; 20] = [
        "*", "a*", "*a", "b*", "*b*", "~b", "~^a", "~[ab]c", "**", "ab*", "*b", "*c", "a*c", "b*c",
        "~b$", "~^ab", "~^a.*c$", "~^b|^a", "*bc", "abc*",
    ];
    const NAMES: [&str; 6] = ["a", "b", "ab", "ba", "bc", "abc"];

    /// Those with a tilde are regular expressions.
    fn pattern(place: usize) -> Pattern {
        static ALL: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
            let compiled = |text: &&str| {
                let expression = text
                    .strip_prefix('~')
                    .map(|text| Pattern::regex(text).unwrap());
                expression.unwrap_or_else(|| glob(text))
            };
            PATTERNS.iter().map(compiled).collect()
        });
        ALL[place].clone()
    }

    proptest! {
        #[test]
        fn answers_are_those_of_trying_every_pattern(
            steps in steps(),
            max_topics in 0_usize..4,
            max_matches in 0_usize..8,
        ) {
            let mut cache = PatternCache::new(max_topics);
            cache.max_matches = max_matches;
            let mut model: Vec<(usize, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(place) => {
                        model.retain(|(there, _)| *there != place);
                        // The lowest free one, so that handles are used again.
                        let free = (0..).find(|handle| model.iter().all(|(_, used)| used != handle));
                        let handle = free.unwrap();
                        model.push((place, handle));
                        cache.add(pattern(place), handle);
                    }
                    Step::Remove(place) => {
                        model.retain(|(there, _)| *there != place);
                        cache.remove(&pattern(place));
                    }
                    Step::Ask(name) => {
                        let expected: Vec<usize> = model
                            .iter()
                            .filter(|(place, _)| pattern(*place).is_match(NAMES[name]))
                            .map(|(_, handle)| *handle)
                            .collect();
                        prop_assert_eq!(cache.matches(&topic(NAMES[name])), expected);
                    }
                }
                let stored: usize = cache.topics.iter().map(|(_, known)| known.handles.len()).sum();
                prop_assert_eq!(cache.stored, stored);
                prop_assert!(cache.topics.len() <= max_topics.max(1));
                prop_assert!(stored <= max_matches || cache.topics.len() == 1);
                prop_assert_eq!(cache.is_empty(), model.is_empty());
            }
        }
    }
}
