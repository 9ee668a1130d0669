use super::*;
use crate::log::publication::tests::{publication, slot_gap};
use crate::shard::ids::Seq;
use proptest::prelude::*;

/// A socket that takes a given number of bytes, then blocks until it gets more room.
#[derive(Default)]
struct Socket {
    room: usize,
    bytes: Vec<u8>,
}

impl Socket {
    fn with_room(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(self.room)];
            self.bytes.extend_from_slice(part);
            self.room -= part.len();
            taken += part.len();
        }
        Ok(taken)
    }

    /// Returns the JSON of each complete frame.
    fn frames(&self) -> Vec<serde_json::Value> {
        let mut rest = self.bytes.as_slice();
        let mut frames = Vec::new();
        while rest.len() > 1 {
            let (start, length) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(short)),
            };
            if rest.len() < start + length {
                break;
            }
            frames.push(serde_json::from_slice(&rest[start..start + length]).unwrap());
            rest = &rest[start + length..];
        }
        frames
    }

    fn numbers(&self) -> Vec<u64> {
        self.frames()
            .iter()
            .filter_map(|frame| frame["seq"].as_u64())
            .collect()
    }
}

fn batch(seqs: impl Iterator<Item = Seq>) -> Batch {
    let mut batch = Batch::default();
    seqs.for_each(|seq| batch.push(publication(seq, &["t"], "x")));
    batch
}

fn send(outbox: &mut Outbox, batch: &Batch, seqs: &[Seq], socket: &mut Socket) -> SendCounts {
    send_frames(outbox, batch, Frames::scattered(seqs), socket)
}

/// Sends a batch whose first frames are joined.
fn send_joined(
    outbox: &mut Outbox,
    batch: &Batch,
    seqs: &[Seq],
    joined_count: usize,
    socket: &mut Socket,
) -> SendCounts {
    let joined: Vec<u8> = seqs[..joined_count]
        .iter()
        .flat_map(|seq| batch.get(*seq).json_frame().to_vec())
        .collect();
    let frames = Frames {
        seqs,
        joined: &joined,
        joined_count,
        joined_saved: 0,
    };
    send_frames(outbox, batch, frames, socket)
}

fn send_frames(
    outbox: &mut Outbox,
    batch: &Batch,
    frames: Frames<'_>,
    socket: &mut Socket,
) -> SendCounts {
    let mut sent = SendCounts::default();
    outbox
        .send(batch, frames, &mut sent, |slices| socket.write(slices))
        .unwrap();
    sent
}

fn flush(outbox: &mut Outbox, socket: &mut Socket) -> SendCounts {
    let mut sent = SendCounts::default();
    outbox
        .flush(&mut sent, |slices| socket.write(slices))
        .unwrap();
    sent
}

fn seqs(range: std::ops::RangeInclusive<Seq>) -> Vec<Seq> {
    range.collect()
}

fn pong(seq: Seq) -> Bytes {
    let pong = Reply::Pong {
        id: &None,
        timestamp: 0,
        seq,
    };
    pong.encode()
}

#[test]
fn an_open_socket_takes_the_batch_in_one_write() {
    let batch = batch(1..=500);
    let mut socket = Socket::with_room(usize::MAX);
    let mut outbox = Outbox::new(Format::Json);
    let sent = send(&mut outbox, &batch, &seqs(1..=500), &mut socket);
    assert_eq!((sent.publications, sent.writes), (500, 1));
    assert!(outbox.is_empty() && !outbox.is_blocked());
    assert_eq!(socket.numbers(), (1..=500).collect::<Vec<_>>());
}

#[test]
fn more_than_one_write_can_name_follows_in_another() {
    let batch = batch(1..=5000);
    for (joined, writes) in [(0, 5), (1, 5), (3000, 2), (4999, 1), (5000, 1)] {
        let mut socket = Socket::with_room(usize::MAX);
        let mut outbox = Outbox::new(Format::Json);
        let sent = send_joined(&mut outbox, &batch, &seqs(1..=5000), joined, &mut socket);
        assert_eq!((sent.publications, sent.writes), (5000, writes), "{joined}");
        assert_eq!(socket.numbers(), (1..=5000).collect::<Vec<_>>());
    }
}

