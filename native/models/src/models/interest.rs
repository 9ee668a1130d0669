//! The change notification for a watcher that reads from time to time.

use std::sync::Arc;

use loom::thread;

use super::interest::{InterestSignal, InterestWatcher};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a change that a look does not show is told", told),
    ("of several changes one is told", once),
    ("who takes a watcher's place is told", replaced),
];

#[derive(Default)]
struct Heard {
    words: AtomicU64,
    is_gone: AtomicBool,
}

#[derive(Clone, Default)]
struct Watcher(Arc<Heard>);

impl Watcher {
    fn words(&self) -> u64 {
        self.0.words.load(Ordering::SeqCst)
    }
}

impl InterestWatcher for Watcher {
    fn changed(&self) -> bool {
        self.0.words.store(self.words() + 1, Ordering::SeqCst);
        !self.0.is_gone.load(Ordering::SeqCst)
    }
}

/// The watched value, which changes before the change is signalled.
#[derive(Default)]
struct Watched {
    signal: InterestSignal,
    changes: AtomicBool,
}

fn change(watched: &Arc<Watched>) -> thread::JoinHandle<()> {
    let watched = watched.clone();
    thread::spawn(move || {
        watched.changes.store(true, Ordering::Relaxed);
        watched.signal.changed();
    })
}

/// Makes a watcher that has been notified of all earlier changes.
fn watched() -> (Arc<Watched>, Watcher) {
    let (watched, watcher) = (Arc::new(Watched::default()), Watcher::default());
    watched.signal.watch(watcher.clone());
    watched.signal.changed();
    assert_eq!(watcher.words(), 1);
    (watched, watcher)
}

fn told() {
    let (watched, watcher) = watched();
    let changing = change(&watched);
    watched.signal.arm();
    let is_seen = watched.changes.load(Ordering::Relaxed);
    changing.join().unwrap();
    assert!(is_seen || watcher.words() > 1);
}

fn once() {
    let (watched, watcher) = watched();
    watched.signal.arm();
    let changing = [change(&watched), change(&watched)];
    changing.into_iter().for_each(|changing| changing.join().unwrap());
    assert_eq!(watcher.words(), 2);
}

fn replaced() {
    let (watched, first) = watched();
    watched.signal.arm();
    first.0.is_gone.store(true, Ordering::SeqCst);
    let changing = change(&watched);
    let second = Watcher::default();
    watched.signal.watch(second.clone());
    let is_seen = watched.changes.load(Ordering::Relaxed);
    changing.join().unwrap();
    assert!(is_seen || second.words() > 0);
    // The second watcher's registration is its own, whenever the first one's end is noticed.
    let words = second.words();
    watched.signal.arm();
    watched.signal.changed();
    assert_eq!(second.words(), words + 1);
}
