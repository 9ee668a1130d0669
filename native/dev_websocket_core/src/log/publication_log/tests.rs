use super::*;
use crate::log::publication::tests::draft;

const NO_LIMIT: u64 = u64::MAX;

#[test]
fn each_reader_sees_every_publication_in_order() {
    let (log, mut cursors) = Log::new(3);
    for n in 1..=1000 {
        assert_eq!(log.append(draft(&["t"], &n.to_string()), NO_LIMIT), Ok(n));
    }
    for cursor in &mut cursors {
        for n in 1..=1000 {
            assert_eq!(cursor.next().unwrap().seq(), n);
        }
        assert!(!cursor.has_next());
        assert!(cursor.next().is_none());
    }
}

/// A shard sleeps only if its cursor has nothing to take, also behind the last publication of a full segment.
#[test]
fn a_reader_that_has_taken_everything_has_nothing_next() {
    for text in ["small".into(), "x".repeat(50_000)] {
        let (log, mut cursors) = Log::new(1);
        let mut cursor = cursors.pop().unwrap();
        for n in 1..=1000 {
            assert!(!cursor.has_next(), "{n}");
            log.append(draft(&["t"], &text), NO_LIMIT).unwrap();
            assert!(cursor.has_next(), "{n}");
            assert_eq!(cursor.next().unwrap().seq(), n);
            cursor.finish();
            log.trim();
        }
        assert!(!cursor.has_next());
    }
}

#[test]
fn concurrent_writers_lose_nothing_and_keep_their_own_order() {
    let (log, mut cursors) = Log::new(1);
    let (writers, each) = (4, 5_000_u64);
    let mut cursor = cursors.pop().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let log = &log;
            scope.spawn(move || {
                for n in 0..each {
                    log.append(draft(&[], &format!("{writer} {n}")), NO_LIMIT)
                        .unwrap();
                }
            });
        }
        let mut next = vec![0; writers];
        let mut seen = 0;
        while seen < each * writers as u64 {
            let Some(publication) = cursor.next() else {
                std::thread::yield_now();
                continue;
            };
            seen += 1;
            assert_eq!(publication.seq(), seen);
            let (_, data) = publication.raw_frame();
            let text: String = serde_json::from_slice(data).unwrap();
            let (writer, n) = text.split_once(' ').unwrap();
            let writer: usize = writer.parse().unwrap();
            assert_eq!(n.parse::<u64>().unwrap(), next[writer]);
            next[writer] += 1;
        }
    });
}

#[test]
fn the_queue_is_bounded_in_bytes_until_the_slowest_reader_is_done() {
    let (log, mut cursors) = Log::new(2);
    let message = || draft(&["t"], &"x".repeat(1000));
    let size = message().footprint() as u64;
    let loss = message().into_loss().footprint() as u64;
    let limit = size * 8;
    let append = || log.append(message(), limit);
    for n in 1..=8 {
        assert_eq!(append(), Ok(n));
    }
    // Gap notices may take an eighth of the limit on top.
    let told = limit / LOSS_SHARE / loss;
    assert!(told > 1);
    for _ in 0..told + 5 {
        assert_eq!(append(), Err(Rejected::Overload));
    }
    assert_eq!(log.waiting_bytes(), limit + told * loss);
    let mut slow = cursors.pop().unwrap();
    let mut fast = cursors.pop().unwrap();
    while fast.next().is_some() {}
    fast.finish();
    assert_eq!(append(), Err(Rejected::Overload));
    for _ in 0..3 {
        slow.next().unwrap();
    }
    slow.finish();
    // The remaining losses are reported before the next message is appended.
    assert_eq!(append(), Ok(8 + told + 2));
    let seen: Vec<_> = std::iter::from_fn(|| fast.next()).collect();
    assert_eq!(seen[0].lost_messages(), 6);
    assert!(seen[0].concerns_everybody());
    assert_eq!(seen[1].lost_messages(), 0);
    assert!(!log.settle());
}

#[test]
fn losses_are_told_when_nobody_publishes_any_more() {
    let (log, mut cursors) = Log::new(1);
    assert_eq!(log.append(draft(&["t"], "x"), 1), Err(Rejected::Overload));
    assert!(cursors[0].next().is_none());
    assert!(log.settle());
    assert!(!log.settle());
    let loss = cursors[0].next().unwrap();
    assert_eq!((loss.seq(), loss.lost_messages()), (1, 1));
    let json: serde_json::Value = serde_json::from_slice(&loss.json_frame()[2..]).unwrap();
    let expected = serde_json::json!(
        {"type": "gap", "reason": "overload", "dropped": 1, "after": 0, "next": 2});
    assert_eq!(json, expected);
}

fn seqs(past: &PastPublications) -> Vec<u64> {
    past.publications.iter().map(|p| p.seq()).collect()
}