#[test]
fn dropped_publications_leave_one_exact_gap() {
    let batch = batch(1..=100);
    let length = batch.get(1).json_frame().len();
    let mut socket = Socket::with_room(length + 5);
    let mut outbox = Outbox::new(Format::Json);
    send(&mut outbox, &batch, &seqs(1..=100), &mut socket);
    assert!(outbox.is_blocked());
    // Publication 1 is sent and 2 is cut, so it stays; the newest ten of the others fit.
    let ten: usize = (91..=100)
        .map(|seq| batch.get(seq).json_frame().len())
        .sum();
    let kept = ten + batch.get(2).json_frame().len() + 11 * PLACE;
    assert_eq!(outbox.drop_oldest(kept), 88);
    assert_eq!(outbox.publications(), 11);
    socket.room = usize::MAX;
    let sent = flush(&mut outbox, &mut socket);
    assert_eq!(sent.publications, 11);
    let frames = socket.frames();
    assert_eq!(frames.len(), 13);
    assert_eq!(
        frames[2],
        serde_json::json!({"type": "gap", "reason": "slow", "dropped": 88, "after": 2, "next": 91})
    );
    assert_eq!(
        socket.numbers(),
        [&[1, 2][..], &(91..=100).collect::<Vec<_>>()].concat()
    );
}

/// Checks for any sizes that each publication pays for a constant number of visits to others.
#[test]
fn making_room_for_the_latest_takes_constant_work_for_each_publication() {
    const COUNT: u64 = 5_000;
    for (topics, sizes) in [(COUNT, 1), (100, 1), (COUNT, 40), (7, 40)] {
        let mut outbox = Outbox::new(Format::Json);
        let (mut dropped, mut most) = (0, 0);
        for seq in 1..=COUNT {
            let topic = format!("t{}", seq % topics);
            let data = "x".repeat(10 + (seq % sizes) as usize * 200);
            outbox.push(publication(seq, &[&topic], &data));
            if outbox.is_over(256 * 1024) {
                dropped += outbox.drop_for_latest(256 * 1024);
                assert!(!outbox.is_over(192 * 1024));
            }
            most = most.max(outbox.publications());
        }
        assert_eq!(dropped + outbox.publications(), COUNT);
        assert!(dropped > 0 && most > 10);
        let steps = outbox.steps as u64;
        assert!(
            steps <= 8 * COUNT,
            "{steps} for {topics} topics, {sizes} sizes"
        );
    }
}

#[test]
fn the_latest_of_each_topic_are_dropped_last_and_the_newest_stays_while_it_fits() {
    let mut outbox = Outbox::new(Format::Json);
    for seq in 1..=100 {
        let topic = if seq <= 2 { "rare" } else { "often" };
        outbox.push(publication(seq, &[topic], &"x".repeat(1000)));
    }
    let limit = outbox.waiting() - 1;
    let dropped = outbox.drop_for_latest(limit);
    assert!((26..=27).contains(&dropped), "{dropped}");
    let mut socket = Socket::with_room(usize::MAX);
    flush(&mut outbox, &mut socket);
    let numbers = socket.numbers();
    // The first of the rare ones is superseded, the second is not.
    assert_eq!(numbers[..2], [2, 3 + dropped - 1]);
    assert_eq!(numbers.len() as u64, 100 - dropped);

    let large = publication(101, &["x"], &"x".repeat(50_000));
    let fits = large.json_frame().len() + PLACE;
    for (limit, stays) in [(fits + 1, 1), (fits, 1), (fits - 1, 0)] {
        outbox.push(publication(100, &["y"], &"x".repeat(100)));
        outbox.push(large.clone());
        assert_eq!(outbox.drop_for_latest(limit), 2 - stays);
        outbox.drop_all();
    }
}

#[test]
fn a_missing_slot_takes_no_older_message_away() {
    let mut outbox = Outbox::new(Format::Json);
    let mut socket = Socket::default();
    for seq in 1..=2 {
        outbox.push(publication(seq, &["t"], "x"));
    }
    // The next message tells the client the same.
    outbox.push(slot_gap(3, &["t"]));
    outbox.push(slot_gap(4, &["u"]));
    outbox.push(publication(5, &["u"], "x"));
    assert_eq!(outbox.drop_superseded(0), 1);
    socket.room = usize::MAX;
    flush(&mut outbox, &mut socket);
    let told: Vec<_> = socket
        .frames()
        .iter()
        .map(|frame| (frame["seq"].as_u64(), frame["after"].as_u64()))
        .collect();
    let (slow_gap, message) = (|after| (None, Some(after)), |seq| (Some(seq), None));
    assert_eq!(
        told,
        [slow_gap(0), message(2), message(3), slow_gap(3), message(5)]
    );
}

