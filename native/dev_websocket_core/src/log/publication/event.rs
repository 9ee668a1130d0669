//! The server-sent event of a publication. Its end carries the cursor, so only the first client that wants events has it made.

use super::Publication;
use crate::log::eras::{Eras, Shown};
use crate::wire::{frame, sse};

impl Publication {
    /// Prepares the event's end for [`Self::event`].
    pub(crate) fn prepare_event(&self, eras: &Eras) {
        if self.event_end.get().is_none() {
            self.prepare_event_at(&eras.at(self.seq));
        }
    }

    /// Prepares the event's end for [`Self::event`], with the cursor of the publication.
    pub(crate) fn prepare_event_at(&self, shown: &Shown) {
        self.event_end
            .get_or_init(|| sse::end_at(&shown.epoch, shown.number, "").into());
    }

    /// Returns the parts of the server-sent event: the common beginning, the JSON, and the end with the cursor.
    pub(crate) fn event(&self) -> [&[u8]; 3] {
        let end = self.event_end.get().map_or(sse::END, |end| end.as_bytes());
        [sse::START, frame::payload(self.json_frame()), end]
    }
}
