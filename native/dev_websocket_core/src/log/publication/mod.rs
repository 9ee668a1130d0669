//! A publication is an outgoing message that is encoded once and shared by all its receivers.

pub(crate) mod compressed;
pub(crate) mod draft;
mod event;
pub(crate) mod parts;
pub(crate) mod slot_gap;
pub(crate) mod stream_break;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arrayvec::ArrayVec;

use crate::log::slot_marks::Position;
use crate::message::process_id::ProcessId;
use crate::message::provenance::with_origin;
use crate::message::topic::{Topic, Topics};
use crate::wire::control::{GapReason, Reply};
use crate::wire::frame;

use self::compressed::Compressed;
use self::slot_gap::SlotGapNotice;
use self::stream_break::StreamBreak;

/// The room for the frame header and the fields that depend on the sequence number, which has at most 20 digits.
const HEADROOM: usize = frame::MAX_HEADER + PREFIX.len() + 20;
const PREFIX: &[u8] = br#"{"type":"message","seq":"#;
const REPLAYED_PREFIX: &[u8] = br#"{"type":"message","replayed":true"#;

/// Nanoseconds per millisecond.
const NANOS: u64 = 1_000_000;

/// The text between the fields and the data.
const DATA: &str = r#","data":"#;

/// A numbered message with its encoded frames.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// The place in the log.
    seq: u64,
    /// The number that clients see.
    number: u64,
    /// The time of publishing, in nanoseconds since 1970.
    cast_at: u64,
    topics: Topics,
    buffer: Vec<u8>,
    /// The position where the frame begins in the buffer; the frame extends to the end.
    frame_start: u32,
    /// The position where the provenance fields begin; these extend to [`DATA`].
    origin_start: u32,
    data: Range<usize>,
    raw_header: ArrayVec<u8, { frame::MAX_HEADER }>,
    footprint: u32,
    notice: Option<Notice>,
    /// True if memory for its compressed forms is reserved.
    is_compressible: bool,
    /// True for the edge of a slot, whose frame is the data alone.
    is_edge: bool,
    /// The place among the events of a process.
    place: Option<Box<Place>>,
    /// True after the search for its subscribers has panicked.
    poisoned: AtomicBool,
    /// The end of its server-sent event, made when the first client needs it.
    event_end: OnceLock<Box<str>>,
    /// Its compressed forms, made when the first client needs one.
    compressed: OnceLock<Box<Compressed>>,
}

/// The place of an event among those of its process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) process: ProcessId,
    pub(crate) position: Position,
}

/// The slots of a process that a publication is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots<'p> {
    pub(crate) process: &'p [u8],
    /// The first of them.
    pub(crate) from: u64,
    /// The event after them.
    pub(crate) next: Position,
}

/// A notice that is published in place of messages, as a `gap` frame.
#[derive(Debug)]
enum Notice {
    OverloadGap(OverloadGap),
    SlotGap(Box<SlotGapNotice>),
    Break(Box<StreamBreak>),
}

/// Messages that were dropped because the publish queue was full; a `gap` frame reports them.
#[derive(Debug, Clone, Copy)]
struct OverloadGap {
    messages: u64,
    /// True when the topics of the lost messages are unknown, so that every subscriber gets the notice.
    concerns_everybody: bool,
}

impl Publication {
    /// Makes an empty publication for the pool, with `bytes` bytes of touched memory.
    pub(crate) fn spare(bytes: usize) -> Self {
        Self {
            // The system hands out zeroed memory without touching its pages, so the fill value is not zero.
            buffer: vec![u8::MAX; bytes],
            ..Self::default()
        }
    }

