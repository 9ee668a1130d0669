//! Server-sent events as one gzip stream (RFC 1952) that never ends.
//!
//! Each event consists of whole deflate blocks, so a client can decode it when it arrives. The JSON of a publication is
//! the compressed form that WebSocket clients get; everything else stands in stored blocks.

use std::borrow::Cow;

use bytes::Bytes;

use crate::wire::sse;

/// The beginning of the stream: deflate, no name, no time, an unknown system.
pub(crate) const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The largest number of bytes in a stored block (RFC 1951 section 3.2.4).
pub(crate) const MAX_STORED: usize = 65_535;

/// The beginning of an event as a block of its own.
pub(crate) const START: &[u8] = b"\x00\x06\x00\xf9\xffdata: ";

/// The end of an event without a cursor as a block of its own.
pub(crate) const END: &[u8] = b"\x00\x02\x00\xfd\xff\n\n";

/// Returns the header of a stored block of at most [`MAX_STORED`] bytes.
fn header(length: usize) -> [u8; 5] {
    let [low, high] = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    [0, low, high, !low, !high]
}

/// Returns bytes as stored blocks.
pub(crate) fn stored(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.len().div_ceil(MAX_STORED);
    let mut stored = Vec::with_capacity(bytes.len() + blocks * 5);
    for block in bytes.chunks(MAX_STORED) {
        stored.extend_from_slice(&header(block.len()));
        stored.extend_from_slice(block);
    }
    stored
}

/// Returns the beginning of an event whose JSON follows as it is. JSON that needs several blocks is part of it.
pub(crate) fn plain_start(json: &[u8]) -> Vec<u8> {
    let length = sse::START.len() + json.len();
    if length <= MAX_STORED {
        [&header(length), sse::START].concat()
    } else {
        stored(&[sse::START, json].concat())
    }
}

/// Returns true if [`plain_start`] contains the JSON.
pub(crate) fn is_split(json: &[u8]) -> bool {
    sse::START.len() + json.len() > MAX_STORED
}

/// Returns whole events as a client gets them, with or without compression.
pub(crate) fn of(events: Bytes, is_compressed: bool) -> Bytes {
    if is_compressed {
        stored(&events).into()
    } else {
        events
    }
}

/// Returns the end of an event as a client gets it, with or without compression.
pub(crate) fn end_of(end: &str, is_compressed: bool) -> Cow<'_, [u8]> {
    if is_compressed {
        stored(end.as_bytes()).into()
    } else {
        end.as_bytes().into()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use super::*;

    /// Decodes a stream that has not ended.
    pub(crate) fn decoded(stream: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let result = flate2::read::GzDecoder::new(stream).read_to_end(&mut decoded);
        assert_eq!(
            result.unwrap_err().kind(),
            std::io::ErrorKind::UnexpectedEof
        );
        decoded
    }

    #[test]
    fn stored_blocks_decode_to_what_they_hold() {
        for length in [0, 1, MAX_STORED - 1, MAX_STORED, MAX_STORED + 1, 200_000] {
            let bytes = vec![b'x'; length];
            assert_eq!(decoded(&[&HEAD[..], &stored(&bytes)].concat()), bytes);
            let rest = if is_split(&bytes) { &[][..] } else { &bytes };
            let event = [&HEAD[..], &plain_start(&bytes), rest, END].concat();
            assert_eq!(decoded(&event), [sse::START, &bytes, sse::END].concat());
        }
        assert_eq!(stored(sse::START), START);
        assert_eq!(stored(sse::END), END);
    }
}
