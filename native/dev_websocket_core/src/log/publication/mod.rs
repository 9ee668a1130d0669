//! A message on its way out: encoded once, shared by everybody who gets it.

pub(crate) mod draft;
pub(crate) mod slot_gap;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arrayvec::ArrayVec;

use crate::message::provenance::with_origin;
use crate::message::topic::{Topic, Topics};
use crate::wire::control::{GapReason, Reply};
use crate::wire::frame;
use crate::wire::sse;

use self::slot_gap::SlotGapNotice;

/// Room for the frame header and the fields that are known only once the publication has its number, of 20 digits at the
/// most.
const HEADROOM: usize = frame::MAX_HEADER + PREFIX.len() + 20;
const PREFIX: &[u8] = br#"{"type":"message","seq":"#;

/// Of one millisecond.
const NANOS: u64 = 1_000_000;

/// What stands between the fields and the data.
const DATA: &str = r#","data":"#;

/// A message with its place in the order, ready for the sockets.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    seq: u64,
    /// When it was cast, in nanoseconds since 1970.
    cast_at: u64,
    topics: Topics,
    buffer: Vec<u8>,
    /// Where the frame begins in the buffer; it goes to the end.
    frame_start: usize,
    /// Where the fields of its origin begin, which go to [`DATA`].
    origin_start: usize,
    data: Range<usize>,
    raw_header: ArrayVec<u8, { frame::MAX_HEADER }>,
    footprint: usize,
    notice: Option<Notice>,
    /// The search for its subscribers failed.
    poisoned: AtomicBool,
    /// What ends it as an event, made when the first client wants it so.
    event_end: OnceLock<Box<str>>,
}

/// What is published in place of messages: a `gap` frame.
#[derive(Debug)]
enum Notice {
    OverloadGap(OverloadGap),
    SlotGap(Box<SlotGapNotice>),
}

/// Messages that found no room. What is published in their place is the `gap` frame that tells of them.
#[derive(Debug, Clone, Copy)]
struct OverloadGap {
    messages: u64,
    /// Their topics are not known any more.
    concerns_everybody: bool,
}

impl Publication {
    /// None yet, with so many bytes of memory that has been touched.
    pub(crate) fn spare(bytes: usize) -> Self {
        Self {
            // Zeros could be had without touching anything.
            buffer: vec![u8::MAX; bytes],
            ..Self::default()
        }
    }

    /// Takes its memory; nothing is left of it.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Bytes of its buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Writes what stands before the fields: header, type and number. A notice is written as a whole.
    fn number(&mut self, seq: u64) {
        self.seq = seq;
        if let Some(notice) = &self.notice {
            let frame = match notice {
                Notice::OverloadGap(loss) => Reply::Gap {
                    reason: GapReason::Overload,
                    dropped: loss.messages,
                    after: seq - 1,
                    next: seq + 1,
                }
                .encode(),
                Notice::SlotGap(gap) => gap.encode(seq, self.cast_at / NANOS),
            };
            self.buffer = frame.to_vec();
            return;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(seq).as_bytes();
        let digits_start = HEADROOM - digits.len();
        let start = digits_start - PREFIX.len();
        let header = frame::text_header(self.buffer.len() - start);
        self.frame_start = start - header.len();
        self.buffer[self.frame_start..start].copy_from_slice(&header);
        self.buffer[start..digits_start].copy_from_slice(PREFIX);
        self.buffer[digits_start..HEADROOM].copy_from_slice(digits);
    }

    /// Its place in the order of all publications of this epoch, from 1.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// When it was cast, in nanoseconds since 1970.
    pub(crate) fn cast_at(&self) -> u64 {
        self.cast_at
    }

    /// Its topics, no two the same.
    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The frame of the JSON format.
    pub(crate) fn json_frame(&self) -> &[u8] {
        &self.buffer[self.frame_start..]
    }

    /// The frame of the raw format, header and data. Both are empty where a `gap` frame stands in place of a message.
    pub(crate) fn raw_frame(&self) -> (&[u8], &[u8]) {
        (&self.raw_header, &self.buffer[self.data.clone()])
    }

    /// Makes it ready for [`Self::event`].
    pub(crate) fn prepare_event(&self, epoch: &str) {
        self.event_end
            .get_or_init(|| sse::end_at(epoch, self.seq).into());
    }

    /// The parts of the event: what every event begins with, the JSON, and the cursor.
    pub(crate) fn event(&self) -> [&[u8]; 3] {
        let end = self.event_end.get().map_or(sse::END, |end| end.as_bytes());
        [sse::START, frame::payload(self.json_frame()), end]
    }

    /// Messages that are lost; 0 for a message that is not.
    pub(crate) fn lost_messages(&self) -> u64 {
        self.loss().map_or(0, |loss| loss.messages)
    }

    /// Whether it is a message, and not what tells of missing ones.
    pub(crate) fn is_message(&self) -> bool {
        self.notice.is_none()
    }

    /// Whether it tells of messages that found no room.
    pub(crate) fn is_loss(&self) -> bool {
        self.loss().is_some()
    }

    fn loss(&self) -> Option<&OverloadGap> {
        match &self.notice {
            Some(Notice::OverloadGap(loss)) => Some(loss),
            Some(Notice::SlotGap(_)) | None => None,
        }
    }

    /// Whether it is for every subscriber, whatever its topics.
    pub(crate) fn concerns_everybody(&self) -> bool {
        self.loss().is_some_and(|loss| loss.concerns_everybody)
    }

    /// Says that the search for its subscribers failed, so that nobody tries again.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether the search for its subscribers failed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// The message as it is sent and what the node knows of it, for who chooses by more than topics; none if it is
    /// missing.
    pub(crate) fn message(&self) -> Option<serde_json::Value> {
        if self.notice.is_some() {
            return None;
        }
        let message = serde_json::from_slice(&self.buffer[self.data.clone()]).ok()?;
        let origin = &self.buffer[self.origin_start..self.data.start - DATA.len()];
        Some(with_origin(message, std::str::from_utf8(origin).ok()?))
    }

    /// Bytes of memory that it takes, for the bounds of queues and history.
    pub(crate) fn footprint(&self) -> usize {
        self.footprint
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    now_nanos() / NANOS
}

/// Nanoseconds since 1970, which fit for some centuries.
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
    use crate::message::provenance::UNKNOWN;

    /// A publication for tests of queues and matching.
    pub(crate) fn publication(seq: u64, topics: &[&str], data: &str) -> Arc<Publication> {
        draft(topics, data).number(seq)
    }

    /// What tells of a missing slot.
    pub(crate) fn slot_gap(seq: u64, topics: &[&str]) -> Arc<Publication> {
        let gap = SlotGapNotice {
            process: "p".into(),
            gap: SlotGap::NotCached(SlotRange::new(4, 4).unwrap()),
        };
        Draft::of_slot_gap(named(topics), gap).number(seq)
    }

    /// A publication of a message that is given as JSON.
    pub(crate) fn message(seq: u64, topics: &[&str], json: &str) -> Arc<Publication> {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        draft_of(topics, &Value::from(&json)).number(seq)
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
