use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::cluster::outgoing::Outgoing;
use crate::log::publication::Publication;
use crate::log::publication_log::Cursor;
use crate::log::slot_marks::Position;
use crate::message::Value;
use crate::server::Server;
use crate::server::publish::Event;
use crate::settings::SettingValue;
use crate::wire::frame;

/// A server with a stream, without threads.
struct Node {
    server: Server,
    log: Cursor,
    stream: Stream,
}

impl Node {
    fn new() -> Self {
        let mut settings = Settings::default();
        let url = SettingValue::Text("nats://127.0.0.1:1".into());
        settings.set("engine", url).unwrap();
        let (server, log) = Server::without_threads(settings);
        let stream = Stream::of(&server.shared).unwrap();
        Self {
            server,
            log,
            stream,
        }
    }

    fn publish(&self, text: &str) {
        let message = Value::Map(vec![("topic".into(), Value::Text(text.into()))]);
        assert_eq!(self.server.publish(&message), Ok(0));
    }

    fn outgoing(&self) -> Vec<OutgoingRecord> {
        std::iter::from_fn(|| self.stream.next_outgoing(usize::MAX)).collect()
    }

    /// Returns the next publication, and its frame without the time.
    fn next(&mut self) -> (Arc<Publication>, Json) {
        let publication = self.log.next().unwrap();
        let mut json: Json =
            serde_json::from_slice(frame::payload(publication.json_frame())).unwrap();
        json.as_object_mut().unwrap().remove("timestamp");
        (publication, json)
    }

    fn shown(&self, place: u64) -> (String, u64) {
        let shown = self.server.shared.context.eras.at(place);
        (shown.epoch.to_string(), shown.number)
    }
}

fn message(seq: u64, topic: &str) -> Json {
    json!({"type": "message", "seq": seq, "topic": topic, "topics": [topic], "data": {"topic": topic}})
}

#[test]
fn a_message_is_published_when_it_comes_back_and_on_every_server_alike() {
    let (mut first, mut second) = (Node::new(), Node::new());
    first.publish("a");
    first.publish("b");
    assert!(first.log.next().is_none());
    let records = first.outgoing();
    for node in [&first, &second] {
        node.stream.begin("e", 500);
        for (record, number) in records.iter().zip(500..) {
            node.stream.receive(number, &record.bytes).unwrap();
        }
    }
    for number in [500, 501] {
        let ((one, frame), (other, _)) = (first.next(), second.next());
        let topic = if number == 500 { "a" } else { "b" };
        assert_eq!(frame, message(number, topic));
        assert_eq!(one.json_frame(), other.json_frame());
    }
    assert_eq!(first.shown(2), ("e".to_owned(), 501));
    assert_eq!(first.stream.last(), Some(("e".into(), 501)));
    // What came back needs no acknowledgement.
    assert_eq!(first.stream.unsettled(), 0);
    assert_eq!(
        first.stream.receive(501, &records[0].bytes),
        Err(OutOfOrder)
    );
    assert!(first.log.next().is_none());
}

#[test]
fn nothing_is_received_before_the_numbers_are_known() {
    let mut node = Node::new();
    node.publish("a");
    let record = node.outgoing().remove(0);
    assert_eq!(node.stream.receive(1, &record.bytes), Err(OutOfOrder));
    assert!(node.log.next().is_none());
}

