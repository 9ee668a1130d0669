//! Fuzzing of compressed messages. A second inflater judges the filter: each accepted message has the content that it
//! finds, and each message that a second compressor made is accepted.

use dev_websocket_core::internals::inflating::filtered;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Below the number of bytes that may inflate by any ratio.
const LIMIT: usize = 3000;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

struct Frame {
    first: u8,
    is_masked: bool,
    payload: Vec<u8>,
}

/// Checks the filter with any bytes. The first two choose the size of pieces, and whether the rest are frames of a client
/// or the content of a message.
pub fn check(input: &[u8]) {
    let [kind, piece, rest @ ..] = input else {
        return;
    };
    let piece = usize::from(*piece) + 1;
    if kind & 1 == 0 {
        check_frames(rest, piece);
    } else {
        check_message(rest, usize::from(kind >> 1), piece);
    }
}

fn check_frames(bytes: &[u8], piece: usize) {
    let result = filtered(bytes, piece, LIMIT);
    let whole = filtered(bytes, usize::MAX, LIMIT);
    assert_eq!(result.is_err(), whole.is_err());
    let Ok(result) = result else {
        return;
    };
    // What follows a frame that breaks the protocol means nothing, because the reader stops there.
    let expected = messages(&frames(bytes), true);
    assert_eq!(messages(&frames(&result), false), expected);
}

/// A message that another compressor made arrives, cut into frames at any place.
fn check_message(content: &[u8], cut: usize, piece: usize) {
    let content = &content[..content.len().min(LIMIT)];
    let mut deflated = vec![0; 2 * content.len() + 1000];
    let mut compressor = CompressorOxide::new(0);
    let (_, _, length) = compress(&mut compressor, content, &mut deflated, TDEFLFlush::Sync);
    deflated.truncate(length);
    let payload = deflated.strip_suffix(&TAIL).expect("a flushed block");
    let (head, tail) = payload.split_at(cut.min(payload.len()));
    let bytes = [frame(0x42, head), frame(0x89, b"ping"), frame(0x80, tail)].concat();
    let result = filtered(&bytes, piece, LIMIT).expect("a message within its limits");
    let expected = vec![(0x89, b"ping".to_vec()), (2, content.to_vec())];
    assert_eq!(messages(&frames(&result), false), expected);
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut frame = vec![first, 0x80 | 126, length[0], length[1], 1, 2, 3, 4];
    frame.extend(
        payload
            .iter()
            .zip([1, 2, 3, 4].iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Returns the whole frames at the beginning of these bytes.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let size = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((size_bytes, rest)) = rest.split_at_checked(size) else {
            break;
        };
        let length = match size {
            0 => u64::from(second & 0x7f),
            _ => size_bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let is_masked = second & 0x80 != 0;
        let Some((mask, rest)) = rest.split_at_checked(if is_masked { 4 } else { 0 }) else {
            break;
        };
        let Some((payload, rest)) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
        else {
            break;
        };
        let mask = if is_masked { mask } else { &[0] };
        let payload = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        frames.push(Frame {
            first: *first,
            is_masked,
            payload: payload.collect(),
        });
        bytes = rest;
    }
    frames
}

/// Returns whole messages and control frames up to the first frame that breaks the protocol. `is_deflated` allows
/// compressed messages.
fn messages(frames: &[Frame], is_deflated: bool) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut open: Option<(u8, Vec<u8>)> = None;
    for frame in frames {
        let (first, opcode) = (frame.first, frame.first & 15);
        let may_be_compressed = is_deflated && open.is_none() && (1..=2).contains(&opcode);
        let reserved = first & 0x70;
        if !frame.is_masked || !(reserved == 0 || reserved == 0x40 && may_be_compressed) {
            break;
        }
        match (opcode, &mut open) {
            (8..=10, _) if first & 0x80 != 0 && frame.payload.len() < 126 => {
                messages.push((first, frame.payload.clone()));
                continue;
            }
            (1..=2, None) => open = Some((first & 0x4f, frame.payload.clone())),
            (0, Some((_, payload))) => payload.extend_from_slice(&frame.payload),
            _ => break,
        }
        if first & 0x80 != 0
            && let Some((kind, payload)) = open.take()
        {
            let payload = if kind & 0x40 == 0 {
                payload
            } else {
                inflated(&payload)
            };
            messages.push((kind & 15, payload));
        }
    }
    messages
}

/// Inflates an accepted message with the second inflater.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let bytes = [payload, &TAIL, &LAST_BLOCK].concat();
    let (mut rest, mut inflated) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let mut out = vec![0; LIMIT + 1];
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, taken, made) =
            decompress(&mut DecompressorOxide::new(), rest, &mut out, 0, flags);
        assert_eq!(status, TINFLStatus::Done, "the message was accepted");
        inflated.extend_from_slice(&out[..made]);
        rest = &rest[taken..];
    }
    assert!(inflated.len() <= LIMIT);
    inflated
}
