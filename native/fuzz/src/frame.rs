//! Parsing of frames as clients do it: RFC 6455 section 5.2.

use serde_json::Value as Json;

/// Returns the payload of bytes that must be one whole text frame from a server.
pub fn payload(frame: &[u8]) -> &str {
    assert_eq!(frame[0], 0x81, "a text frame, final, without reserved bits");
    let (length, start) = match frame[1] {
        127 => {
            let length = u64::from_be_bytes(frame[2..10].try_into().expect("8 bytes"));
            assert!(length > 0xffff, "the shortest form of the length");
            (length as usize, 10)
        }
        126 => {
            let length = u16::from_be_bytes(frame[2..4].try_into().expect("2 bytes"));
            assert!(length > 125, "the shortest form of the length");
            (length as usize, 4)
        }
        length => {
            assert!(length < 126, "a server masks nothing");
            (length as usize, 2)
        }
    };
    assert_eq!(
        frame.len(),
        start + length,
        "the length is that of the rest"
    );
    std::str::from_utf8(&frame[start..]).expect("text is UTF-8")
}

/// Returns the JSON of bytes that must be one whole text frame from a server.
pub fn json(frame: &[u8]) -> Json {
    serde_json::from_str(payload(frame)).expect("a frame holds JSON")
}
