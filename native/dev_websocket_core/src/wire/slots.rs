//! The start of a slot replay in its text forms: `process=<id>&from-slot=<n>`, and the cursor of server-sent events.

use thiserror::Error;

use crate::error_code::ErrorCode;
use crate::message::process_id::{ProcessId, is_process_id};
use crate::wire::cursor::{CursorError, Since};

/// The last slot number, because the next number must exist as well.
pub(crate) const MAX_SLOT: u64 = u64::MAX - 1;

/// The maximum length of a cursor with a slot, in bytes.
const MAX_BYTES: usize = 192;

/// The next event that a client wants of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotStart {
    pub(crate) process: ProcessId,
    pub(crate) slot: u64,
    /// The number of events of this slot that the client has already.
    pub(crate) part: u64,
}

/// The reason why a slot replay is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SlotStartError {
    #[error("from-slot must be a number from 0 to {MAX_SLOT}")]
    BadSlot,
    #[error("from-slot needs a process")]
    NoProcess,
    #[error("from-slot cannot be combined with since or last")]
    WithCursor,
    #[error("from-slot is not available with format=raw, which has no gap frames")]
    Raw,
    #[error("process must be an id of 43 characters with from-slot")]
    BadProcess,
    #[error("process must be a single id with from-slot")]
    SeveralProcesses,
}

impl SlotStartError {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::BadProcess | Self::SeveralProcesses => ErrorCode::BadProcess,
            Self::BadSlot | Self::NoProcess | Self::WithCursor | Self::Raw => {
                ErrorCode::BadFromSlot
            }
        }
    }
}

impl SlotStart {
    /// Creates the start at the beginning of a slot.
    pub(crate) fn new(process: &str, slot: u64) -> Result<Self, SlotStartError> {
        Ok(Self {
            process: process_id(process).ok_or(SlotStartError::BadProcess)?,
            slot,
            part: 0,
        })
    }

    /// Parses a slot number.
    pub(crate) fn parse_slot(text: &str) -> Result<u64, SlotStartError> {
        number(text)
            .filter(|slot| *slot <= MAX_SLOT)
            .ok_or(SlotStartError::BadSlot)
    }

    /// Returns the process as text.
    pub(crate) fn process(&self) -> &str {
        // An id consists of ASCII characters alone.
        std::str::from_utf8(&self.process).unwrap_or_default()
    }

    /// Returns the text behind a cursor that carries the slot.
    pub(crate) fn suffix(&self) -> String {
        let (process, slot) = (self.process(), self.slot);
        match self.part {
            0 => format!(";{process}:{slot}"),
            part => format!(";{process}:{slot}.{part}"),
        }
    }

    /// Parses a cursor, which may carry a slot: `<epoch>:<seq>;<process>:<slot>.<part>`.
    pub(crate) fn parse_cursor(text: &str) -> Result<(Since, Option<Self>), CursorError> {
        let Some((since, slot)) = text.split_once(';') else {
            return Ok((Since::parse(text)?, None));
        };
        let read = || {
            let (process, slot) = slot.split_once(':')?;
            let (slot, part) = slot.split_once('.').unwrap_or((slot, "0"));
            Some(Self {
                process: process_id(process)?,
                slot: number(slot).filter(|slot| *slot <= MAX_SLOT)?,
                part: number(part)?,
            })
        };
        if text.len() > MAX_BYTES {
            return Err(CursorError::Malformed);
        }
        let slots = read().ok_or(CursorError::Malformed)?;
        Ok((Since::parse(since)?, Some(slots)))
    }
}

/// Returns a process id, if the text is one.
pub(crate) fn process_id(text: &str) -> Option<ProcessId> {
    is_process_id(text).then(|| text.as_bytes().try_into().ok())?
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

    #[test]
    fn a_slot_is_a_number_with_a_number_after_it() {
        assert_eq!(SlotStart::parse_slot("0"), Ok(0));
        assert_eq!(SlotStart::parse_slot("18446744073709551614"), Ok(MAX_SLOT));
        for bad in [
            "",
            "-1",
            "+1",
            "1.5",
            "a",
            " 1",
            "18446744073709551615",
            "99999999999999999999",
        ] {
            assert_eq!(
                SlotStart::parse_slot(bad),
                Err(SlotStartError::BadSlot),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_process_is_an_id() {
        assert!(SlotStart::new(ID, 4).is_ok());
        for bad in ["", "x", &ID[1..], &format!("{ID}a"), &ID.replace('_', "+")] {
            assert_eq!(
                SlotStart::new(bad, 4),
                Err(SlotStartError::BadProcess),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for (slot, part, suffix) in [(17, 0, ":17"), (17, 2, ":17.2"), (MAX_SLOT, 0, "")] {
            let start = SlotStart {
                part,
                ..SlotStart::new(ID, slot).unwrap()
            };
            assert!(start.suffix().starts_with(&format!(";{ID}{suffix}")));
            let (since, read) =
                SlotStart::parse_cursor(&format!("k3f9x2:5{}", start.suffix())).unwrap();
            assert_eq!((since.seq, read), (5, Some(start)));
        }
        assert_eq!(SlotStart::parse_cursor("k3f9x2:5").unwrap().1, None);
        let long = format!("k3f9x2:5;{ID}:1.{}", "0".repeat(MAX_BYTES));
        for bad in [
            ";",
            "k3f9x2:5;",
            "k3f9x2:5;x:1",
            &format!("k3f9x2:5;{ID}"),
            &format!("k3f9x2:5;{ID}:"),
            &format!("k3f9x2:5;{ID}:a"),
            &format!("k3f9x2:5;{ID}:1."),
            &format!("k3f9x2:5;{ID}:1.x"),
            &format!("k3f9x2:5;{ID}:18446744073709551615"),
            &format!("k3f9x2;{ID}:1"),
            &format!(";{ID}:1"),
            &long,
        ] {
            assert_eq!(
                SlotStart::parse_cursor(bad),
                Err(CursorError::Malformed),
                "{bad}"
            );
        }
    }
}
