//! Compression of one message by itself (RFC 7692 section 7.2.1), so that all receivers share the result.

use flate2::{Compress, Compression, FlushCompress};

/// The end of a compressed message, which its frame leaves out.
pub(crate) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The level of zlib. Higher ones save less than a hundredth more of messages of some kilobytes.
const LEVEL: u32 = 6;

/// The memory of one compressor, about 380 KB. A shard has one from the first compressed message on.
#[derive(Debug)]
pub(crate) struct Deflater {
    state: Compress,
    /// The result before its size is known.
    buffer: Vec<u8>,
}

impl Deflater {
    pub(crate) fn new() -> Self {
        Self {
            state: Compress::new(Compression::new(LEVEL), false),
            buffer: Vec::new(),
        }
    }

    /// Compresses a message to at most `limit` bytes, [`TAIL`] included. Returns none if they do not suffice.
    pub(crate) fn deflate(&mut self, message: &[u8], limit: usize) -> Option<&[u8]> {
        self.state.reset();
        // One byte more tells a result of `limit` bytes from a longer one.
        self.buffer.resize(limit + 1, 0);
        self.state
            .compress(message, &mut self.buffer, FlushCompress::Sync)
            .ok()?;
        let length = usize::try_from(self.state.total_out()).ok()?;
        let is_whole = self.state.total_in() == message.len() as u64 && length <= limit;
        let result = self.buffer.get(..length).filter(|_| is_whole)?;
        result.ends_with(&TAIL).then_some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn inflated(deflated: &[u8]) -> Vec<u8> {
        let mut inflated = Vec::new();
        let _ = flate2::read::DeflateDecoder::new(deflated).read_to_end(&mut inflated);
        inflated
    }

    #[test]
    fn the_limit_is_exact() {
        let mut deflater = Deflater::new();
        let message = br#"{"type":"message","topics":["action:Transfer","action:Transfer"]}"#;
        let length = deflater.deflate(message, 1000).unwrap().len();
        assert!(length < message.len());
        assert!(deflater.deflate(message, length - 1).is_none());
        assert_eq!(deflater.deflate(message, length).unwrap().len(), length);
    }

    proptest! {
        /// Each message stands by itself: nothing of an earlier one is needed to read it.
        #[test]
        fn messages_are_read_by_themselves(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..5)) {
            let mut deflater = Deflater::new();
            for message in messages {
                let deflated = deflater.deflate(&message, 4000).unwrap();
                prop_assert_eq!(inflated(deflated), message);
            }
        }
    }
}
