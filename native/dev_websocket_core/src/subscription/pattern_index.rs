//! Which of many patterns may match a topic, without a look at the others.
//!
//! A pattern is filed under what its topics begin or end with. Each beginning and each ending of a topic is looked up
//! by a hash that grows by one byte at a time, so a look-up takes two steps for each byte, however many patterns there
//! are. Patterns without such a literal may match any topic.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use smallvec::SmallVec;

use crate::message::topic::{MAX_TOPIC_BYTES, PrecomputedHash};
use crate::subscription::filters::Place;
use crate::subscription::pattern::Pattern;

/// The prime of the hash: the sum of a product and a byte fits twice.
const PRIME: u64 = (1 << 61) - 1;

/// Patterns by key, each with its position in the list that it is in: see [`PatternIndex::add`].
#[derive(Debug)]
pub(crate) struct PatternIndex {
    beginnings: Literals,
    endings: Literals,
    rest: Vec<u32>,
}

/// Lists of patterns by literal.
#[derive(Debug)]
struct Literals {
    by_hash: HashMap<u64, SmallVec<[Bucket; 1]>, PrecomputedHash>,
    /// How many literals there are of each length.
    lengths: Box<[u32; MAX_TOPIC_BYTES + 1]>,
    /// Nobody can choose literals that collide.
    multiplier: u64,
}

#[derive(Debug)]
struct Bucket {
    literal: Box<[u8]>,
    patterns: Vec<u32>,
}

impl PatternIndex {
    pub(crate) fn new() -> Self {
        Self {
            beginnings: Literals::new(),
            endings: Literals::new(),
            rest: Vec::new(),
        }
    }

    /// Adds a pattern and gives its position, which [`Self::remove`] has to be told.
    pub(crate) fn add(&mut self, pattern: &Pattern, key: u32) -> usize {
        let list = match pattern.place() {
            Place::Beginning => self.beginnings.list(pattern.beginning().iter()),
            Place::Ending => self.endings.list(pattern.ending().iter().rev()),
            Place::Scalar(_) | Place::Anywhere => &mut self.rest,
        };
        list.push(key);
        list.len() - 1
    }

    /// Removes a pattern. Another one may take its position: it is given back.
    pub(crate) fn remove(&mut self, pattern: &Pattern, position: usize) -> Option<u32> {
        match pattern.place() {
            Place::Beginning => self.beginnings.remove(pattern.beginning().iter(), position),
            Place::Ending => self.endings.remove(pattern.ending().iter().rev(), position),
            Place::Scalar(_) | Place::Anywhere => remove_at(&mut self.rest, position),
        }
    }

    /// Calls `visit` with the key of each pattern that may match, once.
    pub(crate) fn candidates(&self, topic: &str, mut visit: impl FnMut(u32)) {
        self.rest.iter().copied().for_each(&mut visit);
        self.beginnings.visit(topic.bytes(), &mut visit);
        self.endings.visit(topic.bytes().rev(), &mut visit);
    }

    /// Whether nothing is left.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.rest.is_empty()
            && self.beginnings.by_hash.is_empty()
            && self.endings.by_hash.is_empty()
    }
}

impl Literals {
    fn new() -> Self {
        Self {
            by_hash: HashMap::default(),
            lengths: Box::new([0; MAX_TOPIC_BYTES + 1]),
            multiplier: RandomState::new().hash_one(0) % PRIME,
        }
    }

    fn list<'l>(&mut self, literal: impl Iterator<Item = &'l u8>) -> &mut Vec<u32> {
        let literal: Box<[u8]> = literal.copied().collect();
        let buckets = self.by_hash.entry(self.hash(&literal)).or_default();
        let place = buckets.iter().position(|bucket| bucket.literal == literal);
        let place = place.unwrap_or_else(|| {
            self.lengths[literal.len()] += 1;
            buckets.push(Bucket {
                literal,
                patterns: Vec::new(),
            });
            buckets.len() - 1
        });
        &mut buckets[place].patterns
    }

    fn remove<'l>(
        &mut self,
        literal: impl Iterator<Item = &'l u8>,
        position: usize,
    ) -> Option<u32> {
        let literal: Box<[u8]> = literal.copied().collect();
        let hash = self.hash(&literal);
        let buckets = self.by_hash.get_mut(&hash)?;
        let place = buckets
            .iter()
            .position(|bucket| bucket.literal == literal)?;
        let moved = remove_at(&mut buckets[place].patterns, position);
        if buckets[place].patterns.is_empty() {
            buckets.swap_remove(place);
            self.lengths[literal.len()] -= 1;
            if buckets.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        moved
    }

    /// Visits those of each literal that the text begins with.
    fn visit(&self, text: impl Iterator<Item = u8> + Clone, visit: &mut impl FnMut(u32)) {
        if self.by_hash.is_empty() {
            return;
        }
        let mut hash = 0;
        for (before, byte) in text.clone().enumerate() {
            hash = grown(hash, byte, self.multiplier);
            let length = before + 1;
            if self.lengths.get(length).is_none_or(|count| *count == 0) {
                continue;
            }
            for bucket in self.by_hash.get(&hash).into_iter().flatten() {
                if bucket.literal.iter().copied().eq(text.clone().take(length)) {
                    bucket.patterns.iter().copied().for_each(&mut *visit);
                }
            }
        }
    }

    fn hash(&self, literal: &[u8]) -> u64 {
        literal
            .iter()
            .fold(0, |hash, byte| grown(hash, *byte, self.multiplier))
    }
}

