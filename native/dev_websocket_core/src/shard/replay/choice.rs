//! The subscriptions of one client, matched against past publications one at a time.
//!
//! The registry of the shard matches live publications against all subscriptions at once and caches topics for them. A
//! replay would fill its caches with old topics and would pay for the patterns of other clients. Therefore a replay has
//! its own matching, which can be interrupted between any two patterns.

use std::collections::HashSet;

use crate::log::publication::Publication;
use crate::message::fields::Fields;
use crate::message::topic::{PrecomputedHash, Topic};
use crate::subscription::Subscription;
use crate::subscription::pattern::Pattern;
use crate::subscription::template::Template;

/// Number of bytes of a message that one step reads.
const BYTES_PER_STEP: usize = 64;

/// Limit on the work before other connections get their turn. A step takes about a tenth of a microsecond.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    #[cfg(test)]
    pub(super) spent: usize,
}

impl Budget {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            left: steps,
            #[cfg(test)]
            spent: 0,
        }
    }

    /// Spends steps; the last ones may exceed the budget.
    pub(crate) fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        #[cfg(test)]
        {
            self.spent += steps;
        }
    }

    /// Spends the steps for bytes that are read or copied.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) {
        self.spend(1 + bytes / BYTES_PER_STEP);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

/// The subscriptions of a client.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    everything: bool,
    topics: HashSet<Topic, PrecomputedHash>,
    patterns: Vec<Pattern>,
    templates: Vec<Template>,
}

/// Number of pairs of topic and pattern that were evaluated for one publication.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan(usize);

impl Choice {
    pub(crate) fn of<'s>(subscriptions: impl Iterator<Item = &'s Subscription>) -> Self {
        let mut choice = Self::default();
        for subscription in subscriptions {
            match subscription {
                Subscription::Everything => choice.everything = true,
                Subscription::Topic(topic) => {
                    choice.topics.insert(topic.clone());
                }
                Subscription::Pattern(pattern) => choice.patterns.push(pattern.clone()),
                Subscription::Template(template) => choice.templates.push(template.clone()),
            }
        }
        choice
    }

    /// Returns true if the client gets a publication, however long that takes to find out.
    pub(crate) fn matches(&self, publication: &Publication) -> bool {
        let mut budget = Budget::new(usize::MAX);
        self.chooses(publication, &mut Scan::default(), &mut budget)
            .unwrap_or_default()
    }

    fn has_topics(&self) -> bool {
        self.everything || !self.topics.is_empty() || !self.patterns.is_empty()
    }

    /// Returns true if the client gets a publication. Returns `None` if the budget is spent before that is known; the
    /// scan then records where to continue.
    pub(super) fn chooses(
        &self,
        publication: &Publication,
        scan: &mut Scan,
        budget: &mut Budget,
    ) -> Option<bool> {
        budget.spend(1);
        if !self.has_topics() && self.templates.is_empty() {
            return Some(false);
        }
        if publication.concerns_everybody() {
            return Some(true);
        }
        if publication.is_edge() {
            let mut topics = publication.topics().iter();
            return Some(topics.any(|topic| self.topics.contains(topic)));
        }
        if self.has_topics() && !self.has_topic_of(publication, scan, budget)? {
            return Some(false);
        }
        Some(self.templates.is_empty() || self.has_template_of(publication, budget))
    }

    fn has_topic_of(
        &self,
        publication: &Publication,
        scan: &mut Scan,
        budget: &mut Budget,
    ) -> Option<bool> {
        let topics = publication.topics();
        budget.spend(topics.len());
        if self.everything || topics.iter().any(|topic| self.topics.contains(topic)) {
            return Some(true);
        }
        let pairs = topics.len() * self.patterns.len();
        while scan.0 < pairs {
            let topic = topics[scan.0 / self.patterns.len()].name();
            let pattern = &self.patterns[scan.0 % self.patterns.len()];
            budget.spend(pattern.steps(topic.len()));
            if pattern.is_match(topic) {
                return Some(true);
            }
            scan.0 += 1;
            if budget.is_spent() && scan.0 < pairs {
                return None;
            }
        }
        Some(false)
    }

    fn has_template_of(&self, publication: &Publication, budget: &mut Budget) -> bool {
        let bytes = publication.raw_frame().1.len();
        budget.spend_bytes(bytes);
        // The content of a lost message is unknown, so every possible subscriber is told.
        let Some(message) = publication.message() else {
            return true;
        };
        let Some(fields) = Fields::of(&message) else {
            return false;
        };
        // Building the index of the fields costs this once for all templates.
        budget.spend_bytes(bytes);
        self.templates.iter().any(|template| {
            budget.spend(template.steps(bytes));
            template.matches_fields(&fields)
        })
    }
}
