//! Takes a connection's bytes, split and joined anywhere, apart into frames.
//!
//! Whole frames are looked at where they lie in the read buffer. Of a frame that is cut off only the beginning is kept,
//! until its marker is found; the rest is skipped. So a connection owns a few hundred bytes at most times, whatever
//! the size of messages, and nothing is allocated per frame.

use crate::frame::{Header, Invalid, opcode};
use crate::marker::Marker;

/// How much of a cut-off frame is kept while no marker is found in it; past that it is taken to have none.
const KEEP: usize = 16 * 1024;

/// What a frame was, once its last byte is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A measured message.
    Message(Marker),
    /// Text or bytes without a marker: a welcome, a reply, a gap notice. The first bytes of it.
    Other(&'a [u8]),
    /// To be answered.
    Ping(&'a [u8]),
    /// Ignored, but counted.
    Pong,
    /// With the close code, 1005 when there is none.
    Close(u16),
}

/// The parser's state between two reads.
#[derive(Default)]
pub struct Reader {
    /// The beginning of a cut-off frame, header included.
    kept: Vec<u8>,
    /// Bytes still to be skipped of a frame whose beginning has been seen.
    skip: u64,
    /// What to report when they are.
    skipped: Option<Marker>,
}

impl Reader {
    /// Takes the next bytes and reports each frame that they complete.
    #[inline]
    pub fn feed(
        &mut self,
        mut chunk: &[u8],
        hint: &mut usize,
        mut report: impl FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        if self.skip > 0 {
            let step = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            chunk = &chunk[step..];
            self.skip -= step as u64;
            if self.skip > 0 {
                return Ok(());
            }
            report(
                self.skipped
                    .take()
                    .map_or(Event::Other(&[]), Event::Message),
            );
        }
        if !self.kept.is_empty() {
            chunk = self.complete_kept(chunk, hint, &mut report)?;
        }
        // A frame that is not whole here leaves `chunk` at its first byte.
        while let Some(header) = Header::read(chunk)? {
            let Some(payload) = whole(chunk, header) else {
                if !self.begin_skip(header, &chunk[header.size..], hint) {
                    break;
                }
                return Ok(());
            };
            dispatch(header.opcode, payload, hint, &mut report);
            chunk = &chunk[header.size + payload.len()..];
        }
        self.kept.extend_from_slice(chunk);
        Ok(())
    }

    /// Adds to the kept beginning until its frame is whole, or can be skipped. Gives what it did not use.
    #[cold]
    fn complete_kept<'a>(
        &mut self,
        mut chunk: &'a [u8],
        hint: &mut usize,
        report: &mut impl FnMut(Event<'_>),
    ) -> Result<&'a [u8], Invalid> {
        while !chunk.is_empty() {
            let header = Header::read(&self.kept)?;
            // Without a header the next byte; with one the rest of its frame, in steps that end where it is given up.
            let wanted = header.map_or(1, |h| {
                (h.size as u64 + h.payload).saturating_sub(self.kept.len() as u64)
            });
            let step = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(KEEP)
                .min(chunk.len());
            self.kept.extend_from_slice(&chunk[..step]);
            chunk = &chunk[step..];
            let Some(header) = Header::read(&self.kept)? else {
                continue;
            };
            let kept = std::mem::take(&mut self.kept);
            if let Some(payload) = whole(&kept, header) {
                dispatch(header.opcode, payload, hint, report);
            } else if !self.begin_skip(header, &kept[header.size..], hint) {
                self.kept = kept;
                continue;
            }
            self.kept = kept; // its memory, for the next one
            self.kept.clear();
            if self.skip == 0 {
                return Ok(chunk);
            }
            // The frame goes on: skip what is here of it, and leave the rest to later reads.
            let step = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            self.skip -= step as u64;
            chunk = &chunk[step..];
            if self.skip > 0 {
                return Ok(chunk);
            }
            report(
                self.skipped
                    .take()
                    .map_or(Event::Other(&[]), Event::Message),
            );
            return Ok(chunk);
        }
        Ok(chunk)
    }

    /// Whether the rest of a cut-off data frame need not be looked at, because its marker is already here or it has
    /// none.
    fn begin_skip(&mut self, header: Header, begun: &[u8], hint: &mut usize) -> bool {
        if header.opcode > opcode::BINARY {
            return false;
        }
        let found = Marker::find(begun, hint);
        if found.is_none() && begun.len() < KEEP {
            return false;
        }
        self.skipped = found;
        self.skip = header.payload - begun.len() as u64;
        true
    }
}

