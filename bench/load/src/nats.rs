//! The NATS protocol inside WebSocket frames, as far as a subscriber speaks it.
//!
//! A server of it packs messages into frames as it likes: several into one, and one across several. So the bytes of all
//! frames are one text. The reader keeps only the beginning of a message whose end has not come.

use crate::frame::{Header, client_binary, opcode};
use crate::marker::Marker;
use crate::reader::Event;

/// The bytes that are kept of a message whose end has not come. No message of the benchmark is longer.
const KEEP: usize = 4 << 20;
const CONNECT: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1}"#;

/// Makes the first frame of a client: its name and its subscriptions. The server's `PONG` confirms them.
pub fn subscribe<'a>(topics: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut text = format!("{CONNECT}\r\n");
    for (number, topic) in topics.enumerate() {
        text += &format!("SUB {topic} {}\r\n", number + 1);
    }
    text += "PING\r\n";
    let mut out = Vec::new();
    client_binary(&mut out, text.as_bytes());
    out
}

/// Appends the answer to a `PING`.
pub fn pong(out: &mut Vec<u8>) {
    client_binary(out, b"PONG\r\n");
}

/// The parser's state between two reads.
#[derive(Default)]
pub struct Reader {
    /// The beginning of a header.
    header: Vec<u8>,
    opcode: u8,
    /// Payload of the frame that has not come yet.
    left: u64,
    /// The payload of a control frame.
    control: Vec<u8>,
    /// The beginning of a message that is not whole.
    text: Vec<u8>,
}

impl Reader {
    /// Takes the next bytes and reports each message that they complete, a `PING`, and as [`Event::Other`] a `PONG`.
    #[inline]
    pub fn feed(
        &mut self,
        mut chunk: &[u8],
        hint: &mut usize,
        mut report: impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        while !chunk.is_empty() {
            if self.left == 0 {
                let Some(rest) = self.begin(chunk)? else {
                    return Ok(());
                };
                chunk = rest;
            }
            let step = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            let (here, rest) = chunk.split_at(step);
            (chunk, self.left) = (rest, self.left - step as u64);
            if self.opcode < opcode::CLOSE {
                self.take(here, hint, &mut report)?;
                continue;
            }
            self.control.extend_from_slice(here);
            if self.left == 0 && self.opcode == opcode::CLOSE {
                let code = self.control.first_chunk();
                report(Event::Close(
                    code.map_or(1005, |code| u16::from_be_bytes(*code)),
                ));
            }
        }
        Ok(())
    }

    /// Reads the header of a frame; gives what follows it, once it is whole.
    fn begin<'a>(&mut self, mut chunk: &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        let invalid = |error| format!("{error:?}");
        let header = if self.header.is_empty()
            && let Some(header) = Header::read(chunk).map_err(invalid)?
        {
            chunk = &chunk[header.size..];
            header
        } else {
            loop {
                let Some((first, rest)) = chunk.split_first() else {
                    return Ok(None);
                };
                self.header.push(*first);
                chunk = rest;
                if let Some(header) = Header::read(&self.header).map_err(invalid)? {
                    break header;
                }
            }
        };
        self.header.clear();
        self.control.clear();
        (self.opcode, self.left) = (header.opcode, header.payload);
        Ok(Some(chunk))
    }

    /// Bytes of the text. Copied only where a message is cut.
    fn take(
        &mut self,
        here: &[u8],
        hint: &mut usize,
        report: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        if self.text.is_empty() {
            let used = operations(here, hint, report)?;
            self.text.extend_from_slice(&here[used..]);
            return Ok(());
        }
        self.text.extend_from_slice(here);
        let used = operations(&self.text, hint, report)?;
        self.text.drain(..used);
        if self.text.len() > KEEP {
            return Err("an endless message".into());
        }
        Ok(())
    }
}

