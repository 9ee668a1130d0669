//! The walk over a message's term that hands it to the engine value by value.
//!
//! Maps with binary keys and plain lists, which nearly all messages consist of, are walked in place. All other terms are
//! read by [`decode`](crate::decode) first: keys that are no binaries may be equal as text, and lists of pairs may be
//! maps.

use dev_websocket_core::Unwritten;
use dev_websocket_core::message::writer::MessageWriter;
use rustler::{Binary, Term, TermType};

use crate::decode::{BeyondBudget, Budget, MAX_DEPTH, Reader, Shape};
use crate::terms::{cells, pairs};

/// The reason why a walk ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    BeyondBudget,
    /// A map has keys of several kinds, so the message has to be read as a whole.
    MixedKeys,
}

type Walked = Result<(), Unwritten<Stop>>;

/// Writes a message within the rest of a budget.
pub(crate) fn write<'a>(
    term: Term<'a>,
    left: &mut Budget,
    commitments: bool,
    writer: &mut MessageWriter<'_, 'a>,
) -> Walked {
    let mut walk = Walk {
        reader: Reader::new(*left, commitments),
        writer,
    };
    let walked = walk.value(term, 0);
    *left = walk.reader.left;
    walked
}

/// Writes a message that was not walked to its end, after reading it as a whole.
pub(crate) fn write_whole<'a>(
    term: Term<'a>,
    left: &mut Budget,
    commitments: bool,
    writer: &mut MessageWriter<'_, 'a>,
) -> Walked {
    let value = crate::decode::value(term, left, commitments).map_err(stopped)?;
    Ok(writer.value(value)?)
}

struct Walk<'a, 'm, 'w> {
    reader: Reader<'a>,
    writer: &'m mut MessageWriter<'w, 'a>,
}

impl<'a> Walk<'a, '_, '_> {
    fn value(&mut self, term: Term<'a>, depth: usize) -> Walked {
        match term.get_type() {
            TermType::Map if depth < MAX_DEPTH => self.map(term, depth),
            TermType::List if depth < MAX_DEPTH && !self.writer.wants_tree() => {
                self.list(term, depth)
            }
            _ => self.whole(term, depth),
        }
    }

    fn map(&mut self, term: Term<'a>, depth: usize) -> Walked {
        // Keys of a small map are sorted by type, binaries last, so the first one tells of all.
        let mut pairs = pairs(term).peekable();
        let begins_with_binary = pairs
            .peek()
            .is_none_or(|(key, _)| key.get_type() == TermType::Binary);
        if !begins_with_binary {
            return self.whole(term, depth);
        }
        self.reader.spend_nodes(1).map_err(stopped)?;
        self.writer.begin_map()?;
        for (key, value) in pairs {
            self.entry(key, value, depth)?;
        }
        Ok(self.writer.end_map()?)
    }

    fn entry(&mut self, key: Term<'a>, value: Term<'a>, depth: usize) -> Walked {
        let Ok(key) = Binary::from_term(key) else {
            return Err(Unwritten::Stopped(Stop::MixedKeys));
        };
        let bytes = key.as_slice();
        self.reader.spend_text(bytes.len()).map_err(stopped)?;
        let Ok(key) = std::str::from_utf8(bytes) else {
            return Err(Unwritten::Stopped(Stop::MixedKeys));
        };
        if self.writer.key(key)? {
            self.value(value, depth + 1)
        } else {
            self.reader.spend_nodes(1).map_err(stopped)
        }
    }

    fn list(&mut self, term: Term<'a>, depth: usize) -> Walked {
        match self.reader.shape(term).map_err(stopped)? {
            Shape::Items(_) => {}
            Shape::Proplist(_) | Shape::Improper(_) => return self.whole(term, depth),
        }
        self.reader.spend_nodes(1).map_err(stopped)?;
        self.writer.begin_list()?;
        for item in cells(term) {
            self.value(item, depth + 1)?;
        }
        Ok(self.writer.end_list()?)
    }

    fn whole(&mut self, term: Term<'a>, depth: usize) -> Walked {
        let value = self.reader.value(term, depth).map_err(stopped)?;
        Ok(self.writer.value(value)?)
    }
}

fn stopped(_: BeyondBudget) -> Unwritten<Stop> {
    Unwritten::Stopped(Stop::BeyondBudget)
}
