//! The globs, regular expressions and templates that clients hold: each different one once, so many in all, and each
//! filed under a literal by which an index finds it.
//!
//! A topic or a message is compared with those filed under a literal that it has, and with those under none. So both
//! are few: a literal has at most [`MAX_CROWD`], the others go where a setting counts them (`max_unindexed_patterns`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::error_code::ErrorCode;
use crate::message::topic::PrecomputedHash;
use crate::settings::{Settings, size};
use crate::subscription::pattern::WeakPattern;
use crate::subscription::template::WeakTemplate;
use crate::subscription::{Subscription, TooMany};

/// Filters that are filed under the same literal.
const MAX_CROWD: u32 = 8;

/// All that are held. One per server.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hasher: RandomState,
    /// By hash. One that is gone stays until its count is given back.
    held: HashMap<u64, SmallVec<[Held; 1]>, PrecomputedHash>,
    counts: Counts,
    /// How many are filed under a literal, by hash.
    crowds: HashMap<u64, u32, PrecomputedHash>,
}

/// How many there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) globs: usize,
    /// Also those of templates over a path.
    pub(crate) expressions: usize,
    pub(crate) templates: usize,
    /// Of all kinds, those that are filed under no literal.
    pub(crate) unindexed: usize,
}

#[derive(Debug)]
enum Held {
    Pattern(WeakPattern),
    Template(WeakTemplate),
}

/// Under which literal an index finds a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// What a matching topic begins with.
    Beginning,
    /// What a matching topic ends with.
    Ending,
    /// The template's scalar of that number.
    Scalar(usize),
    /// None: it is compared with every topic or message.
    Anywhere,
}

/// A filter's part of the counts, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Filing {
    place: Place,
    part: Counts,
    hash: u64,
    crowd: Option<u64>,
    filters: Filters,
}

impl Filing {
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Filing {
    fn drop(&mut self) {
        let mut state = self.filters.state.lock();
        let State {
            held,
            counts,
            crowds,
            ..
        } = &mut *state;
        counts.globs -= self.part.globs;
        counts.expressions -= self.part.expressions;
        counts.templates -= self.part.templates;
        counts.unindexed -= self.part.unindexed;
        if let Some(crowd) = &self.crowd
            && let Some(count) = crowds.get_mut(crowd)
        {
            *count -= 1;
            if *count == 0 {
                crowds.remove(crowd);
            }
        }
        if let Some(same_hash) = held.get_mut(&self.hash) {
            same_hash.retain(|held| !held.is_gone());
            if same_hash.is_empty() {
                held.remove(&self.hash);
            }
        }
    }
}

impl Filters {
    /// How many are held.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Replaces the filters of a request by those that are held already, and holds those that are new as long as
    /// somebody uses them.
    ///
    /// # Errors
    /// [`TooMany`] when there would be more than the settings allow. What was new goes with the request then.
    pub(crate) fn hold(
        &self,
        subscriptions: &mut [Subscription],
        settings: &Settings,
    ) -> Result<(), TooMany> {
        let is_filter = |subscription: &Subscription| {
            matches!(
                subscription,
                Subscription::Pattern(_) | Subscription::Template(_)
            )
        };
        if !subscriptions.iter().any(is_filter) {
            return Ok(());
        }
        // What is dropped while the lock is held may take the lock.
        let (mut later, mut unused) = (Vec::new(), Vec::new());
        let mut state = self.state.lock();
        for subscription in subscriptions.iter_mut() {
            let hash = match subscription {
                Subscription::Everything | Subscription::Topic(_) => continue,
                Subscription::Pattern(pattern) => state.hasher.hash_one(&*pattern),
                Subscription::Template(template) => state.hasher.hash_one(&*template),
            };
            if let Some(same) = state.find(hash, subscription, &mut later) {
                later.push(std::mem::replace(subscription, same));
            } else {
                let filing = state.file(hash, subscription, settings, self)?;
                let held = match subscription {
                    Subscription::Pattern(pattern) => {
                        unused.extend(pattern.file(filing).err());
                        Held::Pattern(pattern.downgrade())
                    }
                    Subscription::Template(template) => {
                        unused.extend(template.file(filing).err());
                        Held::Template(template.downgrade())
                    }
                    Subscription::Everything | Subscription::Topic(_) => continue,
                };
                state.held.entry(hash).or_default().push(held);
            }
        }
        Ok(())
    }
}

impl State {
    fn find(
        &self,
        hash: u64,
        wanted: &Subscription,
        later: &mut Vec<Subscription>,
    ) -> Option<Subscription> {
        for held in self.held.get(&hash)? {
            let Some(there) = held.upgrade() else {
                continue;
            };
            if there == *wanted {
                return Some(there);
            }
            later.push(there);
        }
        None
    }

