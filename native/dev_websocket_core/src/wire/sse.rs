//! Frames as server-sent events (the HTML standard, section 9.2.5): the JSON in one line, then the cursor.

use bytes::Bytes;

use crate::wire::frame;

/// The beginning of an event.
pub(crate) const START: &[u8] = b"data: ";
/// The end of an event without a cursor.
pub(crate) const END: &[u8] = b"\n\n";
/// A comment, which readers skip.
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// Returns the end of an event with a cursor, which the client sends when it reconnects. A suffix carries the next slot
/// of a process.
pub(crate) fn end_at(epoch: &str, seq: u64, suffix: &str) -> String {
    format!("\nid: {epoch}:{seq}{suffix}\n\n")
}

/// Returns the event of a text frame. JSON has no line breaks outside its strings, and escapes those inside.
pub(crate) fn of(text_frame: &[u8], end: &[u8]) -> Bytes {
    [START, frame::payload(text_frame), end].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_payload_in_a_line_and_a_cursor() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            let frame = frame::text(text.as_bytes());
            let event = of(&frame, end_at("k3f9x2", 7, "").as_bytes());
            assert_eq!(event, format!("data: {text}\nid: k3f9x2:7\n\n"));
            assert_eq!(of(&frame, END), format!("data: {text}\n\n"));
        }
    }
}