#[test]
fn past_publications_are_read_by_number() {
    let (log, cursors) = Log::new(1);
    drop(cursors);
    assert_eq!(log.read(1, 9).first, 1);
    for _ in 0..1000 {
        log.append(draft(&["t"], &"x".repeat(1000)), NO_LIMIT)
            .unwrap();
    }
    for from in [1, 2, 100, 128, 129, 130, 500, 999, 1000] {
        let expected: Vec<u64> = (from..=1000).take(7).collect();
        let past = log.read(from, 7);
        assert_eq!((seqs(&past), past.first), (expected, from));
    }
    let past = log.read(1001, 7);
    assert_eq!((past.publications.len(), past.first), (0, 1001));
    let mut from = 1;
    while from <= 1000 {
        let past = log.read(from, 300);
        assert_eq!(past.publications[0].seq(), from);
        from = past.publications.last().unwrap().seq() + 1;
    }
    log.keep(256 * 1024);
    let past = log.read(1, 5);
    assert!(past.first > 1);
    assert_eq!(seqs(&past), (past.first..).take(5).collect::<Vec<_>>());
    log.keep(0);
    let past = log.read(1, 5000);
    assert_eq!((past.publications.len(), past.first), (0, 1001));
}

#[test]
fn reading_back_begins_right_before_a_number_at_any_size() {
    for size in [10, 1000, 10_000, 100_000, 300_000] {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        let last = if size > 10_000 { 20 } else { 400 };
        for _ in 0..last {
            log.append(draft(&["t"], &"x".repeat(size)), NO_LIMIT)
                .unwrap();
        }
        for before in [2, 3, last / 2, last, last + 1, last + 9] {
            let back = log.read_back(before, 2);
            let newest = before.min(last + 1) - 1;
            let seqs: Vec<u64> = back.iter().map(|p| p.seq()).collect();
            let expected: Vec<u64> = (1..=newest).rev().take(2).collect();
            assert_eq!(seqs, expected, "{size} before {before}");
        }
        assert!(log.read_back(1, 2).is_empty());
    }
}

#[test]
fn history_keeps_as_many_of_the_newest_as_fit_into_its_bytes() {
    let size = draft(&["t"], "x").footprint() as u64;
    // The counts cover the open segment and reads across sealed ones.
    for count in [1, 3, 127, 128, 129, 300] {
        let (log, cursors) = Log::new(1);
        drop(cursors);
        for _ in 0..500 {
            log.append(draft(&["t"], "x"), NO_LIMIT).unwrap();
        }
        for (limit, kept) in [
            (count * size + 1, count),
            (count * size, count),
            (count * size - 1, count - 1),
        ] {
            log.keep(limit);
            assert_eq!(log.read(0, 0).first, 501 - kept, "{limit}");
            assert_eq!(log.history_bytes(), kept * size);
            let back = log.read_back(501, 1);
            assert_eq!(back.len() as u64, kept.min(1));
            // A trim unlinks exactly the forgotten publications.
            log.trim();
            assert_eq!(log.read(0, 0).first, 501 - kept, "{limit}");
        }
        // Forgotten publications stay forgotten.
        log.keep(NO_LIMIT);
        assert_eq!(log.history_bytes(), (count - 1) * size);
        log.append(draft(&["t"], "x"), NO_LIMIT).unwrap();
        assert_eq!(log.history_bytes(), count * size);
    }
}

#[test]
fn memory_of_the_history_is_given_up_but_for_one_segment() {
    let (log, mut cursors) = Log::new(1);
    let mut cursor = cursors.pop().unwrap();
    log.keep(1 << 20);
    let mut given_up = 0;
    for seq in 1..=2000 {
        log.append(draft(&["t"], &"x".repeat(1000)), NO_LIMIT)
            .unwrap();
        while cursor.next().is_some() {}
        given_up += log.trim().len() as u64;
        assert!(log.history_bytes() <= 1 << 20);
        let forgotten = log.read(0, 0).first - 1;
        assert!(forgotten - given_up <= SEGMENT_SLOTS as u64, "{seq}");
    }
    log.keep(0);
    given_up += log.trim().len() as u64;
    // The reader is at the end of the last segment.
    assert!(2000 - given_up <= SEGMENT_SLOTS as u64);
    log.append(draft(&["t"], "x"), NO_LIMIT).unwrap();
    assert_eq!(cursor.next().unwrap().seq(), 2001);
    assert_eq!(log.read(0, 9).first, 2002);
}

#[test]
fn a_long_chain_is_dropped_without_a_deep_stack() {
    let (log, cursors) = Log::new(1);
    for _ in 0..SEGMENT_SLOTS * 20_000 / 128 {
        log.append(draft(&[], ""), NO_LIMIT).unwrap();
        let appended = log.appended_bytes();
        log.head.lock().seal(appended);
    }
    drop(log);
    drop(cursors);
}