    /// Takes the buffer and leaves an empty one.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Returns the capacity of the buffer, in bytes.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Writes the header, the type and the number before the fields. A notice is written as a whole.
    fn number(&mut self, seq: u64, number: u64) {
        self.seq = seq;
        self.number = number;
        if let Some(notice) = &self.notice {
            let frame = match notice {
                Notice::OverloadGap(loss) => Reply::Gap {
                    reason: GapReason::Overload,
                    dropped: loss.messages,
                    after: number.saturating_sub(1),
                    next: number.saturating_add(1),
                    epoch: None,
                }
                .encode(),
                Notice::SlotGap(gap) => gap.encode(Some(number), self.cast_at / NANOS),
                Notice::Break(gap) => gap.encode(),
            };
            self.buffer = frame.to_vec();
            return;
        }
        self.begin(PREFIX, itoa::Buffer::new().format(number).as_bytes());
    }

    /// Writes the header and the type before the fields of a replayed event, which has no sequence number.
    fn mark_replayed(&mut self) {
        self.begin(REPLAYED_PREFIX, b"");
    }

    fn begin(&mut self, prefix: &[u8], digits: &[u8]) {
        if self.is_edge {
            let start = self.data.start - self.raw_header.len();
            self.frame_start = start as u32;
            self.buffer[start..self.data.start].copy_from_slice(&self.raw_header);
            return;
        }
        let digits_start = HEADROOM - digits.len();
        let start = digits_start - prefix.len();
        let header = frame::text_header(self.buffer.len() - start);
        let frame_start = start - header.len();
        // The frame begins in the headroom, or before the data of an edge.
        self.frame_start = frame_start as u32;
        self.buffer[frame_start..start].copy_from_slice(&header);
        self.buffer[start..digits_start].copy_from_slice(prefix);
        self.buffer[digits_start..HEADROOM].copy_from_slice(digits);
    }

    /// Returns the place in the log; the first publication has 1.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the number that clients see.
    pub(crate) fn shown_number(&self) -> u64 {
        self.number
    }

    /// Returns the first of the numbers for which it stands. Only the notice of a break stands for several.
    pub(crate) fn first_number(&self) -> u64 {
        match &self.notice {
            Some(Notice::Break(gap)) if gap.epoch.is_none() => gap.after + 1,
            _ => self.number,
        }
    }

    /// Returns whether another epoch begins here. Its notice is never dropped, because it names the epoch.
    pub(crate) fn begins_epoch(&self) -> bool {
        matches!(&self.notice, Some(Notice::Break(gap)) if gap.epoch.is_some())
    }

    /// Returns the nanoseconds from 1970 to publishing.
    pub(crate) fn cast_at(&self) -> u64 {
        self.cast_at
    }

    /// Returns the distinct topics.
    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Returns the frame of the JSON format.
    pub(crate) fn json_frame(&self) -> &[u8] {
        &self.buffer[self.frame_start as usize..]
    }

    /// Returns header and data of the raw format. Both are empty for a notice: a gap is no message.
    pub(crate) fn raw_frame(&self) -> (&[u8], &[u8]) {
        (&self.raw_header, &self.buffer[self.data.clone()])
    }

    /// Returns the number of lost messages that this notice reports; 0 for a message.
    pub(crate) fn lost_messages(&self) -> u64 {
        match &self.notice {
            Some(Notice::OverloadGap(loss)) => loss.messages,
            Some(Notice::Break(gap)) => gap.dropped(),
            Some(Notice::SlotGap(_)) | None => 0,
        }
    }

    /// Returns whether this is a message rather than a notice of missing ones.
    pub(crate) fn is_message(&self) -> bool {
        self.notice.is_none()
    }

    /// Returns whether this is the edge of a slot, which only subscribers of exactly its topic get.
    pub(crate) fn is_edge(&self) -> bool {
        self.is_edge
    }