    /// Counts a new filter and finds its place.
    fn file(
        &mut self,
        hash: u64,
        filter: &Subscription,
        settings: &Settings,
        filters: &Filters,
    ) -> Result<Filing, TooMany> {
        let (field, mut part) = part_of(filter);
        let limits = [
            (
                part.globs,
                self.counts.globs,
                settings.max_globs,
                ErrorCode::TooManyGlobs,
                "globs (max_globs)",
            ),
            (
                part.expressions,
                self.counts.expressions,
                settings.max_regexes,
                ErrorCode::TooManyExpressions,
                "regular expressions (max_regexes)",
            ),
            (
                part.templates,
                self.counts.templates,
                settings.max_templates,
                ErrorCode::TooManyDistinctTemplates,
                "templates (max_templates)",
            ),
        ];
        let too_many = |limit: u64, code, name: &str| TooMany {
            code,
            message: format!(
                "{field}: limit of {limit} distinct {name} of all connections reached"
            ),
        };
        for (more, count, limit, code, name) in limits {
            if more > 0 && count >= size(limit) {
                return Err(too_many(limit, code, name));
            }
        }
        let (place, crowd) = self.place(filter);
        if place == Place::Anywhere {
            let limit = settings.max_unindexed_patterns;
            if self.counts.unindexed >= size(limit) {
                let name = "patterns without an indexed literal (max_unindexed_patterns)";
                return Err(too_many(limit, ErrorCode::TooManyUnindexedPatterns, name));
            }
            part.unindexed = 1;
        }
        self.counts.globs += part.globs;
        self.counts.expressions += part.expressions;
        self.counts.templates += part.templates;
        self.counts.unindexed += part.unindexed;
        if let Some(crowd) = crowd {
            *self.crowds.entry(crowd).or_default() += 1;
        }
        Ok(Filing {
            place,
            part,
            hash,
            crowd,
            filters: filters.clone(),
        })
    }

    /// The literal with the fewest others, and its hash.
    fn place(&self, filter: &Subscription) -> (Place, Option<u64>) {
        let mut best = (MAX_CROWD, Place::Anywhere, None);
        let mut consider = |place: Place, crowd: u64| {
            let count = self.crowds.get(&crowd).copied().unwrap_or(0);
            if count < best.0 {
                best = (count, place, Some(crowd));
            }
        };
        match filter {
            Subscription::Pattern(pattern) => {
                for (place, literal) in [
                    (Place::Beginning, pattern.beginning()),
                    (Place::Ending, pattern.ending()),
                ] {
                    if !literal.is_empty() {
                        let is_ending = place == Place::Ending;
                        consider(place, self.hasher.hash_one((is_ending, literal)));
                    }
                }
            }
            Subscription::Template(template) => {
                for (number, scalar) in template.scalars().enumerate() {
                    consider(Place::Scalar(number), self.hasher.hash_one(scalar));
                }
            }
            Subscription::Everything | Subscription::Topic(_) => {}
        }
        (best.1, best.2)
    }
}

impl Held {
    fn upgrade(&self) -> Option<Subscription> {
        match self {
            Self::Pattern(pattern) => pattern.upgrade().map(Subscription::Pattern),
            Self::Template(template) => template.upgrade().map(Subscription::Template),
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_gone(),
            Self::Template(template) => template.is_gone(),
        }
    }
}

/// The field of a request that names it, and what it counts as.
fn part_of(filter: &Subscription) -> (&'static str, Counts) {
    let mut part = Counts::default();
    let field = match filter {
        Subscription::Everything | Subscription::Topic(_) => "topics",
        Subscription::Pattern(pattern) if pattern.is_regex() => {
            part.expressions = 1;
            "match"
        }
        Subscription::Pattern(_) => {
            part.globs = 1;
            "topics"
        }
        Subscription::Template(template) => {
            part.templates = 1;
            part.expressions = usize::from(template.is_expression());
            "template"
        }
    };
    (field, part)
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
