//! Tests of the registry against plain lists, and of the cost of look-ups.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::log::publication::tests::{message, publication};
use crate::settings::Settings;
use crate::subscription::filters::{Counts, Filters};
use crate::subscription::template::Template;

fn topic(name: &str) -> Subscription {
    Subscription::parse(name).unwrap()
}

fn told(registry: &mut Registry) -> Vec<(ConnectionIndex, EntryIndex)> {
    let mut told = Vec::new();
    let tell = |connection, topic| {
        told.push((connection, topic));
        None
    };
    registry.tell_touched(tell, |_, _| {});
    told.sort_unstable();
    told
}

#[test]
fn publications_are_listed_once_at_each_topic_with_subscribers() {
    let topics = TopicRegistry::default();
    let mut registry = Registry::new();
    let a = registry.subscribe(topic("a"), 7, &topics);
    assert_eq!(registry.subscribe(topic("a"), 8, &topics), a);
    let everything = registry.subscribe(topic("*"), 9, &topics);
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
    let topics = TopicRegistry::default();
    let mut registry = Registry::new();
    let a = registry.subscribe(topic("a"), 1, &topics);
    registry.subscribe(topic("a"), 2, &topics);
    registry.list(&publication(1, &["a"], ""));
    assert_eq!(topics.names(9), ["a"]);
    registry.unsubscribe(a, 1, &topics);
    assert_eq!(registry.topics(), 1);
    registry.unsubscribe(a, 2, &topics);
    assert_eq!(registry.topics(), 0);
    assert_eq!(registry.find(&topic("a")), None);
    assert!(topics.names(9).is_empty());
    // Another topic reuses the index and has nothing of the batch.
    let b = registry.subscribe(topic("b"), 3, &topics);
    assert_eq!(b, a);
    registry.tell_touched(|_, _| None, |_, _| {});
    assert!(registry.after(b, 0).is_empty());
    registry.end_batch();
}

/// Builds 51,200 globs and 6,400 templates, as 400 connections hold them.
fn crowded(filters: &Filters) -> Registry {
    let glob = |n: usize| match n % 4 {
        0 => format!("id{n}:*"),
        1 => format!("*:id{n}"),
        2 => format!("id:*{n}"),
        _ => format!("id:{n}*x*y"),
    };
    let topics = TopicRegistry::default();
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
            registry.subscribe(subscription, connection as ConnectionIndex, &topics);
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
    let topics = TopicRegistry::default();
    let mut registry = crowded(&filters);
    let entries: Vec<EntryIndex> = registry
        .entries
        .iter()
        .map(|(index, _)| index as EntryIndex)
        .collect();
    for entry in entries.into_iter().filter(|entry| *entry != EVERYTHING) {
        let connection = registry.entries[entry as usize].subscribers.as_slice()[0];
        registry.unsubscribe(entry, connection, &topics);
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
        let topics = TopicRegistry::default();
        let mut registry = Registry::new();
        let entries: Vec<EntryIndex> = (0..listed.len())
            .map(|n| registry.subscribe(topic(&format!("t{n}")), 1, &topics))
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
