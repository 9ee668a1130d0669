use std::io::Cursor;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message as Received, Role, WebSocket};

use super::*;
use crate::wire::deflate::Deflater;

const LIMIT: usize = 100_000;
const MASK: [u8; 4] = [7, 250, 0, 99];

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(MASKED | length as u8),
        length @ 126..=65_535 => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut deflater = Deflater::new();
    let with_tail = deflater.deflate(message, 2 * message.len() + 100).unwrap();
    with_tail[..with_tail.len() - TAIL.len()].to_vec()
}

fn compressed(message: &[u8]) -> Vec<u8> {
    frame(FIN | RSV1 | 1, &deflated(message))
}

/// Runs bytes through a filter in pieces of these sizes, for a reader with as small buffers.
fn filtered(bytes: &[u8], sizes: &[usize], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut filter = InflateFilter::new(limit);
    let mut sizes = sizes.iter().copied().cycle();
    let (mut rest, mut result) = (bytes, Vec::new());
    loop {
        let mut out = vec![0; sizes.next().unwrap()];
        let count = filter.read(&mut out)?;
        result.extend_from_slice(&out[..count]);
        assert!(filter.staged.len() <= FRAGMENT + MAX_HEADER);
        if count == 0 {
            if rest.is_empty() {
                return Ok(result);
            }
            let (piece, left) = rest.split_at(rest.len().min(sizes.next().unwrap()));
            filter.push(piece);
            rest = left;
        }
    }
}

/// Returns the messages that the reader gets, and the reason for its end.
fn read(bytes: &[u8]) -> (Vec<Received>, Error) {
    let stream = Cursor::new(filtered(bytes, &[1000], LIMIT).unwrap());
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, error),
        }
    }
}

fn texts(bytes: &[u8]) -> Vec<String> {
    let (messages, error) = read(bytes);
    assert!(
        matches!(
            error,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        ),
        "{error}"
    );
    messages
        .iter()
        .map(|message| message.to_text().unwrap().to_owned())
        .collect()
}

#[test]
fn compressed_and_plain_messages_arrive_in_order() {
    let long = "so long, ".repeat(300) + "and thanks";
    let bytes = [
        compressed(b"one"),
        frame(FIN | 1, b"two"),
        compressed(long.as_bytes()),
        compressed(b""),
        frame(FIN | 9, b"ping"),
        compressed(b"last"),
    ]
    .concat();
    assert_eq!(texts(&bytes), ["one", "two", &long, "", "ping", "last"]);
}

#[test]
fn examples_of_rfc_7692_are_read() {
    for payload in [
        // Section 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ],
    ] {
        assert_eq!(texts(&frame(FIN | RSV1 | 1, payload)), ["Hello"]);
    }
    // The first example in two fragments.
    let fragments = [
        frame(RSV1 | 1, &[0xf2, 0x48, 0xcd]),
        frame(FIN, &[0xc9, 0xc9, 0x07, 0x00]),
    ];
    assert_eq!(texts(&fragments.concat()), ["Hello"]);
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let deflated = deflated(b"a message in pieces");
    let (first, rest) = deflated.split_at(7);
    let (second, third) = rest.split_at(1);
    let bytes = [
        frame(RSV1 | 1, first),
        frame(FIN | 9, b"ping"),
        frame(0, b""),
        frame(0, second),
        frame(FIN | 10, b"pong"),
        frame(FIN, third),
    ];
    assert_eq!(
        texts(&bytes.concat()),
        ["ping", "pong", "a message in pieces"]
    );
}

#[test]
fn frames_that_break_the_protocol_reach_the_reader() {
    let deflated = deflated(b"message");
    let mut unmasked = vec![FIN | RSV1 | 1, deflated.len() as u8];
    unmasked.extend_from_slice(&deflated);
    let open = frame(RSV1 | 1, &deflated[..3]);
    for (bytes, expected) in [
        (frame(FIN | RSV1 | 9, b"ping"), "Reserved bits"),
        (frame(FIN | RSV1 | 8, b""), "Reserved bits"),
        (frame(FIN | 0x20 | 1, b"rsv2"), "Reserved bits"),
        (frame(FIN | 0x10 | 1, b"rsv3"), "Reserved bits"),
        (frame(FIN | RESERVED | 1, &deflated), "Reserved bits"),
        (frame(FIN | RSV1, &deflated), "Reserved bits"),
        (unmasked, "masked"),
        (
            [&open[..], &frame(FIN | RSV1, &deflated[3..])].concat(),
            "Reserved bits",
        ),
        (
            [&open[..], &frame(FIN | RSV1 | 1, &deflated)].concat(),
            "Reserved bits",
        ),
        ([&open[..], &frame(FIN | 1, b"plain")].concat(), "fragment"),
        (
            [&open[..], &frame(FIN | RSV1 | 9, b"ping")].concat(),
            "Reserved bits",
        ),
    ] {
        let (messages, error) = read(&bytes);
        assert!(messages.is_empty());
        let error = error.to_string();
        assert!(
            error.to_lowercase().contains(&expected.to_lowercase()),
            "{error}, not {expected}"
        );
    }
}

