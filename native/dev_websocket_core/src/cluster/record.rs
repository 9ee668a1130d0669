//! What travels: one record for each message, and one for messages that were lost on their way to the stream.
//!
//! All numbers are little-endian. A record begins with its version, its flags and its sender; the rest depends on the
//! version. Texts are UTF-8; `origin` and `data` are JSON as clients get it, so a receiver parses nothing.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | flags: 1 lost messages, 2 edge, 4 event of a slot, 8 last event of its slot |
//! | 8, 8 | the server that sent it, and its number there, from 1 |
//! | 8 | lost messages: their number, and the end of the record |
//! | 8 | time of publishing, in nanoseconds since 1970 |
//! | 43, 8, 8 | event of a slot: process, slot, part |
//! | 2 | number of topics; each is its length in 1 byte, and its name |
//! | 4 | length of `origin` |
//! | | `origin`, then `data` to the end of the record |

use thiserror::Error;

use crate::log::buffer_pool::BufferPool;
use crate::log::publication::Place;
use crate::log::publication::draft::Draft;
use crate::log::publication::parts::Parts;
use crate::log::publication::stream_break::StreamBreak;
use crate::log::slot_marks::Position;
use crate::message::process_id::{ID_LENGTH, ProcessId, is_process_id};
use crate::message::topic::{Topic, Topics};
use crate::wire::control::GapReason;

const VERSION: u8 = 1;

const LOST: u8 = 1;
const EDGE: u8 = 2;
const EVENT: u8 = 4;
const LAST: u8 = 8;

/// The bytes before the sender, and after it.
const SENDER_START: usize = 2;
const SENDER_END: usize = SENDER_START + 16;

/// The sender of a record: a server, and the number of the record there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) server: u64,
    pub(crate) number: u64,
}

/// A record as its receiver reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Record<'r> {
    pub(crate) sender: Sender,
    pub(crate) content: Content<'r>,
}

#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub(crate) enum Content<'r> {
    /// A message, which `parts` has without its topics.
    Message {
        topics: Topics,
        parts: Parts<'r>,
        /// True for the last event of its slot.
        is_last: bool,
    },
    /// Messages of the sender that never came into the stream.
    Lost(u64),
}

/// The reason why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Unreadable {
    /// A server of another release has sent it.
    #[error("version {0} of the record is unknown")]
    Version(u8),
    #[error("the record is malformed")]
    Malformed,
}

impl Content<'_> {
    /// Makes the publication of a record, which has no number yet.
    pub(crate) fn draft(self, buffers: &BufferPool) -> Draft {
        match self {
            Self::Lost(messages) => Draft::of_lost_messages(messages),
            Self::Message { topics, parts, .. } => Draft::of_parts(buffers, topics, &parts),
        }
    }
}

impl Unreadable {
    /// Returns the notice in the place of the record with a number.
    pub(crate) fn notice(self, number: u64) -> Draft {
        Draft::of_break(StreamBreak {
            reason: GapReason::Unreadable,
            after: number.saturating_sub(1),
            next: number.saturating_add(1),
            epoch: None,
        })
    }
}

/// Encodes a message, without its sender, see [`set_sender`].
pub(crate) fn encode(parts: &Parts<'_>, is_last: bool) -> Vec<u8> {
    let names: usize = parts
        .topics
        .iter()
        .map(|topic| 1 + topic.name().len())
        .sum();
    let room = SENDER_END + 80 + names + parts.origin.len() + parts.data.len();
    let mut record = Vec::with_capacity(room);
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let flags =
        flag(EDGE, parts.is_edge) | flag(EVENT, parts.place.is_some()) | flag(LAST, is_last);
    record.extend([VERSION, flags]);
    record.extend([0; SENDER_END - SENDER_START]);
    record.extend(parts.cast_at.to_le_bytes());
    if let Some(Place { process, position }) = &parts.place {
        record.extend(process);
        record.extend(position.slot.to_le_bytes());
        record.extend(position.part.to_le_bytes());
    }
    // Settings allow 10,000 topics of 255 bytes, so neither number is cut.
    record.extend((parts.topics.len() as u16).to_le_bytes());
    for topic in parts.topics {
        record.push(topic.name().len() as u8);
        record.extend(topic.name().as_bytes());
    }
    record.extend((parts.origin.len() as u32).to_le_bytes());
    record.extend(parts.origin.as_bytes());
    record.extend(parts.data.as_bytes());
    record
}

/// Encodes a record about lost messages, without its sender.
pub(crate) fn encode_lost(messages: u64) -> Vec<u8> {
    let mut record = vec![VERSION, LOST];
    record.extend([0; SENDER_END - SENDER_START]);
    record.extend(messages.to_le_bytes());
    record
}

/// Writes the sender into an encoded record.
pub(crate) fn set_sender(record: &mut [u8], sender: Sender) {
    let (server, number) = record[SENDER_START..SENDER_END].split_at_mut(8);
    server.copy_from_slice(&sender.server.to_le_bytes());
    number.copy_from_slice(&sender.number.to_le_bytes());
}

impl<'r> Record<'r> {
    /// Returns the place of an event of a process.
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.content {
            Content::Message { parts, .. } => parts.place,
            Content::Lost(_) => None,
        }
    }

    /// Reads a record, whatever it contains.
    pub(crate) fn read(bytes: &'r [u8]) -> Result<Self, Unreadable> {
        let mut rest = Reader(bytes);
        match rest.byte() {
            Some(VERSION) => rest.record().ok_or(Unreadable::Malformed),
            Some(version) => Err(Unreadable::Version(version)),
            None => Err(Unreadable::Malformed),
        }
    }
}

