//! A draft is an encoded message, or a notice of lost ones, that has no sequence number yet.

use std::convert::Infallible;
use std::sync::Arc;

use super::parts::Parts;
use super::slot_gap::SlotGapNotice;
use super::stream_break::StreamBreak;
use super::{DATA, HEADROOM, NANOS, Notice, OverloadGap, Place, Publication, now_nanos};
use crate::error::Rejected;
use crate::log::buffer_pool::BufferPool;
use crate::log::slot_marks::Position;
use crate::message::Value;
use crate::message::json::{JsonWriter, TooLong};
use crate::message::process_id::is_process_id;
use crate::message::provenance::Provenance;
use crate::message::topic::{Topic, Topics};
use crate::wire::frame;

/// The maximum length of an overload gap frame, in bytes.
const OVERLOAD_GAP_FRAME: usize = 160;

/// The bytes that field names, timestamp and braces take between the headroom and the data.
const FIELDS: usize = 80;

/// An encoded message without a sequence number. A draft has exactly one owner.
#[derive(Debug)]
pub(crate) struct Draft(Arc<Publication>);

impl Draft {
    /// Encodes a message with its topics into a buffer of the pool.
    ///
    /// # Errors
    /// The call returns [`Rejected::TooLarge`] when the data is larger than `limit` bytes of JSON.
    pub(crate) fn encode(
        buffers: &BufferPool,
        topics: Topics,
        message: &Value<'_>,
        origin: &Provenance<'_>,
        limit: usize,
        commitments: bool,
    ) -> Result<Self, Rejected> {
        let write = |buffer: &mut Vec<u8>| {
            JsonWriter::new(buffer, limit, commitments)
                .write(message)
                .map_err(|TooLong| Rejected::TooLarge)
        };
        Self::of_message(buffers, topics, origin, message.size_hint(), write)
    }