#[test]
fn broken_data_is_refused() {
    let whole = deflated(b"a message that is long enough, long enough");
    let mut takeover = Deflater::new();
    takeover.deflate(b"a window to refer to", 100).unwrap();
    for payload in [
        // A reserved kind of block.
        &[0x06, 0, 0][..],
        b"",
        // A stored block whose length has no complement.
        &[0, 5, 0, 0, 0, 1, 2, 3, 4, 5],
        // A match from before the message, as from a client that keeps its window.
        &[0x02, 0x13, 0x00, 0x00],
        &whole[..whole.len() - 2],
        &whole[..1],
        // A last block without the empty one behind it.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
    ] {
        let bytes = frame(FIN | RSV1 | 1, payload);
        let result = filtered(&bytes, &[50], LIMIT);
        assert_eq!(result, Err(InflateError::Broken), "{payload:x?}");
    }
}

#[test]
fn messages_have_a_limit() {
    let message: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| n.to_string().into_bytes())
        .collect();
    for length in [9_999, 10_000, 10_001] {
        let bytes = compressed(&message[..length]);
        let result = filtered(&bytes, &[300], 10_000).map(|_| ());
        let expected = if length > 10_000 {
            Err(InflateError::TooLarge)
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{length}");
    }
}

#[test]
fn a_bomb_is_refused_long_before_its_end() {
    assert_eq!(texts(&compressed(&[b'x'; FREE_BYTES])).len(), 1);
    let bomb = compressed(&vec![b'x'; 50 << 20]);
    let mut filter = InflateFilter::new(usize::MAX);
    filter.push(&bomb);
    let (mut out, mut sum) = ([0; 256], 0);
    let error = loop {
        match filter.read(&mut out) {
            Ok(count) => sum += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error, InflateError::TooLarge);
    assert!(sum < 3 * FREE_BYTES + 256 * MAX_RATIO, "{sum}");
}

#[test]
fn an_idle_filter_keeps_no_buffers() {
    let mut filter = InflateFilter::new(LIMIT);
    filter.push(&[compressed(&b"some text ".repeat(50)), frame(FIN | 9, b"")].concat());
    let mut out = [0; 256];
    while filter.read(&mut out).unwrap() > 0 {}
    assert!(filter.message.is_none());
    assert_eq!(filter.input.capacity() + filter.staged.capacity(), 0);
    assert!(
        size_of::<InflateFilter>() <= 128,
        "{}",
        size_of::<InflateFilter>()
    );
}

fn messages() -> impl Strategy<Value = Vec<(bool, Vec<u8>, Vec<usize>)>> {
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        "([a-z]{1,9} ?){0,300}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(
        (
            any::<bool>(),
            text,
            prop::collection::vec(0_usize..500, 0..4),
        ),
        0..6,
    )
}

proptest! {
    /// The reader gets the messages as they were, however they are cut into frames and reads.
    #[test]
    fn messages_arrive_however_their_bytes_are_cut(
        messages in messages(),
        sizes in prop::collection::vec(1_usize..600, 1..8),
    ) {
        let mut bytes = Vec::new();
        for (is_compressed, message, cuts) in &messages {
            let payload = if *is_compressed { deflated(message) } else { message.clone() };
            let mut rest = &payload[..];
            let mut first = if *is_compressed { RSV1 | 2 } else { 2 };
            for cut in cuts {
                let (piece, left) = rest.split_at(rest.len().min(*cut));
                bytes.extend(frame(first, piece));
                bytes.extend(frame(FIN | 9, b"ping"));
                (first, rest) = (0, left);
            }
            bytes.extend(frame(FIN | first, rest));
        }
        let plain = filtered(&bytes, &sizes, LIMIT).unwrap();
        let mut socket = WebSocket::from_raw_socket(Cursor::new(plain), Role::Server, None);
        for (_, message, _) in &messages {
            let received = loop {
                match socket.read().unwrap() {
                    Received::Ping(_) => {}
                    received => break received,
                }
            };
            prop_assert_eq!(&received.into_data()[..], &message[..]);
        }
    }

    /// The result does not depend on the sizes of pieces, for any bytes.
    #[test]
    fn pieces_of_any_size_give_the_same(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xc1), Just(0x83)], 0..300),
        sizes in prop::collection::vec(1_usize..20, 1..8),
    ) {
        prop_assert_eq!(filtered(&bytes, &sizes, LIMIT).is_err(), filtered(&bytes, &[5000], LIMIT).is_err());
        if let Ok(whole) = filtered(&bytes, &[5000], LIMIT) {
            let pieces = filtered(&bytes, &sizes, LIMIT).unwrap();
            prop_assert_eq!(without_empty_fragments(&pieces), without_empty_fragments(&whole));
        }
    }
}

/// Joins consecutive fragments of inflated data, which depend on the pieces.
fn without_empty_fragments(bytes: &[u8]) -> usize {
    let mut socket = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Server, None);
    let mut sum = 0;
    while let Ok(message) = socket.read() {
        sum += message.len() + 1;
    }
    sum
}