    /// Returns whether this notice reports messages that nobody gets: the publish queue was full, or a stream has a
    /// break.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(
            &self.notice,
            Some(Notice::OverloadGap(_) | Notice::Break(_))
        )
    }

    /// Returns the slots that the publication is about: the slot of an event, or the missing ones of a notice.
    pub(crate) fn slots(&self) -> Option<Slots<'_>> {
        if let Some(place) = &self.place {
            let Position { slot, part } = place.position;
            return Some(Slots {
                process: &place.process,
                from: slot,
                next: Position {
                    slot,
                    part: part + 1,
                },
            });
        }
        match &self.notice {
            Some(Notice::SlotGap(notice)) => notice.gap.slots().map(|slots| Slots {
                process: notice.process.as_bytes(),
                from: slots.from(),
                next: Position {
                    slot: slots.to() + 1,
                    part: 0,
                },
            }),
            Some(Notice::OverloadGap(_) | Notice::Break(_)) | None => None,
        }
    }

    /// Returns whether every subscriber gets this publication, regardless of its topics.
    pub(crate) fn concerns_everybody(&self) -> bool {
        match &self.notice {
            Some(Notice::OverloadGap(loss)) => loss.concerns_everybody,
            Some(Notice::Break(_)) => true,
            Some(Notice::SlotGap(_)) | None => false,
        }
    }

    /// Records that the search for its subscribers panicked, so that no shard tries again.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Returns whether the search for its subscribers panicked.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Returns the message as sent, with the node's provenance, for filters beyond topics. Neither a notice nor an edge
    /// has one.
    pub(crate) fn message(&self) -> Option<serde_json::Value> {
        if self.notice.is_some() || self.is_edge {
            return None;
        }
        let message = serde_json::from_slice(&self.buffer[self.data.clone()]).ok()?;
        let origin = &self.buffer[self.origin_start as usize..self.data.start - DATA.len()];
        Some(with_origin(message, std::str::from_utf8(origin).ok()?))
    }

    /// Returns the memory that the publication takes, in bytes, for the bounds of queues and history.
    pub(crate) fn footprint(&self) -> usize {
        self.footprint as usize
    }
}

/// Returns the milliseconds since 1970.
pub(crate) fn now() -> u64 {
    now_nanos() / NANOS
}