#[test]
fn missing_numbers_are_one_gap_and_do_not_shift_what_follows() {
    let mut node = Node::new();
    node.publish("a");
    let record = node.outgoing().remove(0).bytes;
    node.stream.begin("e", 1);
    for number in [1, 5, 6] {
        node.stream.receive(number, &record).unwrap();
    }
    assert_eq!(node.next().1, message(1, "a"));
    let (gap, frame) = node.next();
    assert_eq!(
        frame,
        json!({"type": "gap", "reason": "expired", "dropped": 3, "after": 1, "next": 5})
    );
    assert!(gap.concerns_everybody() && gap.is_loss());
    assert_eq!(node.next().1, message(5, "a"));
    assert_eq!(node.next().1, message(6, "a"));
    assert_eq!(node.server.shared.context.counters.engine_missing.get(), 3);
    // A single one as well.
    node.stream.receive(8, &record).unwrap();
    assert_eq!(
        node.next().1,
        json!({"type": "gap", "reason": "expired", "dropped": 1, "after": 6, "next": 8})
    );
    assert_eq!(node.next().1, message(8, "a"));
    // A jump at the very beginning is a gap as well.
    let mut late = Node::new();
    late.stream.begin("e", 10);
    late.stream.receive(12, &record).unwrap();
    assert_eq!(
        late.next().1,
        json!({"type": "gap", "reason": "expired", "dropped": 2, "after": 9, "next": 12})
    );
}

#[test]
fn another_epoch_is_told_with_its_name_and_never_continues_old_numbers() {
    let mut node = Node::new();
    node.publish("a");
    let record = node.outgoing().remove(0).bytes;
    node.stream.begin("e", 8);
    node.stream.receive(8, &record).unwrap();
    node.stream.begin("e", 20);
    node.stream.begin("f", 1);
    node.stream.receive(1, &record).unwrap();
    assert_eq!(node.next().1, message(8, "a"));
    let (gap, frame) = node.next();
    assert_eq!(
        frame,
        json!({"type": "gap", "reason": "epoch", "dropped": 0, "after": 0, "next": 1, "epoch": "f"})
    );
    assert!(gap.begins_epoch());
    assert_eq!(node.next().1, message(1, "a"));
    assert_eq!(node.shown(1), ("e".to_owned(), 8));
    assert_eq!(node.shown(3), ("f".to_owned(), 1));
}

#[test]
fn a_record_of_another_version_is_a_gap_with_its_number() {
    let mut node = Node::new();
    node.stream.begin("e", 1);
    node.stream.receive(1, &[9, 9, 9]).unwrap();
    node.stream.receive(2, b"").unwrap();
    for number in [1, 2] {
        let frame = node.next().1;
        assert_eq!(
            frame,
            json!({"type": "gap", "reason": "unreadable", "dropped": 1, "after": number - 1, "next": number + 1})
        );
    }
    assert_eq!(
        node.server.shared.context.counters.engine_unreadable.get(),
        2
    );
}

#[test]
fn lost_messages_are_told_in_their_place_on_every_server() {
    let (sender, mut node) = (Node::new(), Node::new());
    let mut small = (*sender.server.settings()).clone();
    small.engine_bytes = 70_000;
    sender
        .server
        .shared
        .context
        .active
        .store(crate::settings::active::ActiveSettings::new(small));
    let message = Value::Text("x".repeat(40_000).into());
    let results: Vec<_> = (0..4).map(|_| sender.server.publish(&message)).collect();
    let full = Err(crate::Rejected::Overload);
    assert_eq!(results, [Ok(0), full, full, full]);
    assert_eq!(
        sender.server.shared.context.counters.dropped_overload.get(),
        3
    );
    sender.stream.settle(1);
    let records = sender.outgoing();
    node.stream.begin("e", 7);
    node.stream.receive(7, &records[0].bytes).unwrap();
    assert_eq!(
        node.next().1,
        json!({"type": "gap", "reason": "overload", "dropped": 3, "after": 6, "next": 8})
    );
}

