//! A filter that turns compressed messages of a client into plain ones (RFC 7692), for a reader that knows no
//! compression.
//!
//! It takes the client's bytes in pieces of any size. A compressed message leaves it as fragments with a mask of zeros;
//! everything else passes unchanged, so the reader refuses frames that break the protocol, such as control frames that
//! claim to be compressed. Memory for a message is taken at its first frame and freed at its last one.

use arrayvec::ArrayVec;
use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

use crate::wire::deflate::TAIL;
use crate::wire::frame::RSV1;

/// The maximum length of a masked frame's header.
const MAX_HEADER: usize = 14;

/// Bits of a header's first two bytes.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// The opcode of a fragment after the first one.
const CONTINUATION: u8 = 0;

/// The largest number of inflated bytes in one fragment.
const FRAGMENT: usize = 1024;

/// The largest ratio of inflated to compressed bytes, beyond the first [`FREE_BYTES`] of a message.
const MAX_RATIO: usize = 64;
const FREE_BYTES: usize = 4096;

/// The end of a message that its frames leave out, and a last empty block. The inflater ends with that block if the
/// message is complete.
const ENDING: [u8; 9] = {
    let [a, b, c, d] = TAIL;
    [a, b, c, d, 1, 0, 0, 0xff, 0xff]
};

/// The reason for refusing a compressed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InflateError {
    /// It is larger than the limit, or inflates more than 64 times.
    #[error("the message is too large")]
    TooLarge,
    /// Its data cannot be inflated.
    #[error("the compressed data is broken")]
    Broken,
}

/// The filter of one connection.
#[derive(Debug)]
pub(crate) struct InflateFilter {
    /// Bytes of the client, and the number of those that are done with.
    input: Vec<u8>,
    taken: usize,
    /// Bytes for the reader, and the number of those that it has.
    staged: Vec<u8>,
    given: usize,
    state: State,
    message: Option<Box<Message>>,
    /// The largest number of bytes in a message.
    limit: usize,
}

/// The part of a frame that comes next.
#[derive(Debug)]
enum State {
    Header(ArrayVec<u8, MAX_HEADER>),
    /// Payload that passes unchanged.
    Plain {
        left: u64,
    },
    Compressed {
        left: u64,
        mask: [u8; 4],
        is_final: bool,
    },
    /// The end of a compressed message, of which so many bytes are done with.
    Ending(usize),
}

/// A compressed message of which more follows.
#[derive(Debug)]
struct Message {
    inflater: Decompress,
    compressed: usize,
    inflated: usize,
    /// True if the inflater may hold output for which there was no room.
    is_full: bool,
}