/// The bytes of a record that are not read yet.
struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    fn record(&mut self) -> Option<Record<'r>> {
        let flags = self.byte()?;
        let sender = Sender {
            server: self.u64()?,
            number: self.u64()?,
        };
        let content = if flags == LOST {
            let lost = self.u64()?;
            self.0.is_empty().then_some(Content::Lost(lost))?
        } else if flags & !(EDGE | EVENT | LAST) == 0 {
            self.message(flags)?
        } else {
            return None;
        };
        Some(Record { sender, content })
    }

    fn message(&mut self, flags: u8) -> Option<Content<'r>> {
        let has = |flag| flags & flag != 0;
        let cast_at = self.u64()?;
        let place = match has(EVENT) {
            true => Some(self.place()?),
            false => None,
        };
        let count = u16::from_le_bytes(self.array()?);
        let mut topics = Topics::new();
        for _ in 0..count {
            let length = usize::from(self.byte()?);
            topics.push(Topic::new(self.text(length)?).ok()?);
        }
        let length = u32::from_le_bytes(self.array()?);
        let origin = self.text(usize::try_from(length).ok()?)?;
        let data = self.text(self.0.len())?;
        let parts = Parts {
            cast_at,
            topics: &[],
            origin,
            data,
            is_edge: has(EDGE),
            place,
        };
        Some(Content::Message {
            topics,
            parts,
            is_last: has(LAST),
        })
    }

    fn place(&mut self) -> Option<Place> {
        let process: ProcessId = self.array::<ID_LENGTH>()?;
        let position = Position {
            slot: self.u64()?,
            part: self.u64()?,
        };
        is_process_id(std::str::from_utf8(&process).ok()?).then_some(Place { process, position })
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<&'r str> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics(names: &[String]) -> Topics {
        names.iter().map(|name| Topic::new(name).unwrap()).collect()
    }

    fn place(slot: u64, part: u64) -> Place {
        Place {
            process: [b'p'; ID_LENGTH],
            position: Position { slot, part },
        }
    }

    fn encoded(names: &[String], origin: &str, data: &str, place: Option<Place>) -> Vec<u8> {
        let topics = topics(names);
        let mut record = encode(
            &Parts {
                cast_at: 9,
                topics: &topics,
                origin,
                data,
                is_edge: false,
                place,
            },
            true,
        );
        let sender = Sender {
            server: 1,
            number: 2,
        };
        set_sender(&mut record, sender);
        record
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let mut record = encoded(&["ab".into()], ",\"slot\":1", "{}", Some(place(3, 4)));
        let mut expected = vec![1, 12, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([b'p'; 43]);
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0, 2, b'a', b'b', 9, 0, 0, 0]);
        expected.extend(b",\"slot\":1{}");
        assert_eq!(record, expected);
        record[0] = 2;
        assert_eq!(Record::read(&record), Err(Unreadable::Version(2)));
        assert_eq!(Record::read(&[]), Err(Unreadable::Malformed));
    }

    #[test]
    fn lost_messages_have_a_record_of_their_own() {
        let mut record = encode_lost(412);
        let sender = Sender {
            server: u64::MAX,
            number: 7,
        };
        set_sender(&mut record, sender);
        let content = Content::Lost(412);
        assert_eq!(Record::read(&record), Ok(Record { sender, content }));
        record.push(0);
        assert_eq!(Record::read(&record), Err(Unreadable::Malformed));
    }

    #[test]
    fn a_record_with_anything_wrong_is_malformed() {
        let whole = encoded(&["topic".into()], ",\"a\":1", "\"data\"", Some(place(1, 2)));
        assert!(Record::read(&whole).is_ok());
        let data = whole.len() - 6;
        for length in 1..data {
            assert_eq!(
                Record::read(&whole[..length]),
                Err(Unreadable::Malformed),
                "{length}"
            );
        }
        let wrong = |index: usize, byte: u8| {
            let mut record = whole.clone();
            record[index] = byte;
            Record::read(&record).map(drop)
        };
        // Unknown flags, a flag beside that of lost messages, no process id, a topic with a comma, no UTF-8.
        for (index, byte) in [(1, 0x10), (1, 5), (26, b'!'), (90, b','), (data + 1, 0xff)] {
            assert_eq!(wrong(index, byte), Err(Unreadable::Malformed), "{index}");
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            names in prop::collection::vec("[a-zäß:]{1,60}", 0..70), origin in ".{0,100}", data in ".{0,300}",
            slot: u64, part: u64, has_place: bool,
        ) {
            let place = has_place.then(|| place(slot, part));
            let record = encoded(&names, &origin, &data, place);
            let read = Record::read(&record).unwrap();
            prop_assert_eq!(read.sender, Sender { server: 1, number: 2 });
            let Content::Message { topics: read, parts, is_last } = read.content else { panic!("no message") };
            prop_assert_eq!(read, topics(&names));
            prop_assert!(is_last);
            let expected = Parts { cast_at: 9, topics: &[], origin: &origin, data: &data, is_edge: false, place };
            prop_assert_eq!(parts, expected);
        }

        /// Bytes from anywhere are read or refused.
        #[test]
        fn nothing_makes_the_reader_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..400), flags in 0_u8..16, is_current: bool,
        ) {
            if is_current && bytes.len() > 2 {
                (bytes[0], bytes[1]) = (VERSION, flags);
            }
            let _ = Record::read(&bytes);
        }

        #[test]
        fn a_damaged_record_is_read_or_refused(index: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut record = encoded(&["a".into(), "b:c".into()], ",\"slot\":1", "{\"a\":[1,2]}", Some(place(1, 1)));
            let index = index.index(record.len());
            record[index] = byte;
            record.truncate(cut.index(record.len() + 1));
            let _ = Record::read(&record);
        }
    }
}