/// Returns the nanoseconds since 1970, for some centuries.
pub(crate) fn now_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::draft::Draft;
    use super::slot_gap::{SlotGap, SlotRange};
    use super::*;
    use crate::error::Rejected;
    use crate::log::buffer_pool::BufferPool;
    use crate::message::Value;
    use crate::message::provenance::{Provenance, UNKNOWN};

    /// Makes a publication for tests of queues and matching.
    pub(crate) fn publication(seq: u64, topics: &[&str], data: &str) -> Arc<Publication> {
        draft(topics, data).number(seq, seq)
    }

    /// Makes a notice of a missing slot.
    pub(crate) fn slot_gap(seq: u64, topics: &[&str]) -> Arc<Publication> {
        let gap = SlotGapNotice {
            process: "p".into(),
            gap: SlotGap::NotCached(SlotRange::new(4, 4).unwrap()),
        };
        Draft::of_slot_gap(named(topics), gap).number(seq, seq)
    }

    /// Makes a publication of a message in JSON.
    pub(crate) fn message(seq: u64, topics: &[&str], json: &str) -> Arc<Publication> {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        draft_of(topics, &Value::from(&json)).number(seq, seq)
    }

    pub(crate) fn draft(topics: &[&str], data: &str) -> Draft {
        draft_of(topics, &Value::Text(data.into()))
    }

    fn named(topics: &[&str]) -> Topics {
        let topic = |name: &&str| Topic::new(name).unwrap();
        topics.iter().map(topic).collect()
    }

    fn draft_of(topics: &[&str], message: &Value<'_>) -> Draft {
        Draft::encode(
            &BufferPool::default(),
            named(topics),
            message,
            &UNKNOWN,
            1 << 20,
            false,
        )
        .unwrap()
    }

    fn payload(frame: &[u8]) -> serde_json::Value {
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        serde_json::from_slice(&frame[header..]).unwrap()
    }

    #[test]
    fn the_frame_has_the_documented_fields() {
        let publication = publication(1842, &["a", "action:Transfer"], "x\"y");
        let json = payload(publication.json_frame());
        let timestamp = json["timestamp"].as_u64().unwrap();
        assert!(timestamp > 1_600_000_000_000);
        assert_eq!(
            json,
            serde_json::json!({"type": "message", "seq": 1842, "timestamp": timestamp, "topic": "a", "topics": ["a", "action:Transfer"], "data": "x\"y"})
        );
        assert_eq!(
            publication.raw_frame(),
            (&[0x81, 6][..], br#""x\"y""#.as_slice())
        );
    }

    #[test]
    fn a_replayed_event_has_no_number() {
        let process = "p".repeat(43);
        let position = Position { slot: 7, part: 2 };
        let draft = draft(&["a"], &"x".repeat(70_000)).at(&process, position);
        let replayed = draft.replayed();
        let mut json = payload(replayed.json_frame());
        assert!(json["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
        json["timestamp"] = 0.into();
        let data = "x".repeat(70_000);
        assert_eq!(
            json,
            serde_json::json!({"type": "message", "replayed": true, "timestamp": 0, "topic": "a", "topics": ["a"], "data": data})
        );
        let slots = replayed.slots().unwrap();
        assert_eq!(slots.process, process.as_bytes());
        assert_eq!((slots.from, slots.next), (7, Position { slot: 7, part: 3 }));
        let gap = slot_gap(1, &[]);
        let slots = gap.slots().unwrap();
        assert_eq!((slots.from, slots.next), (4, Position { slot: 5, part: 0 }));
        assert_eq!(publication(1, &[], "").slots(), None);
    }

    #[test]
    fn the_frame_of_an_edge_is_its_data() {
        let origin = Provenance {
            process: Some("p".into()),
            is_edge: true,
            ..Provenance::default()
        };
        for length in [1, 125, 70_000] {
            let edge = || {
                let message = Value::Text("d".repeat(length).into());
                let topics = named(&["edges:p"]);
                let pool = BufferPool::default();
                Draft::encode(&pool, topics, &message, &origin, 1 << 20, false).unwrap()
            };
            for publication in [edge().number(u64::MAX, u64::MAX), edge().replayed()] {
                let (header, data) = publication.raw_frame();
                assert_eq!(publication.json_frame(), [header, data].concat());
                assert_eq!(data.len(), length + 2);
                assert!(publication.is_edge() && publication.is_message());
                assert!(publication.message().is_none());
            }
        }
    }

    #[test]
    fn a_slot_gap_is_a_frame_of_its_own() {
        let publication = slot_gap(1842, &["process:p"]);
        let json = payload(publication.json_frame());
        let timestamp = json["timestamp"].as_u64().unwrap();
        assert!(timestamp > 1_600_000_000_000);
        assert_eq!(
            json,
            serde_json::json!({"type": "gap", "reason": "not_cached", "process": "p", "from_slot": 4, "to_slot": 4, "dropped": 1, "seq": 1842, "timestamp": timestamp})
        );
        assert!(!publication.is_message() && !publication.is_loss());
        assert_eq!(publication.lost_messages(), 0);
        let (header, data) = publication.raw_frame();
        assert!(header.is_empty() && data.is_empty());
        assert!(publication.message().is_none());
    }

    #[test]
    fn the_largest_number_fits_the_headroom() {
        let publication = publication(u64::MAX, &[], &"d".repeat(70_000));
        assert_eq!(payload(publication.json_frame())["seq"], u64::MAX);
        assert_eq!(
            payload(publication.json_frame())["topic"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn data_is_bounded_at_the_limit() {
        let encode = |length: usize| {
            let text = "d".repeat(length);
            Draft::encode(
                &BufferPool::default(),
                Topics::new(),
                &Value::Text(text.into()),
                &UNKNOWN,
                100,
                false,
            )
            .map(|_| ())
        };
        assert_eq!(encode(97), Ok(()));
        assert_eq!(encode(98), Ok(()));
        assert_eq!(encode(99), Err(Rejected::TooLarge));
    }
}
