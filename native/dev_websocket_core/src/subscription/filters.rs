//! A registry of the filters (globs, regular expressions, templates) that clients use. Each distinct filter is held
//! once, up to a limit, and assigned to a literal by which an index finds it.
//!
//! A topic or message is compared with the filters of its own literals, and with those that have no literal. Both sets
//! stay small: a literal has at most [`MAX_CROWD`] filters, and the setting `max_unindexed_patterns` limits the rest.

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

/// The maximum number of filters assigned to the same literal.
const MAX_CROWD: u32 = 8;

/// The filters in use; each server has one registry.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hasher: RandomState,
    /// The filters by hash. An entry of a dropped filter stays until its count is returned.
    held: HashMap<u64, SmallVec<[(Held, Share); 1]>, PrecomputedHash>,
    counts: Counts,
    /// The number of filters assigned to each literal, by its hash.
    crowds: HashMap<u64, u32, PrecomputedHash>,
}

/// The number of filters by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) globs: usize,
    /// Regular expressions over topics, and those of templates over a path.
    pub(crate) expressions: usize,
    pub(crate) templates: usize,
    /// Filters of all kinds that have no literal.
    pub(crate) unindexed: usize,
}

#[derive(Debug)]
enum Held {
    Pattern(WeakPattern),
    Template(WeakTemplate),
}

/// The literal by which an index finds a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The prefix of matching topics.
    Beginning,
    /// The suffix of matching topics.
    Ending,
    /// The template's scalar with this number.
    Scalar(usize),
    /// No literal: the filter is compared with every topic or message.
    Anywhere,
}

/// A filter's place among those in use; dropping this returns its share of the counts.
#[derive(Debug)]
pub(crate) struct Filing {
    place: Place,
    hash: u64,
    filters: Filters,
}

/// A filter's share of the counts.
#[derive(Debug)]
struct Share {
    part: Counts,
    crowd: Option<u64>,
}

impl Filing {
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Filing {
    fn drop(&mut self) {
        self.filters.state.lock().release_gone(self.hash);
    }
}

impl Filters {
    /// Returns the number of filters by kind.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Replaces the filters of a request by equal ones in use, and registers new ones for as long as a client uses
    /// them.
    ///
    /// # Errors
    /// The call returns [`TooMany`] when the filters would exceed a limit of the settings. The request's new filters
    /// are then dropped.
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
        // A filter's drop may take the lock, so these vectors outlive the lock.
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
                // An equal filter that is being dropped must not be counted against its successor.
                state.release_gone(hash);
                let (filing, share) = state.file(hash, subscription, settings, self)?;
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
                state.held.entry(hash).or_default().push((held, share));
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
        for (held, _) in self.held.get(&hash)? {
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

    /// Removes the dropped filters of this hash, and returns their shares of the counts.
    fn release_gone(&mut self, hash: u64) {
        let Some(same_hash) = self.held.get_mut(&hash) else {
            return;
        };
        let (counts, crowds) = (&mut self.counts, &mut self.crowds);
        same_hash.retain(|(held, share)| {
            // Asked once: another thread may drop the filter meanwhile, and comes here after this one.
            let is_gone = held.is_gone();
            if is_gone {
                counts.globs -= share.part.globs;
                counts.expressions -= share.part.expressions;
                counts.templates -= share.part.templates;
                counts.unindexed -= share.part.unindexed;
                if let Some(crowd) = &share.crowd
                    && let Some(count) = crowds.get_mut(crowd)
                {
                    *count -= 1;
                    if *count == 0 {
                        crowds.remove(crowd);
                    }
                }
            }
            !is_gone
        });
        if same_hash.is_empty() {
            self.held.remove(&hash);
        }
    }

    /// Counts a new filter and assigns its literal.
    fn file(
        &mut self,
        hash: u64,
        filter: &Subscription,
        settings: &Settings,
        filters: &Filters,
    ) -> Result<(Filing, Share), TooMany> {
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
        let filing = Filing {
            place,
            hash,
            filters: filters.clone(),
        };
        Ok((filing, Share { part, crowd }))
    }

    /// Returns the literal with the fewest filters, and its hash.
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

/// Returns the request field that names the filter, and its share of the counts.
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