/// The hash of a text with one more byte.
fn grown(hash: u64, byte: u8, multiplier: u64) -> u64 {
    let product = u128::from(hash + u64::from(byte) + 1) * u128::from(multiplier);
    let sum = (product as u64 & PRIME) + (product >> 61) as u64;
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn remove_at(list: &mut Vec<u32>, position: usize) -> Option<u32> {
    if position < list.len() {
        list.swap_remove(position);
    }
    list.get(position).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        match text.strip_prefix('~') {
            Some(expression) => Pattern::regex(expression).unwrap(),
            None => Pattern::glob(text).unwrap(),
        }
    }

    fn candidates(index: &PatternIndex, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        index.candidates(topic, |key| found.push(key));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_topic_meets_those_with_its_beginning_or_its_ending_and_those_without_either() {
        let mut index = PatternIndex::new();
        let texts = ["a*", "ab*", "*b", "b*", "*a*", "~^ab", "~b$", "~b", "abc*"];
        for (key, text) in texts.iter().enumerate() {
            index.add(&pattern(text), key as u32);
        }
        assert_eq!(candidates(&index, "ab"), [0, 1, 2, 4, 5, 6, 7]);
        assert_eq!(candidates(&index, "ba"), [3, 4, 7]);
        assert_eq!(candidates(&index, "x"), [4, 7]);
    }

    #[test]
    fn the_longest_topic_meets_the_longest_literals() {
        let mut index = PatternIndex::new();
        let long = "a".repeat(254);
        index.add(&pattern(&format!("{long}*")), 0);
        index.add(&pattern(&format!("*{long}")), 1);
        index.add(&pattern(&format!("~^{}", &long[1..])), 2);
        assert_eq!(candidates(&index, &"a".repeat(255)), [0, 1, 2]);
        assert_eq!(candidates(&index, &long), [0, 1, 2]);
        assert_eq!(candidates(&index, &long[1..]), [2]);
        assert_eq!(candidates(&index, &"a".repeat(4096)), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn whatever_matches_is_a_candidate_once(
            texts in prop::collection::vec("~?\\^?[ab*ü]{1,5}\\$?", 0..20),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            topics in prop::collection::vec("[abü]{0,6}", 1..6),
        ) {
            let patterns: Vec<Pattern> = texts
                .iter()
                .filter_map(|text| match text.strip_prefix('~') {
                    Some(expression) => Pattern::regex(expression).ok(),
                    None => Pattern::glob(text).ok(),
                })
                .collect();
            let mut index = PatternIndex::new();
            let mut positions: Vec<Option<usize>> = patterns
                .iter()
                .enumerate()
                .map(|(key, pattern)| Some(index.add(pattern, key as u32)))
                .collect();
            if !patterns.is_empty() {
                for place in removed {
                    let key = place.index(patterns.len());
                    if let Some(position) = positions[key].take()
                        && let Some(moved) = index.remove(&patterns[key], position)
                    {
                        positions[moved as usize] = Some(position);
                    }
                }
            }
            for topic in &topics {
                let found = candidates(&index, topic);
                for (key, pattern) in patterns.iter().enumerate() {
                    let count = found.iter().filter(|there| **there == key as u32).count();
                    if positions[key].is_none() {
                        prop_assert_eq!(count, 0);
                    } else if pattern.is_match(topic) {
                        prop_assert_eq!(count, 1, "{} {}", pattern.text(), topic);
                    }
                }
            }
            for (key, pattern) in patterns.iter().enumerate() {
                if let Some(position) = positions[key].take()
                    && let Some(moved) = index.remove(pattern, position)
                {
                    positions[moved as usize] = Some(position);
                }
            }
            prop_assert!(index.is_empty());
        }
    }
}
