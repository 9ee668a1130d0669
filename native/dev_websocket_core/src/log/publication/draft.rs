//! A message before it has its place in the order of publications: encoded, or lost.

use std::sync::Arc;

use super::slot_gap::SlotGapNotice;
use super::{DATA, HEADROOM, NANOS, Notice, OverloadGap, Publication, now_nanos};
use crate::error::Rejected;
use crate::log::buffer_pool::BufferPool;
use crate::message::Value;
use crate::message::json::{JsonWriter, TooLong};
use crate::message::provenance::Provenance;
use crate::message::topic::{Topic, Topics};
use crate::wire::frame;

/// The longest gap frame, in bytes.
const OVERLOAD_GAP_FRAME: usize = 160;

/// Names of fields, the timestamp and braces between the headroom and the data.
const FIELDS: usize = 80;

/// A message that is encoded but has no place in the order of publications yet, so nobody else holds it.
#[derive(Debug)]
pub(crate) struct Draft(Arc<Publication>);

impl Draft {
    /// Encodes a message with its topics, in memory that is to spare.
    ///
    /// # Errors
    /// [`Rejected::TooLarge`] when the data is larger than `limit` bytes of JSON.
    pub(crate) fn encode(
        buffers: &BufferPool,
        topics: Topics,
        message: &Value<'_>,
        origin: &Provenance<'_>,
        limit: usize,
        commitments: bool,
    ) -> Result<Self, Rejected> {
        let names: usize = topics.iter().map(|topic| topic.name().len() + 3).sum();
        let room = HEADROOM + 2 * names + FIELDS + message.size_hint();
        let mut spare = buffers.take(room);
        let mut buffer = spare.take_buffer(room);
        buffer.resize(HEADROOM, 0);
        let cast_at = now_nanos();
        let origin_start = write_fields(&mut buffer, cast_at / NANOS, &topics, origin);
        let start = buffer.len();
        JsonWriter::new(&mut buffer, limit, commitments)
            .write(message)
            .map_err(|TooLong| Rejected::TooLarge)?;
        let data = start..buffer.len();
        buffer.push(b'}');
        let footprint = size_of::<Publication>()
            + buffer.capacity()
            + topics.iter().map(Topic::footprint).sum::<usize>();
        Ok(Self(spare.fill(Publication {
            cast_at,
            topics,
            buffer,
            origin_start,
            raw_header: frame::text_header(data.len()),
            data,
            footprint,
            ..Publication::default()
        })))
    }

    /// What tells the subscribers that this message is lost. Takes little memory.
    pub(crate) fn into_loss(self) -> Self {
        let topics = match Arc::try_unwrap(self.0) {
            Ok(publication) => publication.topics,
            // Nobody else holds a draft.
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

    /// What tells every subscriber that so many messages are lost.
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

    /// What tells the subscribers of a process that slots are missing.
    pub(crate) fn of_slot_gap(topics: Topics, gap: SlotGapNotice) -> Self {
        let frame = gap.frame_bytes();
        Self::of_notice(topics, Notice::SlotGap(Box::new(gap)), frame)
    }

    fn of_notice(topics: Topics, notice: Notice, frame: usize) -> Self {
        let names = topics.iter().map(Topic::footprint).sum::<usize>();
        Self(Arc::new(Publication {
            cast_at: now_nanos(),
            topics,
            footprint: size_of::<Publication>() + frame + names,
            notice: Some(notice),
            ..Publication::default()
        }))
    }

    /// Whether only subscribers of everything get it.
    pub(crate) fn is_without_topic(&self) -> bool {
        self.0.topics.is_empty()
    }

    /// Bytes of its JSON.
    pub(crate) fn data_bytes(&self) -> usize {
        self.0.data.len()
    }

    /// See [`Publication::footprint`].
    pub(crate) fn footprint(&self) -> usize {
        self.0.footprint
    }

    /// Gives the message its number. Short: this runs while the order of publications is locked.
    pub(crate) fn number(mut self, seq: u64) -> Arc<Publication> {
        // Nobody else holds a draft, so this is always so.
        if let Some(publication) = Arc::get_mut(&mut self.0) {
            publication.number(seq);
        }
        self.0
    }
}

/// Writes all fields between the head and the data, and says where those of the origin start.
fn write_fields(
    buffer: &mut Vec<u8>,
    timestamp: u64,
    topics: &[Topic],
    origin: &Provenance<'_>,
) -> usize {
    let mut writer = JsonWriter::new(buffer, usize::MAX, false);
    // Without a limit nothing can fail. The topic that a reader shows first is the explicit one, if any.
    let _ = writer.raw(r#","timestamp":"#);
    let _ = writer.raw(itoa::Buffer::new().format(timestamp));
    let _ = writer.raw(r#","topic":"#);
    let _ = match topics.first() {
        Some(topic) => writer.text(topic.name()),
        None => writer.raw("null"),
    };
    let _ = writer.raw(r#","topics":"#);
    let _ = writer.texts(topics.iter().map(Topic::name));
    let origin_start = buffer.len();
    let mut writer = JsonWriter::new(buffer, usize::MAX, false);
    let _ = origin.write(&mut writer);
    let _ = writer.raw(DATA);
    origin_start
}