#[inline]
fn whole(bytes: &[u8], header: Header) -> Option<&[u8]> {
    bytes[header.size..].get(..usize::try_from(header.payload).ok()?)
}

#[inline]
fn dispatch(code: u8, payload: &[u8], hint: &mut usize, report: &mut impl FnMut(Event<'_>)) {
    match code {
        opcode::PING => report(Event::Ping(payload)),
        opcode::PONG => report(Event::Pong),
        opcode::CLOSE => report(Event::Close(
            payload
                .first_chunk()
                .map_or(1005, |code| u16::from_be_bytes(*code)),
        )),
        _ => report(Marker::find(payload, hint).map_or(Event::Other(payload), Event::Message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::server_text;

    fn message(seq: u64, before: usize, size: usize) -> Vec<u8> {
        let mut payload = vec![b'x'; before + size];
        Marker {
            stream: 1,
            seq,
            sent_ns: 5,
        }
        .write(&mut payload[before..]);
        server_text(&payload)
    }

    fn run(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let (mut reader, mut hint, mut seen) = (Reader::default(), 0, Vec::new());
        for chunk in chunks {
            reader
                .feed(&chunk, &mut hint, |event| {
                    seen.push(match event {
                        Event::Message(marker) => format!("{}", marker.seq),
                        Event::Other(_) => "other".into(),
                        Event::Ping(payload) => format!("ping {}", payload.len()),
                        Event::Pong => "pong".into(),
                        Event::Close(code) => format!("close {code}"),
                    });
                })
                .expect("valid frames");
        }
        seen
    }

    #[test]
    fn the_same_frames_however_they_are_cut() {
        let mut bytes = Vec::new();
        let mut wanted = Vec::new();
        for (seq, (before, size)) in [
            (0, 47),
            (0, 60),
            (90, 90),
            (500, 3000),
            (0, 70_000),
            (30_000, 40_000),
        ]
        .into_iter()
        .enumerate()
        {
            bytes.extend(message(seq as u64, before, size));
            // The marker behind 16 KiB of something else is found only in a frame that comes in one piece.
            wanted.push(format!("{seq}"));
            bytes.extend(server_text(br#"{"type":"welcome"}"#));
            wanted.push("other".into());
            bytes.extend([0x89, 3, b'a', b'b', b'c', 0x8a, 0]);
            wanted.extend(["ping 3".into(), "pong".into()]);
        }
        bytes.extend(server_text(&[b'z'; 20_000]));
        wanted.push("other".into());
        bytes.extend([0x88, 2, 0x03, 0xe8, 0x88, 0]);
        wanted.extend(["close 1000".into(), "close 1005".into()]);

        assert_eq!(run(std::iter::once(bytes.clone())), wanted);
        let far = wanted.iter().position(|w| w == "5").expect("listed");
        for size in [1, 2, 3, 7, 64, 127, 1000, 4096, 16_384, 65_536] {
            let mut got = run(bytes.chunks(size).map(<[u8]>::to_vec));
            if got[far] == "other" {
                got[far] = "5".into();
            }
            assert_eq!(got, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn two_pieces_cut_at_every_byte() {
        let mut bytes = message(0, 20, 80);
        bytes.extend(message(1, 0, 200));
        bytes.extend([0x89, 1, b'p']);
        bytes.extend(message(2, 5, 47));
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(
                run([a.to_vec(), b.to_vec()].into_iter()),
                ["0", "1", "ping 1", "2"],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_frames_are_an_error() {
        let mut reader = Reader::default();
        assert!(reader.feed(b"HTTP/1.1 200 OK", &mut 0, |_| {}).is_err());
    }
}
