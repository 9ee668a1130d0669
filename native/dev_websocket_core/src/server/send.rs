//! Messages to one connection, and the check that it exists.

use bytes::Bytes;
use thiserror::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use crate::log::publication::now;
use crate::message::Value;
use crate::message::json::{JsonWriter, TooLong};
use crate::server::Server;
use crate::settings::{Settings, size};
use crate::shard::command::Command;
use crate::wire::format::Format;
use crate::wire::frame;
use crate::wire::gzip;
use crate::wire::sse;

/// Content of a message to one connection.
#[derive(Debug, Clone)]
pub enum Direct<'a> {
    /// A text frame with this text for a raw connection; otherwise the text is the `data` of a message.
    Text(&'a str),
    /// A binary frame with these bytes for a raw connection. Otherwise the bytes are the `data` of a message: as text
    /// if they are UTF-8, else as a message encodes binary values.
    Binary(&'a [u8]),
    /// A value as JSON.
    Value(Value<'a>),
}

/// Reasons for which nothing was sent to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The connection has ended or never existed.
    #[error("no such connection")]
    NoConnection,
    /// More than `send_buffer_bytes` bytes of frames for this connection alone are not sent yet.
    #[error("the connection's send buffer is full")]
    Busy,
    /// The data is larger than `max_message_bytes`.
    #[error("the message is too large")]
    TooLarge,
}

impl Server {
    /// Returns true if there is a connection with this id. It costs one look-up.
    #[must_use]
    pub fn has_connection(&self, connection: u64) -> bool {
        self.shared.connections.find(connection).is_some()
    }

    /// Sends to one connection, after all earlier and before all later publications. The call never blocks.
    ///
    /// # Errors
    /// [`SendError`] if nothing was sent.
    pub fn send(&self, connection: u64, direct: &Direct<'_>) -> Result<(), SendError> {
        let shared = &*self.shared;
        let Some(handle) = shared.connections.find(connection) else {
            return Err(SendError::NoConnection);
        };
        let settings = shared.settings();
        let form = handle.peer.form;
        let frame = match form.format {
            Format::Json | Format::Edges => json_frame(direct, &settings),
            Format::Raw => raw_frame(direct, &settings),
            Format::Events => json_frame(direct, &settings)
                .map(|frame| gzip::of(sse::of(&frame, sse::END), form.is_compressed)),
        }?;
        if !handle.direct_made(frame.len(), size(settings.send_buffer_bytes)) {
            return Err(SendError::Busy);
        }
        shared.context.counters.direct_messages.add(1);
        handle.tell(Command::Direct {
            connection,
            after: shared.context.log.last_seq(),
            frame,
        });
        Ok(())
    }
}

fn json_frame(direct: &Direct<'_>, settings: &Settings) -> Result<Bytes, SendError> {
    framed(Data::Text, |buffer| {
        let mut writer = JsonWriter::new(buffer, usize::MAX, settings.commitments);
        // Without a limit, writing cannot fail.
        let _ = writer.raw(r#"{"type":"direct","timestamp":"#);
        let _ = writer.raw(itoa::Buffer::new().format(now()));
        let _ = writer.raw(r#","data":"#);
        let written = match direct {
            Direct::Text(text) => write(buffer, &Value::Text((*text).into()), settings),
            Direct::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => write(buffer, &Value::Text(text.into()), settings),
                Err(_) => write(buffer, &Value::Binary(bytes), settings),
            },
            Direct::Value(value) => write(buffer, value, settings),
        };
        buffer.push(b'}');
        written
    })
}

fn raw_frame(direct: &Direct<'_>, settings: &Settings) -> Result<Bytes, SendError> {
    let (kind, bytes) = match direct {
        Direct::Text(text) => (Data::Text, text.as_bytes()),
        Direct::Binary(bytes) => (Data::Binary, *bytes),
        Direct::Value(value) => {
            return framed(Data::Text, |buffer| write(buffer, value, settings));
        }
    };
    framed(kind, |buffer| {
        if bytes.len() > size(settings.max_message_bytes) {
            return Err(TooLong);
        }
        buffer.extend_from_slice(bytes);
        Ok(())
    })
}

fn write(buffer: &mut Vec<u8>, value: &Value<'_>, settings: &Settings) -> Result<(), TooLong> {
    let limit = size(settings.max_message_bytes);
    buffer.reserve(value.size_hint());
    JsonWriter::new(buffer, limit, settings.commitments).write(value)
}

/// Creates a complete frame around the written data, without copying it.
fn framed(
    kind: Data,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> Result<Bytes, SendError> {
    let mut buffer = vec![0; frame::MAX_HEADER];
    write(&mut buffer).map_err(|TooLong| SendError::TooLarge)?;
    let header = frame::header(kind, buffer.len() - frame::MAX_HEADER);
    let start = frame::MAX_HEADER - header.len();
    buffer[start..frame::MAX_HEADER].copy_from_slice(&header);
    Ok(Bytes::from(buffer).slice(start..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            max_message_bytes: 10,
            ..Settings::default()
        }
    }

    fn json(direct: &Direct<'_>) -> Result<serde_json::Value, SendError> {
        let frame = json_frame(direct, &settings())?;
        assert_eq!(frame[0], 0x81);
        let json: serde_json::Value = serde_json::from_slice(&frame[2..]).unwrap();
        assert_eq!(json["type"], "direct");
        assert!(json["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
        assert_eq!(json.as_object().unwrap().len(), 3);
        Ok(json["data"].clone())
    }

    #[test]
    fn data_is_what_it_would_be_in_a_message() {
        assert_eq!(json(&Direct::Text("a\"b")), Ok("a\"b".into()));
        assert_eq!(json(&Direct::Binary(b"ab")), Ok("ab".into()));
        assert_eq!(json(&Direct::Value(Value::Integer(7))), Ok(7.into()));
        let bytes = json_frame(&Direct::Binary(&[0xff]), &Settings::default()).unwrap();
        assert!(bytes.ends_with(br#""data":{"$base64url":"_w"}}"#));
    }

    #[test]
    fn raw_frames_are_the_payload() {
        let raw = |direct: &Direct<'_>| raw_frame(direct, &settings()).map(|frame| frame.to_vec());
        assert_eq!(raw(&Direct::Text("ab")), Ok(b"\x81\x02ab".to_vec()));
        assert_eq!(raw(&Direct::Binary(&[0xff])), Ok(b"\x82\x01\xff".to_vec()));
        let list = Value::List(vec![Value::Null, Value::Integer(1)]);
        assert_eq!(raw(&Direct::Value(list)), Ok(b"\x81\x08[null,1]".to_vec()));
    }

    #[test]
    fn data_is_bounded_at_the_limit() {
        for (direct, fits) in [
            (Direct::Text("12345678"), true),
            (Direct::Text("123456789"), false),
        ] {
            assert_eq!(json(&direct).is_ok(), fits);
        }
        for (length, fits) in [(10, true), (11, false)] {
            let bytes = vec![b'x'; length];
            assert_eq!(
                raw_frame(&Direct::Binary(&bytes), &settings()).is_ok(),
                fits
            );
        }
    }
}