/// Reports each whole operation; returns their length.
fn operations(
    text: &[u8],
    hint: &mut usize,
    report: &mut impl FnMut(Event<'_>),
) -> Result<usize, String> {
    let mut used = 0;
    while let Some(end) = memchr::memchr(b'\n', &text[used..]) {
        let (line, after) = (&text[used..used + end], used + end + 1);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let lossy = || String::from_utf8_lossy(line).into_owned();
        match line.split(|byte| *byte == b' ').next() {
            Some(b"MSG") => {
                let size = line.rsplit(|byte| *byte == b' ').next();
                let size: usize = size
                    .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
                    .filter(|size| *size <= KEEP)
                    .ok_or_else(lossy)?;
                // Its end is a line's.
                let Some(payload) = text.get(after..after + size + 2) else {
                    break;
                };
                let payload = &payload[..size];
                report(Marker::find(payload, hint).map_or(Event::Other(payload), Event::Message));
                used = after + size + 2;
                continue;
            }
            Some(b"PING") => report(Event::Ping(&[])),
            Some(b"PONG") => report(Event::Other(line)),
            Some(b"INFO" | b"+OK") => {}
            _ => return Err(lossy()),
        }
        used = after;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::server_text;

    fn message(seq: u64, size: usize) -> Vec<u8> {
        let mut payload = vec![b'x'; size];
        let marker = Marker {
            stream: 1,
            seq,
            sent_ns: 5,
        };
        marker.write(&mut payload);
        let mut text = format!("MSG t 1 {size}\r\n").into_bytes();
        text.extend(payload);
        text.extend(b"\r\n");
        text
    }

    fn run<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, String> {
        let (mut reader, mut hint, mut seen) = (Reader::default(), 0, Vec::new());
        for chunk in chunks {
            reader.feed(chunk, &mut hint, |event| {
                seen.push(match event {
                    Event::Message(marker) => marker.seq.to_string(),
                    Event::Other(text) => String::from_utf8_lossy(text).into_owned(),
                    Event::Ping(_) => "ping".into(),
                    Event::Pong => "pong".into(),
                    Event::Close(code) => format!("close {code}"),
                });
            })?;
        }
        Ok(seen)
    }

    /// Messages in frames of their own, many in one, and one across frames, with a control frame within.
    fn conversation() -> Vec<u8> {
        let mut bytes = server_text(b"INFO {\"a\":1}\r\n");
        bytes.extend(server_text(b"PONG\r\n"));
        bytes.extend(server_text(&message(0, 60)));
        let many = [message(1, 50), b"PING\r\n".to_vec(), message(2, 300)].concat();
        bytes.extend(server_text(&many));
        let long = message(3, 70_000);
        let (first, second) = long.split_at(30_000);
        bytes.extend(server_text(first));
        bytes.extend([0x89, 1, b'a']);
        bytes.extend(server_text(second));
        bytes.extend(server_text(b"MSG t 1 2\r\nhi\r\n"));
        bytes.extend([0x88, 2, 0x03, 0xe8]);
        bytes
    }

    #[test]
    fn the_same_messages_however_they_are_cut() {
        let wanted = ["PONG", "0", "1", "ping", "2", "3", "hi", "close 1000"];
        let bytes = conversation();
        for size in [1, 2, 3, 7, 64, 1000, 4096, 65_536, bytes.len()] {
            let got = run(bytes.chunks(size)).expect("valid");
            assert_eq!(got, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for text in [
            "-ERR 'Slow Consumer'\r\n",
            "MSG t 1 x\r\n",
            "MSG t 1 99999999\r\n",
            "HTTP\r\n",
        ] {
            let frame = server_text(text.as_bytes());
            assert!(run(std::iter::once(frame.as_slice())).is_err(), "{text}");
        }
    }

    #[test]
    fn subscribing_to_topics() {
        let frame = subscribe(["a", "b"].into_iter());
        let text = String::from_utf8_lossy(&frame);
        assert!(text.ends_with("}\r\nSUB a 1\r\nSUB b 2\r\nPING\r\n"));
        assert_eq!(frame[..2], [0x82, 0x80 | (frame.len() - 6) as u8]);
    }
}
