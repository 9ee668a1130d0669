//! Headers of the server's WebSocket frames (RFC 6455 section 5.2), which are unmasked and never fragmented.

use arrayvec::ArrayVec;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The maximum length of an unmasked frame's header: two bytes and a 64-bit length.
pub(crate) const MAX_HEADER: usize = 10;

/// The bit of a compressed message, in the first byte of its first frame.
pub(crate) const RSV1: u8 = 0x40;

/// Returns the header of a text frame with `payload` bytes of payload.
pub(crate) fn text_header(payload: usize) -> ArrayVec<u8, MAX_HEADER> {
    header(Data::Text, payload)
}

/// Returns the header of a frame of either kind.
pub(crate) fn header(kind: Data, payload: usize) -> ArrayVec<u8, MAX_HEADER> {
    let mut header = ArrayVec::new();
    let frame = FrameHeader {
        opcode: OpCode::Data(kind),
        ..FrameHeader::default()
    };
    // The array has room for the longest header.
    let _ = frame.format(payload as u64, &mut header);
    header
}

/// Returns the header of a text frame whose payload is compressed (RFC 7692 section 6).
pub(crate) fn compressed_text_header(payload: usize) -> ArrayVec<u8, MAX_HEADER> {
    let mut header = text_header(payload);
    header[0] |= RSV1;
    header
}

/// Returns a whole text frame with this payload.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    let header = text_header(payload.len());
    let mut frame = Vec::with_capacity(header.len() + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

/// Returns the payload of a server's frame.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_grows_at_the_boundaries_of_rfc_6455() {
        for (payload, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(text_header(payload).as_slice(), header);
        }
        assert_eq!(text(b"hi"), b"\x81\x02hi");
    }
}