#[test]
fn replies_are_never_dropped() {
    let mut outbox = Outbox::new(Format::Json);
    let mut socket = Socket::default();
    let batch = batch(1..=3);
    for seq in 1..=3 {
        outbox.push(batch.get(seq).clone());
        outbox.push_control(pong(0));
    }
    assert_eq!(outbox.drop_oldest(0), 3);
    socket.room = usize::MAX;
    flush(&mut outbox, &mut socket);
    let kinds: Vec<_> = socket
        .frames()
        .iter()
        .map(|frame| frame["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["gap", "pong", "gap", "pong", "gap", "pong"]);
}

#[test]
fn everything_unsent_can_be_dropped_but_a_frame_on_the_socket() {
    let batch = batch(1..=5);
    let mut socket = Socket::with_room(3);
    let mut outbox = Outbox::new(Format::Json);
    send(&mut outbox, &batch, &seqs(1..=5), &mut socket);
    assert_eq!(outbox.drop_all().publications, 4);
    socket.room = usize::MAX;
    flush(&mut outbox, &mut socket);
    assert_eq!(socket.numbers(), [1]);
}

#[test]
fn entries_behind_a_dropped_publication_are_dropped_with_it() {
    let batch = batch(1..=3);
    let mut socket = Socket::with_room(3);
    let mut outbox = Outbox::new(Format::Json);
    send(&mut outbox, &batch, &seqs(1..=1), &mut socket);
    outbox.push_control(pong(1));
    outbox.push(batch.get(2).clone());
    outbox.push_control(pong(2));
    outbox.push_direct(pong(2));
    outbox.push(batch.get(3).clone());
    let dropped = Dropped {
        publications: 2,
        control_bytes: pong(2).len(),
        direct_bytes: pong(2).len(),
    };
    assert_eq!(outbox.drop_all(), dropped);
    assert_eq!(outbox.drop_all(), Dropped::default());
    socket.room = usize::MAX;
    flush(&mut outbox, &mut socket);
    assert_eq!(socket.numbers(), [1, 1]);
    // The close frame comes next.
    outbox.push_control(pong(9));
    flush(&mut outbox, &mut socket);
    assert_eq!(socket.numbers(), [1, 1, 9]);
}

#[test]
fn a_raw_connection_gets_data_alone() {
    let batch = batch(1..=600);
    let mut socket = Socket::with_room(usize::MAX);
    let mut outbox = Outbox::new(Format::Raw);
    send(&mut outbox, &batch, &seqs(1..=600), &mut socket);
    assert_eq!(socket.frames(), vec![serde_json::json!("x"); 600]);
}

#[test]
fn a_broken_socket_is_an_error() {
    let batch = batch(1..=2);
    let mut outbox = Outbox::new(Format::Json);
    let broken = |_: &[IoSlice<'_>]| Err(io::ErrorKind::BrokenPipe.into());
    assert!(
        outbox
            .send(
                &batch,
                Frames::scattered(&[1, 2]),
                &mut SendCounts::default(),
                broken
            )
            .is_err()
    );
    // Every loss is counted.
    assert_eq!(outbox.publications(), 2);
}

proptest! {
    /// Checks that complete frames arrive in order, for any cuts by the socket. Each publication is delivered or
    /// counted in a gap.
    #[test]
    fn nothing_is_lost_unseen(steps in prop::collection::vec((0_usize..2000, 0_u64..20, 0_usize..20, 0_usize..4000), 1..40)) {
        let mut socket = Socket::default();
        let mut outbox = Outbox::new(Format::Json);
        let (mut next, mut delivered, mut dropped) = (1, 0, 0);
        for (room, count, joined, limit) in steps {
            socket.room = room;
            let batch = batch(next..next + count);
            let range = seqs(next..=next + count - 1);
            next += count;
            if outbox.is_empty() {
                let joined = joined.min(range.len());
                delivered += send_joined(&mut outbox, &batch, &range, joined, &mut socket).publications;
            } else {
                range.iter().for_each(|seq| outbox.push(batch.get(*seq).clone()));
                delivered += flush(&mut outbox, &mut socket).publications;
            }
            dropped += outbox.drop_oldest(limit);
        }
        socket.room = usize::MAX;
        delivered += flush(&mut outbox, &mut socket).publications;
        prop_assert!(outbox.is_empty());
        prop_assert_eq!(delivered + dropped, next - 1);
        let mut expected = 1;
        for frame in socket.frames() {
            if frame["type"] == "gap" {
                prop_assert_eq!(frame["after"].as_u64(), Some(expected - 1));
                expected += frame["dropped"].as_u64().unwrap();
            } else {
                prop_assert_eq!(frame["seq"].as_u64(), Some(expected));
                expected += 1;
            }
        }
        prop_assert_eq!(expected, next);
    }
}
