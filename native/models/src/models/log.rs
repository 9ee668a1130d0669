//! The log: who appends holds its lock, who reads holds none.

use std::sync::Arc;

use loom::thread;

use super::log::{Cursor, Log};
use crate::error::Rejected;
use crate::log::publication::LOSS;
use crate::log::publication::draft::Draft;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("what is told of can be read, in order, by who takes no lock", order),
    ("past publications are read by number while others come and go", past),
    ("what waits is bounded, and every loss is told", losses),
];

const NO_LIMIT: u64 = u64::MAX;
/// So large that it ends its segment.
const LARGE: usize = 128 * 1024;

fn order() {
    let (log, mut cursors) = Log::new(1);
    let log = Arc::new(log);
    let writers = [vec![10, LARGE], vec![10, 10]].map(|sizes| {
        let log = log.clone();
        thread::spawn(move || {
            for size in sizes {
                log.append(Draft::new(size as u64, size), NO_LIMIT).unwrap();
            }
        })
    });
    let mut cursor = cursors.pop().unwrap();
    let mut seen = 0;
    for _ in 0..2 {
        // As a shard takes what was published before its commands.
        let published = log.last_seq();
        while seen < published {
            take(&mut cursor, &mut seen);
        }
        assert!(cursor.has_next() || log.last_seq() >= seen);
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(log.last_seq(), 4);
    while seen < 4 {
        assert!(cursor.has_next());
        take(&mut cursor, &mut seen);
    }
    assert!(cursor.next().is_none());
}

fn take(cursor: &mut Cursor, seen: &mut u64) {
    let publication = cursor.next().unwrap();
    *seen += 1;
    assert_eq!(publication.seq(), *seen);
    assert_eq!(publication.name, publication.footprint() as u64);
}

fn past() {
    let (log, mut cursors) = Log::new(1);
    let log = Arc::new(log);
    let mut cursor = cursors.pop().unwrap();
    let writer = {
        let log = log.clone();
        thread::spawn(move || {
            for size in [LARGE, 10, 10] {
                log.append(Draft::new(size as u64, size), NO_LIMIT).unwrap();
            }
        })
    };
    let shard = {
        let log = log.clone();
        thread::spawn(move || {
            while cursor.next().is_some() {}
            cursor.finish();
            log.keep(0);
            log.trim();
        })
    };
    let newest = log.last_seq();
    let past = log.read(1, 9);
    let seqs: Vec<u64> = past.publications.iter().map(|publication| publication.seq()).collect();
    let expected: Vec<u64> = (past.first..).take(seqs.len()).collect();
    assert_eq!(seqs, expected);
    assert!(past.first + seqs.len() as u64 > newest);
    writer.join().unwrap();
    shard.join().unwrap();
}

/// One message may wait, and nothing beside it. Two shards read it, each at its own pace.
fn losses() {
    let (log, cursors) = Log::new(2);
    let log = Arc::new(log);
    let limit = LOSS as u64;
    let shards = cursors.into_iter().enumerate().map(|(number, cursor)| {
        let log = log.clone();
        let mut shard = Shard { number, log, cursor, told: 0 };
        thread::spawn(move || {
            shard.take_and_end_batch();
            shard
        })
    });
    let shards: Vec<_> = shards.collect();
    let mut lost = 0;
    for _ in 0..2 {
        match log.append(Draft::new(1, LOSS), limit) {
            Ok(_) => {}
            Err(Rejected::Overload) => lost += 1,
            Err(other) => panic!("{other}"),
        }
        // What tells of losses comes on top.
        assert!(log.waiting_bytes() <= limit + limit / 8 + LOSS as u64);
    }
    let mut shards: Vec<_> = shards.into_iter().map(|shard| shard.join().unwrap()).collect();
    // They go on until there is nothing left.
    while shards.iter().any(|shard| shard.cursor.has_next()) {
        shards.iter_mut().for_each(Shard::take_and_end_batch);
    }
    assert!(!log.settle(), "nobody tells of a loss");
    shards.iter().for_each(|shard| assert_eq!(shard.told, lost));
}

/// What counts here of a shard.
struct Shard {
    number: usize,
    log: Arc<Log>,
    cursor: Cursor,
    told: u64,
}

impl Shard {
    fn take_and_end_batch(&mut self) {
        let mut is_empty = true;
        while let Some(publication) = self.cursor.next() {
            self.told += publication.lost_messages();
            is_empty = false;
        }
        if !is_empty {
            self.cursor.finish();
            self.log.settle();
        }
    }
}
