//! What a server publishes: a message or JSON text. Results of processes are in `results`.

use crate::error::{BadJson, Rejected};
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::provenance::{self, Provenance};
use crate::server::Server;
use crate::settings::active::ActiveSettings;
use crate::settings::size;

/// One of the messages that a slot of a process brings.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// The message; none if it was too large to be read.
    pub message: Option<Value<'a>>,
    /// What the node knows about it. The process and the slot need not be repeated here.
    pub origin: Provenance<'a>,
}

impl Server {
    /// Publishes a message to the subscribers of its topics. Never waits: it encodes, takes a place in the order and
    /// wakes the writers. Messages published one after the other arrive in that order.
    ///
    /// # Errors
    /// [`Rejected`] when the message was dropped; that is counted already.
    pub fn publish(&self, message: &Value<'_>) -> Result<u64, Rejected> {
        self.publish_with(message, &provenance::UNKNOWN)
    }

    /// Publishes a message with what the node knows about it.
    ///
    /// # Errors
    /// See [`Self::publish`].
    pub fn publish_with(
        &self,
        message: &Value<'_>,
        origin: &Provenance<'_>,
    ) -> Result<u64, Rejected> {
        self.has_audience()?;
        let shared = &*self.shared;
        let active = shared.context.active.load();
        let draft = self
            .draft(&active, message, origin)
            .inspect_err(|rejected| self.count_dropped(*rejected))?;
        let without_topic = draft.is_without_topic();
        let appended = shared
            .context
            .log
            .append(draft, active.settings.publish_queue_bytes);
        // What found no room has left word for the subscribers.
        shared.context.wake_shards();
        self.count(appended, without_topic);
        appended
    }

    /// Publishes the message that a JSON text is.
    ///
    /// # Errors
    /// [`BadJson`] when there is no such message or it was dropped; both are counted already.
    pub fn publish_json(&self, body: &[u8], origin: &Provenance<'_>) -> Result<u64, BadJson> {
        self.has_audience()?;
        if body.len() > size(self.shared.context.active.load().settings.max_message_bytes) {
            self.count_dropped(Rejected::TooLarge);
            return Err(Rejected::TooLarge.into());
        }
        let json: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
            self.shared.context.counters.dropped_malformed.add(1);
            BadJson::Malformed(error.to_string())
        })?;
        Ok(self.publish_with(&(&json).into(), origin)?)
    }

    /// Whether anybody could receive a message: somebody is connected, or history is kept. Costs two loads, so that a
    /// caller can spare itself the rest.
    ///
    /// # Errors
    /// [`Rejected::NoAudience`], counted.
    pub fn has_audience(&self) -> Result<(), Rejected> {
        if self.is_heard() {
            return Ok(());
        }
        self.count_dropped(Rejected::NoAudience);
        Err(Rejected::NoAudience)
    }

    /// As [`Self::has_audience`] for who has no message yet: nothing is counted.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.shared.admission.connections() != 0
            || self.shared.context.active.load().settings.history_bytes != 0
    }

    /// Finds the topics and encodes.
    #[inline]
    fn draft(
        &self,
        active: &ActiveSettings,
        message: &Value<'_>,
        origin: &Provenance<'_>,
    ) -> Result<Draft, Rejected> {
        let counters = &self.shared.context.counters;
        let settings = &active.settings;
        counters.histograms.time_encoding(active.is_measured, || {
            let set = active.topic_rules.topics_with(message, origin);
            counters.topics_reserved.add(set.reserved);
            counters.topics_excess.add(set.excess);
            counters.topics_invalid.add(set.invalid);
            let limit = size(settings.max_message_bytes);
            Draft::encode(
                &self.shared.context.buffers,
                set.topics,
                message,
                origin,
                limit,
                settings.commitments,
            )
        })
    }

    /// As [`Self::draft`], but with a stub in place of data that is too large, under the same topics.
    pub(crate) fn draft_event(
        &self,
        active: &ActiveSettings,
        event: &Event<'_>,
    ) -> Result<Draft, Rejected> {
        let Event { message, origin } = event;
        let drafted = message
            .as_ref()
            .map(|message| self.draft(active, message, origin));
        match drafted {
            None | Some(Err(Rejected::TooLarge)) => {
                // Topics of the stub itself would be nonsense. Those of a message are counted already.
                let message = message.as_ref().unwrap_or(&Value::Null);
                let topics = active.topic_rules.topics_with(message, origin).topics;
                let stub = origin.in_place_of_data();
                Draft::encode(
                    &self.shared.context.buffers,
                    topics,
                    &stub,
                    origin,
                    usize::MAX,
                    false,
                )
            }
            Some(draft) => draft,
        }
    }

    fn count(&self, appended: Result<u64, Rejected>, without_topic: bool) {
        let counters = &self.shared.context.counters;
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
        let counters = &self.shared.context.counters;
        match rejected {
            Rejected::TooLarge => &counters.dropped_too_large,
            Rejected::Overload => &counters.dropped_overload,
            Rejected::NoAudience => &counters.dropped_no_audience,
        }
        .add(1);
    }
}
