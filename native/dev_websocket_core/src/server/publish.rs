//! Publication of messages and JSON texts. Results of processes are in `results`.

use crate::error::{BadJson, Rejected, Unpublished};
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::provenance::{self, Provenance};
use crate::message::writer::MessageWriter;
use crate::server::Server;
use crate::settings::active::ActiveSettings;
use crate::shared::publishing::Unwritten;

/// A message in a slot of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// The message; `None` if it was too large to be read.
    pub message: Option<Value<'a>>,
    /// Provenance of the message. The process and the slot need not be repeated here.
    pub origin: Provenance<'a>,
}

impl Server {
    /// Publishes a message to the subscribers of its topics and returns its sequence number, or 0 if a stream gives it
    /// later. The call never blocks: it encodes, takes a sequence number and wakes the writer shards. Messages published one after the other arrive in
    /// that order.
    ///
    /// # Errors
    /// [`Rejected`] if the message was dropped; the counters include it already.
    pub fn publish(&self, message: &Value<'_>) -> Result<u64, Rejected> {
        self.publish_with(message, &provenance::UNKNOWN)
    }

    /// Publishes a message with its provenance.
    ///
    /// # Errors
    /// See [`Self::publish`].
    pub fn publish_with(
        &self,
        message: &Value<'_>,
        origin: &Provenance<'_>,
    ) -> Result<u64, Rejected> {
        self.shared.publish(message, origin)
    }

    /// Publishes a message that `write` hands over value by value, so that no tree of it is made. The caller checks
    /// [`Self::has_audience`] first.
    ///
    /// # Errors
    /// [`Unpublished`] if the message was dropped, which the counters include already, or `write` stopped.
    pub fn publish_written<'a, E>(
        &self,
        origin: &Provenance<'_>,
        write: impl for<'w> FnOnce(&mut MessageWriter<'w, 'a>) -> Result<(), Unwritten<E>>,
    ) -> Result<u64, Unpublished<E>> {
        self.shared.publish_written(origin, write)
    }

    /// Publishes the message in a JSON text.
    ///
    /// # Errors
    /// [`BadJson`] if the text is no message or the message was dropped; the counters include both already.
    pub fn publish_json(&self, body: &[u8], origin: &Provenance<'_>) -> Result<u64, BadJson> {
        self.shared.publish_json(body, origin)
    }

    /// Checks that a message could reach anybody: there is a connection, or history is kept. It costs two loads, so a
    /// caller can avoid the rest of the work.
    ///
    /// # Errors
    /// [`Rejected::NoAudience`], which is counted.
    pub fn has_audience(&self) -> Result<(), Rejected> {
        self.shared.has_audience()
    }

    /// Makes the same check as [`Self::has_audience`] for a caller without a message, so nothing is counted.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.shared.is_heard()
    }

    /// Encodes an event like [`Self::draft`], but replaces data that is too large with a stub under the same topics.
    pub(crate) fn draft_event(
        &self,
        active: &ActiveSettings,
        event: &Event<'_>,
    ) -> Result<Draft, Rejected> {
        let Event { message, origin } = event;
        let drafted = message
            .as_ref()
            .map(|message| self.shared.draft(active, message, origin));
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
}
