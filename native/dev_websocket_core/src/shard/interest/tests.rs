use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::message::process_id::ID_LENGTH;
use crate::shard::registry::Registry;
use crate::shard::topic_registry::TopicRegistry;
use crate::subscription::Subscription;
use crate::subscription::template::Template;
use crate::wire::control::regex;

fn id(letter: char) -> String {
    letter.to_string().repeat(ID_LENGTH)
}

fn process(letter: char) -> String {
    format!("process:{}", id(letter))
}

fn from(letter: char) -> String {
    format!("from:{}", id(letter))
}

fn ids(interest: &Interest) -> Vec<String> {
    let text = |wanted: &Wanted| String::from_utf8(wanted.id.to_vec()).unwrap();
    interest.processes.iter().map(text).collect()
}

#[test]
fn a_process_is_named_by_its_own_topics_alone() {
    let named: ProcessId = id('a').into_bytes().try_into().unwrap();
    assert_eq!(process_of(&process('a')), Some(named));
    assert_eq!(process_of(&from('a')), Some(named));
    assert_eq!(process_of(&format!("edges:{}", id('a'))), Some(named));
    for other in [
        format!("Process:{}", id('a')),
        format!("owner:{}", id('a')),
        format!("process:{}", "a".repeat(42)),
        format!("process:{}", "a".repeat(44)),
        format!("process:{}=", "a".repeat(42)),
        format!("process:{}+", "a".repeat(42)),
        format!("process:{}ü", "a".repeat(41)),
        "process:".to_owned(),
        "process".to_owned(),
        id('a'),
    ] {
        assert_eq!(process_of(&other), None, "{other}");
    }
    assert!(process_of(&format!("from:{}-_", "9".repeat(41))).is_some());
}

#[test]
fn a_process_is_there_while_any_of_its_topics_is() {
    let mut interests = Interests::default();
    assert!(interests.add_topic(&process('a')));
    assert!(!interests.add_topic(&from('a')));
    assert!(!interests.remove_topic(&process('a')));
    assert_eq!(interests.read(9).total, 1);
    assert!(interests.remove_topic(&from('a')));
    assert_eq!(interests.read(9), Interest::default());
    assert!(!interests.remove_topic(&from('a')));
}

#[test]
fn processes_stand_in_the_order_in_which_they_came() {
    let mut interests = Interests::default();
    for letter in ['c', 'a', 'b'] {
        interests.add_topic(&process(letter));
    }
    interests.add_topic(&from('c'));
    interests.remove_topic(&process('c'));
    assert_eq!(ids(&interests.read(9)), [id('c'), id('a'), id('b')]);
    for (max, count) in [(0, 0), (2, 2), (3, 3), (4, 3)] {
        let interest = interests.read(max);
        assert_eq!((interest.processes.len(), interest.total), (count, 3));
    }
    interests.remove_topic(&from('c'));
    interests.add_topic(&process('c'));
    assert_eq!(ids(&interests.read(9)), [id('a'), id('b'), id('c')]);
}

#[test]
fn a_process_is_wanted_since_the_first_of_its_present_subscribers() {
    let mut interests = Interests::default();
    let since = |interests: &Interests| interests.read(9).processes[0].since;
    let before = publication::now();
    interests.add_topic(&process('a'));
    let first = since(&interests);
    assert!((before..=publication::now()).contains(&first));
    while publication::now() == first {
        std::hint::spin_loop();
    }
    // A second topic changes nothing; a topic after the last removal does.
    interests.add_topic(&from('a'));
    interests.remove_topic(&process('a'));
    assert_eq!(since(&interests), first);
    interests.remove_topic(&from('a'));
    interests.add_topic(&process('a'));
    assert!(since(&interests) > first);
}

#[test]
fn other_subscriptions_change_the_interest_with_the_first_and_the_last() {
    let mut interests = Interests::default();
    assert!(interests.add_other());
    assert!(!interests.add_topic("prices"));
    assert!(interests.read(9).others);
    assert!(!interests.remove_other());
    assert!(interests.remove_topic("prices"));
    assert_eq!(interests.read(9), Interest::default());
    assert!(!interests.remove_other());
}

#[derive(Clone, Default)]
struct Watcher {
    told: Arc<AtomicU64>,
    is_gone: bool,
}

impl InterestWatcher for Watcher {
    fn changed(&self) -> bool {
        self.told.fetch_add(1, Ordering::Relaxed);
        !self.is_gone
    }
}