    /// Puts the JSON of a message between its fields.
    pub(crate) fn of_json(
        buffers: &BufferPool,
        topics: Topics,
        json: &[u8],
        origin: &Provenance<'_>,
    ) -> Self {
        let write = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(json);
            Ok::<(), Infallible>(())
        };
        let Ok(draft) = Self::of_message(buffers, topics, origin, json.len(), write);
        draft
    }

    fn of_message<E>(
        buffers: &BufferPool,
        topics: Topics,
        origin: &Provenance<'_>,
        size: usize,
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let write_origin = |buffer: &mut Vec<u8>| {
            // Writing without a limit cannot fail.
            let _ = origin.write(&mut JsonWriter::new(buffer, usize::MAX, false));
        };
        let fields = (now_nanos(), origin.is_edge);
        Self::around(buffers, topics, fields, size, write_origin, write_data)
    }

    /// Puts the fields around a message: the time of publishing, whether it is an edge, and its origin. `size` is the
    /// length of all that is written, as far as it is known.
    pub(super) fn around<E>(
        buffers: &BufferPool,
        topics: Topics,
        (cast_at, is_edge): (u64, bool),
        size: usize,
        write_origin: impl FnOnce(&mut Vec<u8>),
        write_data: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let names: usize = topics.iter().map(|topic| topic.name().len() + 3).sum();
        let room = HEADROOM + 2 * names + FIELDS + size;
        let mut spare = buffers.take(room);
        let mut buffer = spare.take_buffer(room);
        buffer.resize(HEADROOM, 0);
        let origin_start = write_fields(&mut buffer, cast_at, &topics, write_origin);
        let start = buffer.len();
        write_data(&mut buffer)?;
        let data = start..buffer.len();
        // The frame of an edge is its data, without fields around it.
        if !is_edge {
            buffer.push(b'}');
        }
        // The frame is at most as long as the buffer.
        let reserved = buffers.compression.room(buffer.len());
        let footprint = size_of::<Publication>()
            + buffer.capacity()
            + reserved.bytes
            + topics.iter().map(Topic::footprint).sum::<usize>();
        Ok(Self(spare.fill(Publication {
            cast_at,
            topics,
            buffer,
            // The fields before the data are short.
            origin_start: origin_start as u32,
            raw_header: frame::text_header(data.len()),
            data,
            footprint: to_u32(footprint),
            is_compressible: reserved.is_compressible,
            is_edge,
            ..Publication::default()
        })))
    }

    /// Returns the parts of the message; none for a notice.
    pub(crate) fn parts(&self) -> Option<Parts<'_>> {
        self.0.parts()
    }

    /// Turns the draft into a gap notice for this lost message. The notice takes little memory.
    pub(crate) fn into_loss(self) -> Self {
        let topics = match Arc::try_unwrap(self.0) {
            Ok(publication) => publication.topics,
            // A draft has one owner, so this case does not occur.
            Err(shared) => shared.topics.clone(),
        };
        Self::of_loss(
            topics,
            OverloadGap {
                messages: 1,
                concerns_everybody: false,
            },
        )
    }

    /// Makes a gap notice about `messages` lost messages for every subscriber.
    pub(crate) fn of_lost_messages(messages: u64) -> Self {
        Self::of_loss(
            Topics::new(),
            OverloadGap {
                messages,
                concerns_everybody: true,
            },
        )
    }

    fn of_loss(topics: Topics, loss: OverloadGap) -> Self {
        Self::of_notice(topics, Notice::OverloadGap(loss), OVERLOAD_GAP_FRAME)
    }

    /// Makes a notice about missing slots for the subscribers of a process.
    pub(crate) fn of_slot_gap(topics: Topics, gap: SlotGapNotice) -> Self {
        let frame = gap.frame_bytes();
        Self::of_notice(topics, Notice::SlotGap(Box::new(gap)), frame)
    }

    /// Makes a notice about a break in the numbers of a stream, for every subscriber.
    pub(crate) fn of_break(gap: StreamBreak) -> Self {
        let frame = gap.frame_bytes();
        Self::of_notice(Topics::new(), Notice::Break(Box::new(gap)), frame)
    }

    fn of_notice(topics: Topics, notice: Notice, frame: usize) -> Self {
        let names = topics.iter().map(Topic::footprint).sum::<usize>();
        Self(Arc::new(Publication {
            cast_at: now_nanos(),
            topics,
            footprint: to_u32(size_of::<Publication>() + frame + names),
            notice: Some(notice),
            ..Publication::default()
        }))
    }

    /// Returns whether the message has no topic, so that only subscribers of everything receive it.
    pub(crate) fn is_without_topic(&self) -> bool {
        self.0.topics.is_empty()
    }

    /// Returns whether this is the edge of a slot.
    pub(crate) fn is_edge(&self) -> bool {
        self.0.is_edge()
    }

    /// Returns the length of the message's JSON, in bytes.
    pub(crate) fn data_bytes(&self) -> usize {
        self.0.data.len()
    }

    /// Returns the memory that the draft takes, as in [`Publication::footprint`].
    pub(crate) fn footprint(&self) -> usize {
        self.0.footprint()
    }

    /// Gives an event its place in a process. A name that is no process id has none.
    pub(crate) fn at(self, process: &str, position: Position) -> Self {
        match process.as_bytes().try_into() {
            Ok(id) if is_process_id(process) => self.placed(Place {
                process: id,
                position,
            }),
            _ => self,
        }
    }

    pub(super) fn placed(mut self, place: Place) -> Self {
        if let Some(publication) = Arc::get_mut(&mut self.0) {
            publication.place = Some(Box::new(place));
            publication.footprint += size_of::<Place>() as u32;
        }
        self
    }

    /// Completes an event that is sent again, without a sequence number.
    pub(crate) fn replayed(mut self) -> Arc<Publication> {
        if let Some(publication) = Arc::get_mut(&mut self.0) {
            publication.mark_replayed();
        }
        self.0
    }

    /// Gives the message its place in the log and the number that clients see. The step is short because it runs under
    /// the lock of the log.
    pub(crate) fn number(mut self, seq: u64, number: u64) -> Arc<Publication> {
        // A draft has one owner, so this condition always holds.
        if let Some(publication) = Arc::get_mut(&mut self.0) {
            publication.number(seq, number);
        }
        self.0
    }
}

/// Publications are far smaller than 4 GiB, because the settings bound them to 64 MiB.
fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Writes all fields between the head and the data; returns the position where the provenance fields start.
fn write_fields(
    buffer: &mut Vec<u8>,
    cast_at: u64,
    topics: &[Topic],
    write_origin: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let mut writer = JsonWriter::new(buffer, usize::MAX, false);
    // Writing without a limit cannot fail. The explicit topic, if any, comes first because readers show the first
    // topic.
    let _ = writer.raw(r#","timestamp":"#);
    let _ = writer.raw(itoa::Buffer::new().format(cast_at / NANOS));
    let _ = writer.raw(r#","topic":"#);
    let _ = match topics.first() {
        Some(topic) => writer.text(topic.name()),
        None => writer.raw("null"),
    };
    let _ = writer.raw(r#","topics":"#);
    let _ = writer.texts(topics.iter().map(Topic::name));
    let origin_start = buffer.len();
    write_origin(buffer);
    buffer.extend_from_slice(DATA.as_bytes());
    origin_start
}
