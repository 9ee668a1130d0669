//! Publication of messages and JSON texts, for the embedding program and for the operator's endpoint.

use std::cell::Cell;

use crate::cluster::outgoing::Name;
use crate::cluster::record;
use crate::error::{BadJson, Rejected, Unpublished};
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::json::TooLong;
use crate::message::provenance::Provenance;
use crate::message::topics::TopicSet;
use crate::message::writer::{MessageWriter, Trees};
use crate::settings::active::ActiveSettings;
use crate::settings::size;
use crate::shared::Shared;

/// The maximum capacity of a thread's buffer for JSON, in bytes. Larger ones are freed.
const MAX_SCRATCH: usize = 64 * 1024;

thread_local! {
    /// The thread's memory for the JSON of a message, whose place in the frame depends on the topics that it names.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The reason why the writer of a message ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten<E> {
    /// The JSON exceeds `max_message_bytes`.
    TooLong,
    /// The caller stopped.
    Stopped(E),
}

impl<E> From<TooLong> for Unwritten<E> {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

impl Shared {
    /// Publishes a message with its provenance and returns its sequence number, or 0 if a stream gives it later. The
    /// call never blocks.
    ///
    /// # Errors
    /// [`Rejected`] if the message was dropped; the counters include it already.
    pub(crate) fn publish(
        &self,
        message: &Value<'_>,
        origin: &Provenance<'_>,
    ) -> Result<u64, Rejected> {
        self.has_audience()?;
        let active = self.context.active.load();
        let draft = self
            .draft(&active, message, origin)
            .inspect_err(|rejected| self.count_dropped(*rejected))?;
        self.append(&active, draft)
    }

    /// Publishes a message that `write` hands over value by value. The call never blocks.
    ///
    /// # Errors
    /// [`Unpublished`] if the message was dropped or `write` stopped.
    pub(crate) fn publish_written<'a, E>(
        &self,
        origin: &Provenance<'_>,
        write: impl for<'w> FnOnce(&mut MessageWriter<'w, 'a>) -> Result<(), Unwritten<E>>,
    ) -> Result<u64, Unpublished<E>> {
        let active = self.context.active.load();
        let mut json = SCRATCH.take();
        json.clear();
        let drafted = self.draft_written(&active, origin, write, &mut json);
        if json.capacity() <= MAX_SCRATCH {
            SCRATCH.set(json);
        }
        match drafted {
            Ok(draft) => Ok(self.append(&active, draft)?),
            Err(Unwritten::Stopped(reason)) => Err(Unpublished::Stopped(reason)),
            Err(Unwritten::TooLong) => {
                self.count_dropped(Rejected::TooLarge);
                Err(Rejected::TooLarge.into())
            }
        }
    }

    fn draft_written<'a, E>(
        &self,
        active: &ActiveSettings,
        origin: &Provenance<'_>,
        write: impl for<'w> FnOnce(&mut MessageWriter<'w, 'a>) -> Result<(), Unwritten<E>>,
        json: &mut Vec<u8>,
    ) -> Result<Draft, Unwritten<E>> {
        let context = &self.context;
        let settings = &active.settings;
        let rules = &active.topic_rules;
        let histograms = &context.counters.histograms;
        histograms.time_encoding(active.is_measured, || {
            let trees = Trees::default();
            let limit = size(settings.max_message_bytes);
            let mut writer = MessageWriter::new(json, limit, settings.commitments, rules, &trees);
            write(&mut writer)?;
            let set = rules.select(&writer.into_candidates(), origin);
            self.count_topics(&set);
            Ok(Draft::of_json(&context.buffers, set.topics, json, origin))
        })
    }

    /// Appends a message to the log, or hands it over to the stream, which gives it its number later; it is 0 then.
    fn append(&self, active: &ActiveSettings, draft: Draft) -> Result<u64, Rejected> {
        if let Some(stream) = &self.context.stream {
            let handed_over = draft.parts().map_or(Ok(()), |parts| {
                let record = record::encode(&parts, false);
                let limit = active.settings.engine_bytes;
                stream.outgoing.push(Name::Sender, record, limit)
            });
            return handed_over
                .map(|()| 0)
                .inspect_err(|rejected| self.count_dropped(*rejected));
        }
        let without_topic = draft.is_without_topic();
        let queue_limit = active.settings.publish_queue_bytes;
        let appended = self.context.log.append(draft, queue_limit);
        // A message without room has left a gap for the subscribers, so shards are woken in that case too.
        self.context.wake_shards();
        self.count(appended, without_topic);
        appended
    }

    /// Publishes the message in a JSON text.
    ///
    /// # Errors
    /// [`BadJson`] if the text is no message or the message was dropped; the counters include both already.
    pub(crate) fn publish_json(
        &self,
        body: &[u8],
        origin: &Provenance<'_>,
    ) -> Result<u64, BadJson> {
        self.has_audience()?;
        if body.len() > size(self.context.active.load().settings.max_message_bytes) {
            self.count_dropped(Rejected::TooLarge);
            return Err(Rejected::TooLarge.into());
        }
        let json: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
            self.context.counters.dropped_malformed.add(1);
            BadJson::Malformed(error.to_string())
        })?;
        Ok(self.publish(&(&json).into(), origin)?)
    }

    /// Checks that a message could reach anybody, and counts one that could not.
    pub(crate) fn has_audience(&self) -> Result<(), Rejected> {
        if self.is_heard() {
            return Ok(());
        }
        self.count_dropped(Rejected::NoAudience);
        Err(Rejected::NoAudience)
    }

    /// Returns true if a message could reach anybody: there is a connection, or history is kept.
    pub(crate) fn is_heard(&self) -> bool {
        // Clients of other servers of the stream are not known here.
        self.context.stream.is_some()
            || self.admission.connections() != 0
            || self.context.active.load().settings.history_bytes != 0
    }

    /// Finds the topics and encodes the message.
    #[inline]
    pub(crate) fn draft(
        &self,
        active: &ActiveSettings,
        message: &Value<'_>,
        origin: &Provenance<'_>,
    ) -> Result<Draft, Rejected> {
        let counters = &self.context.counters;
        let settings = &active.settings;
        counters.histograms.time_encoding(active.is_measured, || {
            let set = active.topic_rules.topics_with(message, origin);
            self.count_topics(&set);
            let limit = size(settings.max_message_bytes);
            Draft::encode(
                &self.context.buffers,
                set.topics,
                message,
                origin,
                limit,
                settings.commitments,
            )
        })
    }

    fn count_topics(&self, set: &TopicSet) {
        let counters = &self.context.counters;
        counters.topics_reserved.add(set.reserved);
        counters.topics_excess.add(set.excess);
        counters.topics_invalid.add(set.invalid);
    }

    fn count(&self, appended: Result<u64, Rejected>, without_topic: bool) {
        let counters = &self.context.counters;
        match appended {
            Ok(_) => {
                counters.publications.add(1);
                counters
                    .publications_without_topic
                    .add(u64::from(without_topic));
            }
            Err(rejected) => self.count_dropped(rejected),
        }
    }

    fn count_dropped(&self, rejected: Rejected) {
        let counters = &self.context.counters;
        match rejected {
            Rejected::TooLarge => &counters.dropped_too_large,
            Rejected::Overload => &counters.dropped_overload,
            Rejected::NoAudience => &counters.dropped_no_audience,
        }
        .add(1);
    }
}