#[test]
fn a_watcher_is_told_of_the_first_change_after_it_looked() {
    let signal = InterestSignal::default();
    signal.changed();
    let watcher = Watcher::default();
    let told = |watcher: &Watcher| watcher.told.load(Ordering::Relaxed);
    signal.watch(watcher.clone());
    assert_eq!(told(&watcher), 0);
    signal.changed();
    signal.changed();
    assert_eq!(told(&watcher), 1);
    signal.arm();
    signal.changed();
    assert_eq!(told(&watcher), 2);
    let next = Watcher::default();
    signal.watch(next.clone());
    signal.changed();
    assert_eq!((told(&watcher), told(&next)), (2, 1));
}

#[test]
fn a_watcher_that_is_gone_is_forgotten() {
    let signal = InterestSignal::default();
    let watcher = Watcher {
        is_gone: true,
        ..Watcher::default()
    };
    signal.watch(watcher.clone());
    signal.changed();
    signal.arm();
    signal.changed();
    assert_eq!(watcher.told.load(Ordering::Relaxed), 1);
}

/// Checks that a watcher that reads after each signal sees every change in the end.
#[test]
fn no_change_falls_between_a_look_and_the_next_word() {
    const CHANGES: u64 = 20_000;
    struct Teller(std::sync::mpsc::Sender<()>);
    impl InterestWatcher for Teller {
        fn changed(&self) -> bool {
            self.0.send(()).is_ok()
        }
    }
    let signal = InterestSignal::default();
    let state = AtomicU64::new(0);
    let (teller, told) = std::sync::mpsc::channel();
    signal.watch(Teller(teller));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CHANGES {
                state.fetch_add(1, Ordering::Relaxed);
                signal.changed();
            }
        });
        let mut seen = 0;
        while seen < CHANGES {
            // A missed change would make it wait for ever.
            let word = told.recv_timeout(std::time::Duration::from_secs(30));
            assert_eq!(word, Ok(()), "{seen} changes were seen");
            signal.arm();
            seen = state.load(Ordering::Relaxed);
        }
    });
}

/// The subscriptions of the test, each with the process that it names.
fn choices() -> Vec<(Subscription, Option<char>)> {
    let topic = |name: &str| Subscription::parse(name).unwrap();
    vec![
        (topic(&process('a')), Some('a')),
        (topic(&from('a')), Some('a')),
        (topic(&process('b')), Some('b')),
        (topic(&format!("/{}~process@1.0", id('c'))), Some('c')),
        (topic("*"), None),
        (topic("prices"), None),
        (topic("process:*"), None),
        (regex("^process:").unwrap(), None),
        (
            Subscription::Template(Template::parse(r#"{"process":"x"}"#).unwrap()),
            None,
        ),
    ]
}

proptest! {
    /// Checks the interest against the subscriptions while connections of several shards arrive, leave and lose their
    /// shard. Each change must reach a watcher that has read before.
    #[test]
    fn the_interest_is_what_all_shards_hold(
        steps in prop::collection::vec((0..3_usize, 0..4_u32, 0..9_usize, 0..20_u8), 1..120),
    ) {
        let signal = Arc::new(InterestSignal::default());
        let watcher = Watcher::default();
        signal.watch(watcher.clone());
        let topics = TopicRegistry::new(signal.clone());
        let mut registries: Vec<_> = (0..3).map(|_| Registry::new()).collect();
        let mut held: Vec<BTreeSet<(u32, usize)>> = vec![BTreeSet::new(); 3];
        let choices = choices();
        let mut before = (BTreeSet::new(), false);
        for (shard, connection, choice, kind) in steps {
            if kind == 0 {
                // The shard panics.
                std::mem::replace(&mut registries[shard], Registry::new()).leave(&topics);
                held[shard].clear();
            } else if held[shard].remove(&(connection, choice)) {
                let entry = registries[shard].find(&choices[choice].0).unwrap();
                registries[shard].unsubscribe(entry, connection, &topics);
            } else {
                held[shard].insert((connection, choice));
                registries[shard].subscribe(choices[choice].0.clone(), connection, &topics);
            }
            let named = || held.iter().flatten().map(|(_, choice)| choices[*choice].1);
            let processes: BTreeSet<String> = named().flatten().map(id).collect();
            let others = named().any(|process| process.is_none());
            let interest = topics.interest(9);
            prop_assert_eq!(ids(&interest).into_iter().collect::<BTreeSet<_>>(), processes.clone());
            prop_assert_eq!(interest.processes.len(), interest.total);
            prop_assert_eq!(interest.others, others);
            let now = (processes, others);
            let told = watcher.told.swap(0, Ordering::Relaxed) > 0;
            prop_assert!(told || now == before);
            before = now;
            signal.arm();
        }
    }
}