#[test]
fn a_slot_that_another_server_has_published_is_not_published_again() {
    let (first, mut second) = (Node::new(), Node::new());
    let process = "p".repeat(43);
    let at = |part| Position { slot: 7, part };
    let event = || Event {
        message: Some(Value::Text("result".into())),
        origin: crate::message::provenance::Provenance::default(),
    };
    for node in [&first, &second] {
        node.server.shared.slots.set_mark(&process, 7);
        node.stream.begin("e", 1);
    }
    let publish = |node: &Node| {
        node.server
            .publish_part(&process, at(0), vec![event(), event()], true)
    };
    assert_eq!(publish(&first), Ok(()));
    let records = first.outgoing();
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, [format!("{process}:7:0"), format!("{process}:7:1")]);
    assert_eq!(records[0].process.as_deref(), Some(&*process));
    // The second one has computed it too, and is about to send its first event.
    let place = records.iter().zip(1..);
    for (record, number) in place {
        second.stream.receive(number, &record.bytes).unwrap();
    }
    let mark = second.server.shared.slots.mark(&process).unwrap();
    assert_eq!(mark.next(), Position { slot: 8, part: 0 });
    assert_eq!(publish(&second), Err(crate::SlotRejected::Repeated));
    assert!(second.outgoing().is_empty());
    let (publication, frame) = second.next();
    assert_eq!(
        (frame["seq"].as_u64(), frame["slot"].as_u64()),
        (Some(1), Some(7))
    );
    assert_eq!(publication.slots().unwrap().next, at(1));
}

#[test]
fn an_event_that_the_stream_has_twice_is_published_once() {
    let (first, mut node) = (Node::new(), Node::new());
    let process = "p".repeat(43);
    first.server.shared.slots.set_mark(&process, 7);
    let event = || Event {
        message: Some(Value::Text("result".into())),
        origin: crate::message::provenance::Provenance::default(),
    };
    let at = Position { slot: 7, part: 0 };
    let events = vec![event(), event()];
    first
        .server
        .publish_part(&process, at, events, true)
        .unwrap();
    first.publish("a");
    let records = first.outgoing();
    let [one, two, cast] = [0, 1, 2].map(|index| &records[index].bytes);
    node.stream.begin("e", 10);
    // The copies come late, also one behind the other, at the end, and before a gap.
    let all = [one, two, cast, one, two, cast, one, cast, two];
    for (record, number) in all.into_iter().zip(10..) {
        node.stream.receive(number, record).unwrap();
    }
    node.stream.receive(21, cast).unwrap();
    let shown: Vec<_> = std::iter::from_fn(|| node.log.next())
        .map(|publication| (publication.shown_number(), publication.is_message()))
        .collect();
    let messages = [10, 11, 12, 15, 17].map(|number| (number, true));
    assert_eq!(shown, [&messages[..], &[(20, false), (21, true)]].concat());
    let counters = &node.server.shared.context.counters;
    assert_eq!(counters.dropped_repeated.get(), 4);
    assert_eq!(counters.engine_missing.get(), 2);
    // Cursors of numbers that this server does not show are good as well.
    let eras = &node.server.shared.context.eras;
    for (number, place) in [
        (12, 3),
        (13, 3),
        (14, 3),
        (15, 4),
        (16, 4),
        (17, 5),
        (18, 5),
        (21, 7),
    ] {
        let since = crate::wire::cursor::Since::parse(&format!("e:{number}")).unwrap();
        assert_eq!(
            eras.find(&since),
            crate::log::eras::Found::At(place),
            "{number}"
        );
    }
    // Numbers that begin again may bring it again.
    node.stream.begin("f", 1);
    node.stream.receive(1, one).unwrap();
    assert_eq!(counters.dropped_repeated.get(), 4);
}

#[test]
fn a_notice_of_this_server_alone_takes_no_number() {
    let mut node = Node::new();
    let process = "p".repeat(43);
    node.publish("a");
    let record = node.outgoing().remove(0).bytes;
    node.server.shared.slots.set_mark(&process, 4);
    node.stream.begin("e", 1);
    node.stream.receive(1, &record).unwrap();
    let missing = crate::SlotGap::NotCached(crate::SlotRange::new(4, 5).unwrap());
    node.server.publish_slot_gap(&process, missing).unwrap();
    node.stream.receive(2, &record).unwrap();
    let seqs: Vec<_> = (0..3)
        .map(|_| node.next().1["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 1, 2]);
}

#[test]
fn servers_have_numbers_of_their_own() {
    let of = |node: &Node| -> u64 {
        let outgoing: &Outgoing = &node.stream.state.outgoing;
        outgoing.server()
    };
    assert_ne!(of(&Node::new()), of(&Node::new()));
}
