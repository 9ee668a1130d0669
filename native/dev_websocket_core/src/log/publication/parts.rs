//! The parts of a message that travel between nodes, and the draft that another node makes of them.

use std::convert::Infallible;

use super::draft::Draft;
use super::{DATA, Place, Publication};
use crate::log::buffer_pool::BufferPool;
use crate::message::topic::{Topic, Topics};

/// The parts of a message. Both texts are JSON as the frame has it; the origin is empty or begins with a comma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Parts<'p> {
    /// The time of publishing, in nanoseconds since 1970.
    pub(crate) cast_at: u64,
    pub(crate) topics: &'p [Topic],
    pub(crate) origin: &'p str,
    pub(crate) data: &'p str,
    pub(crate) is_edge: bool,
    pub(crate) place: Option<Place>,
}

impl Publication {
    /// Returns the parts of a message; none for a notice.
    pub(super) fn parts(&self) -> Option<Parts<'_>> {
        let text = |range| std::str::from_utf8(&self.buffer[range]).ok();
        let fields_end = self.data.start - if self.is_message() { DATA.len() } else { 0 };
        self.is_message().then_some(Parts {
            cast_at: self.cast_at,
            topics: &self.topics,
            origin: text(self.origin_start as usize..fields_end)?,
            data: text(self.data.clone())?,
            is_edge: self.is_edge,
            place: self.place.as_deref().copied(),
        })
    }
}

impl Draft {
    /// Puts the parts of a message together again. Nothing is parsed.
    pub(crate) fn of_parts(buffers: &BufferPool, topics: Topics, parts: &Parts<'_>) -> Self {
        let write_data = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(parts.data.as_bytes());
            Ok::<(), Infallible>(())
        };
        let Ok(draft) = Self::around(
            buffers,
            topics,
            (parts.cast_at, parts.is_edge),
            parts.origin.len() + parts.data.len(),
            |buffer| buffer.extend_from_slice(parts.origin.as_bytes()),
            write_data,
        );
        match parts.place {
            Some(place) => draft.placed(place),
            None => draft,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::slot_marks::Position;
    use crate::message::Value;
    use crate::message::provenance::Provenance;

    fn draft(topics: &[String], data: &str, origin: &Provenance<'_>) -> Draft {
        let topics: Topics = topics
            .iter()
            .map(|name| Topic::new(name).unwrap())
            .collect();
        let buffers = BufferPool::default();
        Draft::encode(
            &buffers,
            topics,
            &Value::Text(data.into()),
            origin,
            1 << 20,
            false,
        )
        .unwrap()
    }

    proptest! {
        /// The frames of another node differ in nothing.
        #[test]
        fn parts_make_the_same_publication(
            topics in prop::collection::vec("[a-z:]{1,20}", 0..4), data in ".{0,300}", process in "[\"a-z]{0,43}",
            is_edge: bool, has_place: bool, slot: u64,
        ) {
            let origin = Provenance { process: Some(process.into()), slot: Some(slot), is_edge, ..Provenance::default() };
            let mut draft = draft(&topics, &data, &origin);
            if has_place {
                draft = draft.at(&"p".repeat(43), Position { slot, part: 3 });
            }
            let parts = draft.parts().unwrap();
            let again = Draft::of_parts(&BufferPool::default(), parts.topics.into(), &parts);
            prop_assert_eq!(again.parts(), Some(parts));
            let (first, second) = (draft.number(7, 9), again.number(7, 9));
            prop_assert_eq!(first.json_frame(), second.json_frame());
            prop_assert_eq!(first.raw_frame(), second.raw_frame());
            prop_assert_eq!(first.topics(), second.topics());
            prop_assert_eq!(first.message(), second.message());
            prop_assert_eq!(first.slots(), second.slots());
            prop_assert_eq!(first.cast_at(), second.cast_at());
        }
    }

    #[test]
    fn a_notice_has_no_parts() {
        assert_eq!(Draft::of_lost_messages(3).parts(), None);
    }
}
