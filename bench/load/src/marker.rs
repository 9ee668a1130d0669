//! The marker that every measured payload starts with: `#bench:<stream>:<seq>:<ns>#`, all numbers in lower-case hex.
//!
//! Servers wrap payloads differently (bare, or as a string inside JSON), so the client looks for the marker anywhere in
//! a frame. It holds no character that JSON escapes.

use memchr::memmem::Finder;
use std::sync::LazyLock;

const PREFIX: &[u8] = b"#bench:";
const STREAM: usize = PREFIX.len();
const SEQ: usize = STREAM + 4 + 1;
const SENT: usize = SEQ + 16 + 1;
const END: usize = SENT + 16;

/// Length of a marker, and so the smallest payload.
pub const LEN: usize = END + 1;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PREFIX));

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Which publisher (and, with many topics per connection, which of its topics).
    pub stream: u16,
    /// Position in that stream, from 0.
    pub seq: u64,
    /// When it was published, see [`crate::clock`].
    pub sent_ns: u64,
}

impl Marker {
    /// Writes the marker over the first [`LEN`] bytes of `payload`, which must be that long.
    pub fn write(&self, payload: &mut [u8]) {
        payload[..STREAM].copy_from_slice(PREFIX);
        write_hex(&mut payload[STREAM..SEQ - 1], u64::from(self.stream));
        payload[SEQ - 1] = b':';
        write_hex(&mut payload[SEQ..SENT - 1], self.seq);
        payload[SENT - 1] = b':';
        write_hex(&mut payload[SENT..END], self.sent_ns);
        payload[END] = b'#';
    }

    /// Finds a marker in `text`. `hint` is where the last one was: frames of one server mostly look alike, so most
    /// markers are found without searching.
    #[inline]
    pub fn find(text: &[u8], hint: &mut usize) -> Option<Self> {
        if let Some(marker) = text.get(*hint..).and_then(Self::read) {
            return Some(marker);
        }
        // A payload could hold the prefix by accident; a few tries, then it carries no marker.
        let mut from = 0;
        for _ in 0..4 {
            let at = from + FINDER.find(&text[from..])?;
            if let Some(marker) = Self::read(&text[at..]) {
                *hint = at;
                return Some(marker);
            }
            from = at + 1;
        }
        None
    }

    #[inline]
    fn read(text: &[u8]) -> Option<Self> {
        let text: &[u8; LEN] = text.first_chunk()?;
        let framed = text.starts_with(PREFIX)
            && text[SEQ - 1] == b':'
            && text[SENT - 1] == b':'
            && text[END] == b'#'
            && text[STREAM..SEQ - 1].iter().all(u8::is_ascii_hexdigit);
        if !framed {
            return None;
        }
        let (hex4, _) = text[STREAM..].split_first_chunk::<4>()?;
        let stream = read_hex8(&[b'0', b'0', b'0', b'0', hex4[0], hex4[1], hex4[2], hex4[3]]);
        Some(Self {
            stream: u16::try_from(stream).ok()?,
            seq: read_hex16(text[SEQ..].first_chunk()?),
            sent_ns: read_hex16(text[SENT..].first_chunk()?),
        })
    }
}

fn write_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[inline]
fn read_hex16(text: &[u8; 16]) -> u64 {
    let (high, low) = text.split_at(8);
    let part = |half: &[u8]| half.first_chunk().map_or(0, read_hex8);
    u64::from(part(high)) << 32 | u64::from(part(low))
}

/// Eight hex digits at once, in a register: the client reads millions of markers a second on the core it shares with
/// the server, and a digit at a time was the largest part of its own work.
#[inline]
fn read_hex8(text: &[u8; 8]) -> u32 {
    let word = u64::from_le_bytes(*text);
    let letters = (word >> 6) & 0x0101_0101_0101_0101;
    let nibbles = (word & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let bytes = ((nibbles << 4) | (nibbles >> 8)) & 0x00ff_00ff_00ff_00ff;
    let pairs = ((bytes << 8) | (bytes >> 16)) & 0x0000_ffff_0000_ffff;
    let all = (pairs << 16) | (pairs >> 32);
    all as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker {
        stream: 0xbeef,
        seq: 0x0123_4567_89ab_cdef,
        sent_ns: u64::MAX - 1,
    };

    fn payload(size: usize) -> Vec<u8> {
        let mut payload = vec![b'x'; size];
        MARKER.write(&mut payload);
        payload
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut hint = 0;
        assert_eq!(Marker::find(&payload(LEN), &mut hint), Some(MARKER));
        assert_eq!(payload(LEN).len(), LEN);
    }

    #[test]
    fn it_is_found_anywhere_and_the_place_is_remembered() {
        let mut text = br##"{"data":"#bench:no","b":""##.to_vec();
        let at = text.len();
        text.extend(payload(80));
        let mut hint = 0;
        assert_eq!(Marker::find(&text, &mut hint), Some(MARKER));
        assert_eq!(hint, at);
        assert_eq!(Marker::find(&text, &mut hint), Some(MARKER));
    }

    #[test]
    fn text_without_a_whole_marker_has_none() {
        let mut hint = 7;
        for text in [&b""[..], b"{}", b"#bench:", &payload(LEN)[..LEN - 1]] {
            assert_eq!(Marker::find(text, &mut hint), None);
        }
    }
}
