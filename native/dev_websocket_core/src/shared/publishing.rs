//! Publication of messages and JSON texts, for the embedding program and for the operator's endpoint.

use crate::error::{BadJson, Rejected};
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::provenance::Provenance;
use crate::settings::active::ActiveSettings;
use crate::settings::size;
use crate::shared::Shared;

impl Shared {
    /// Publishes a message with its provenance and returns its sequence number. The call never blocks.
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
        let without_topic = draft.is_without_topic();
        let appended = self
            .context
            .log
            .append(draft, active.settings.publish_queue_bytes);
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
        self.admission.connections() != 0 || self.context.active.load().settings.history_bytes != 0
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
            counters.topics_reserved.add(set.reserved);
            counters.topics_excess.add(set.excess);
            counters.topics_invalid.add(set.invalid);
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
