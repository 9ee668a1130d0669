//! A frame as a server-sent event (the HTML standard, section 9.2.5): the JSON in one line, and the cursor behind it.

use bytes::Bytes;

use crate::wire::frame;

/// What an event begins with.
pub(crate) const START: &[u8] = b"data: ";
/// What ends an event without a cursor.
pub(crate) const END: &[u8] = b"\n\n";
/// What readers skip.
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// What ends an event with a cursor, which a client gives back when it comes again.
pub(crate) fn end_at(epoch: &str, seq: u64) -> String {
    format!("\nid: {epoch}:{seq}\n\n")
}

/// The event of a text frame. JSON has no line breaks outside of its texts, and escapes those inside.
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
            let event = of(&frame, end_at("k3f9x2", 7).as_bytes());
            assert_eq!(event, format!("data: {text}\nid: k3f9x2:7\n\n"));
            assert_eq!(of(&frame, END), format!("data: {text}\n\n"));
        }
    }
}
