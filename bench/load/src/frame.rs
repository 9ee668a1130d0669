//! WebSocket frames (RFC 6455, section 5.2), as far as a load client and a floor need them.

/// Opcodes by name.
pub mod opcode {
    /// A later part of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// UTF-8 text.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The other side says goodbye.
    pub const CLOSE: u8 = 8;
    /// Must be answered by a pong.
    pub const PING: u8 = 9;
    /// The answer.
    pub const PONG: u8 = 10;
}

/// The largest payload of a control frame.
pub const MAX_CONTROL: usize = 125;

/// A frame's first bytes, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// See [`opcode`].
    pub opcode: u8,
    /// Bytes of the header itself.
    pub size: usize,
    /// Bytes of payload after it.
    pub payload: u64,
}

/// Why bytes are no frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Servers must not mask.
    Masked,
    /// No extension was agreed on that could use the reserved bits.
    Reserved,
    /// A control frame longer than 125 bytes, or in parts.
    Control,
    /// No such opcode.
    Opcode(u8),
}

impl Header {
    /// Reads the header of a server's frame; `None` when more bytes are needed.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Invalid> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Invalid::Reserved);
        }
        if second & 0x80 != 0 {
            return Err(Invalid::Masked);
        }
        let opcode = first & 0x0f;
        let short = second & 0x7f;
        match opcode {
            0..=2 => {}
            8..=10 if first & 0x80 != 0 && usize::from(short) <= MAX_CONTROL => {}
            8..=10 => return Err(Invalid::Control),
            other => return Err(Invalid::Opcode(other)),
        }
        Ok(match short {
            126 => rest.first_chunk().map(|len| Self {
                opcode,
                size: 4,
                payload: u64::from(u16::from_be_bytes(*len)),
            }),
            127 => rest.first_chunk().map(|len| Self {
                opcode,
                size: 10,
                payload: u64::from_be_bytes(*len),
            }),
            short => Some(Self {
                opcode,
                size: 2,
                payload: u64::from(short),
            }),
        })
    }
}

/// A whole unmasked text frame, as a server sends it.
pub fn server_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(10 + payload.len());
    frame.push(0x80 | opcode::TEXT);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => frame.push(len),
        (_, Ok(len)) => {
            frame.push(126);
            frame.extend(len.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Appends a masked control frame, as a client sends it. The mask is zero: nothing here needs hiding from proxies.
pub fn client_control(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    out.push(0x80 | opcode);
    out.push(0x80 | payload.len() as u8);
    out.extend([0; 4]);
    out.extend(payload);
}

/// Appends a whole masked binary frame, as a client sends it, with a mask of zero like [`client_control`]'s.
pub fn client_binary(out: &mut Vec<u8>, payload: &[u8]) {
    let mut frame = server_text(payload);
    frame[0] = 0x80 | opcode::BINARY;
    frame[1] |= 0x80;
    let header = frame.len() - payload.len();
    out.extend(&frame[..header]);
    out.extend([0; 4]);
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_at_each_step() {
        for len in [0usize, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let frame = server_text(&vec![b'a'; len]);
            let header = Header::read(&frame).expect("valid").expect("whole");
            assert_eq!((header.payload, header.opcode), (len as u64, opcode::TEXT));
            assert_eq!(header.size + len, frame.len());
            assert_eq!(Header::read(&frame[..header.size - 1]), Ok(None));
        }
    }

    #[test]
    fn a_client_masks() {
        let mut out = vec![b'b'];
        client_binary(&mut out, &[b'a'; 300]);
        assert_eq!(out[..9], [b'b', 0x82, 0x80 | 126, 1, 44, 0, 0, 0, 0]);
        assert_eq!(out.len(), 9 + 300);
    }

    #[test]
    fn what_a_server_must_not_send() {
        assert_eq!(
            Header::read(&[0x81, 0x80, 0, 0, 0, 0]),
            Err(Invalid::Masked)
        );
        assert_eq!(Header::read(&[0xc1, 0]), Err(Invalid::Reserved));
        assert_eq!(Header::read(&[0x83, 0]), Err(Invalid::Opcode(3)));
        assert_eq!(Header::read(&[0x89, 126]), Err(Invalid::Control));
        assert_eq!(Header::read(&[0x09, 0]), Err(Invalid::Control));
    }
}
