//! The sleep of a shard: whoever has work for it wakes it, and only when it really sleeps.

use std::sync::Arc;

use loom::thread;

use super::mailbox::{Mailbox, Idle};
use crate::log::publication::draft::Draft;
use crate::log::publication_log::Log;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a publication never finds a shard asleep for good", || publications(1, Idle::Light)),
    ("nor do two at once", || publications(2, Idle::Light)),
    ("nor does a command", || commands(Idle::Light)),
    ("a dozing shard is woken by enough publications", || publications(2, Idle::Parked(2))),
    ("a dozing shard is woken by a command", || commands(Idle::Parked(u64::MAX - 1))),
];

/// A shard as it runs, until it has all there is.
fn publications(casters: u64, rest: Idle) {
    let (log, mut cursors) = Log::new(1);
    let (log, mailbox) = (Arc::new(log), Arc::new(Mailbox::<u64>::default()));
    for name in 0..casters {
        let (log, mailbox) = (log.clone(), mailbox.clone());
        thread::spawn(move || {
            log.append(Draft::new(name, 1), u64::MAX).unwrap();
            mailbox.wake(log.appended_bytes());
        });
    }
    let mut cursor = cursors.pop().unwrap();
    mailbox.attach();
    let mut seq = 0;
    while seq < casters {
        let published = log.last_seq();
        while seq < published {
            seq = cursor.next().unwrap().seq();
        }
        if seq < casters {
            mailbox.sleep_unless(rest, || cursor.has_next());
            // It may be told of work that is about to be published.
            thread::yield_now();
        }
    }
}

fn commands(rest: Idle) {
    let mailbox = Arc::new(Mailbox::<u64>::default());
    for connection in 0..2 {
        let mailbox = mailbox.clone();
        thread::spawn(move || mailbox.send(connection));
    }
    mailbox.attach();
    let mut commands = Vec::new();
    let mut taken = 0;
    while taken < 2 {
        mailbox.take(&mut commands);
        taken += commands.drain(..).count();
        if taken < 2 {
            mailbox.sleep_unless(rest, || false);
        }
    }
}