impl InflateFilter {
    /// Creates a filter for messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            input: Vec::new(),
            taken: 0,
            staged: Vec::new(),
            given: 0,
            state: State::Header(ArrayVec::new()),
            message: None,
            limit,
        }
    }

    /// Adds bytes of the client. The caller reads everything before it adds more, so that memory stays bounded.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Writes bytes for the reader, as many as there are and fit. When none come, the filter needs more of the client's
    /// bytes.
    ///
    /// # Errors
    /// [`InflateError`] if a compressed message is refused. Nothing can be read after it.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, InflateError> {
        let mut written = 0;
        loop {
            written += self.give(&mut out[written..]);
            if written == out.len() || !self.step(out, &mut written)? {
                break;
            }
        }
        if self.taken == self.input.len() {
            // An idle connection keeps no buffers.
            self.input = Vec::new();
            self.taken = 0;
        }
        if self.given == self.staged.len() {
            self.staged = Vec::new();
            self.given = 0;
        }
        Ok(written)
    }

    /// Gives the reader staged bytes.
    fn give(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.staged[self.given..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        if self.given == self.staged.len() {
            self.staged.clear();
            self.given = 0;
        }
        count
    }

    /// Makes one step, with everything staged given away. Returns false if it needs more of the client's bytes.
    fn step(&mut self, out: &mut [u8], written: &mut usize) -> Result<bool, InflateError> {
        match &mut self.state {
            State::Header(header) => {
                let Some(byte) = self.input.get(self.taken) else {
                    return Ok(false);
                };
                header.push(*byte);
                self.taken += 1;
                if header_length(header) == Some(header.len()) {
                    let header = header.clone();
                    self.begin(&header);
                }
                Ok(true)
            }
            State::Plain { left } => {
                let input = &self.input[self.taken..];
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = count.min(input.len()).min(out.len() - *written);
                out[*written..*written + count].copy_from_slice(&input[..count]);
                *left -= count as u64;
                let is_done = *left == 0;
                *written += count;
                self.taken += count;
                if is_done {
                    self.state = State::Header(ArrayVec::new());
                }
                Ok(is_done || count > 0)
            }
            State::Compressed { .. } | State::Ending(_) => self.inflate(),
        }
    }

    /// Begins a frame whose header is complete.
    fn begin(&mut self, header: &[u8]) {
        let (first, second) = (header[0], header[1]);
        let left = match second & LENGTH {
            126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
            127 => header[2..10]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            length => u64::from(length),
        };
        let opcode = first & OPCODE;
        let is_compressed = match &self.message {
            None => first & RESERVED == RSV1 && (1..=2).contains(&opcode),
            Some(_) => first & RESERVED == 0 && opcode == CONTINUATION,
        };
        match header.last_chunk() {
            Some(mask) if is_compressed && second & MASKED != 0 => {
                if self.message.is_none() {
                    self.message = Some(Box::new(Message::new()));
                    // The reader must know that a message has begun, because control frames may follow.
                    stage(&mut self.staged, opcode, &[]);
                }
                self.state = State::Compressed {
                    left,
                    mask: *mask,
                    is_final: first & FIN != 0,
                };
            }
            _ => {
                self.staged.extend_from_slice(header);
                self.state = State::Plain { left };
            }
        }
    }

    /// Inflates some bytes of a frame and stages them as a fragment.
    fn inflate(&mut self) -> Result<bool, InflateError> {
        let Some(message) = &mut self.message else {
            return Err(InflateError::Broken);
        };
        match &mut self.state {
            State::Compressed {
                left,
                mask,
                is_final,
            } => {
                if *left == 0 && !message.is_full {
                    self.state = if *is_final {
                        State::Ending(0)
                    } else {
                        State::Header(ArrayVec::new())
                    };
                    return Ok(true);
                }
                let mut chunk: ArrayVec<u8, 256> = ArrayVec::new();
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let masked = self.input[self.taken..].iter().zip(mask.iter().cycle());
                chunk.extend(
                    masked
                        .map(|(byte, mask)| byte ^ mask)
                        .take(count.min(chunk.capacity())),
                );
                if chunk.is_empty() && !message.is_full {
                    return Ok(false);
                }
                let taken = message.inflate(&chunk, self.limit, &mut self.staged)?.0;
                message.compressed += taken;
                mask.rotate_left(taken % 4);
                *left -= taken as u64;
                self.taken += taken;
                message.check_ratio()?;
                Ok(true)
            }
            State::Ending(done) => {
                let rest = &ENDING[*done..];
                let (taken, has_ended) = message.inflate(rest, self.limit, &mut self.staged)?;
                *done += taken;
                message.compressed += taken;
                message.check_ratio()?;
                if *done == ENDING.len() && has_ended {
                    self.message = None;
                    self.state = State::Header(ArrayVec::new());
                    stage(&mut self.staged, FIN | CONTINUATION, &[]);
                } else if *done == ENDING.len() && !message.is_full {
                    return Err(InflateError::Broken);
                }
                Ok(true)
            }
            State::Header(_) | State::Plain { .. } => Err(InflateError::Broken),
        }
    }
}

impl Message {
    fn new() -> Self {
        Self {
            inflater: Decompress::new(false),
            compressed: 0,
            inflated: 0,
            is_full: false,
        }
    }

    /// Inflates bytes into a staged fragment. Returns the number of bytes taken, and whether a last block ended there.
    fn inflate(
        &mut self,
        bytes: &[u8],
        limit: usize,
        staged: &mut Vec<u8>,
    ) -> Result<(usize, bool), InflateError> {
        let mut fragment = [0; FRAGMENT];
        let before = (self.inflater.total_in(), self.inflater.total_out());
        let status = self
            .inflater
            .decompress(bytes, &mut fragment, FlushDecompress::None)
            .map_err(|_| InflateError::Broken)?;
        let taken = (self.inflater.total_in() - before.0) as usize;
        let made = (self.inflater.total_out() - before.1) as usize;
        let was_full = std::mem::replace(&mut self.is_full, made == FRAGMENT);
        let has_ended = status == Status::StreamEnd;
        if has_ended {
            // Another block may follow the last one (RFC 7692 section 7.2.3.4), without anything of the earlier ones.
            self.inflater.reset(false);
            self.is_full = false;
        } else if taken == 0 && made == 0 && !was_full {
            return Err(InflateError::Broken);
        }
        self.inflated += made;
        if self.inflated > limit {
            return Err(InflateError::TooLarge);
        }
        if made > 0 {
            stage(staged, CONTINUATION, &fragment[..made]);
        }
        Ok((taken, has_ended))
    }

    fn check_ratio(&self) -> Result<(), InflateError> {
        let allowed = self.compressed.saturating_mul(MAX_RATIO).max(FREE_BYTES);
        if self.inflated > allowed {
            return Err(InflateError::TooLarge);
        }
        Ok(())
    }
}

/// Returns the length of a header as far as its first bytes tell it.
fn header_length(header: &[u8]) -> Option<usize> {
    let second = header.get(1)?;
    let length = match second & LENGTH {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    Some(length + if second & MASKED == 0 { 0 } else { 4 })
}

/// Stages a masked frame with a mask of zeros.
fn stage(staged: &mut Vec<u8>, first: u8, payload: &[u8]) {
    staged.push(first);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => staged.push(MASKED | length),
        _ => {
            // A fragment has at most 1,024 bytes.
            staged.push(MASKED | 126);
            staged.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    staged.extend_from_slice(&[0; 4]);
    staged.extend_from_slice(payload);
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
