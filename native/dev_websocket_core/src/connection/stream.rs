//! The byte stream for tungstenite: reads come from the socket, and writes go to the writer shard.
//!
//! Therefore pongs and close frames go between publications and never inside one that is partly written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{flush_replies, is_retried};
use crate::shard::connection_handle::ConnectionHandle;

/// Limit on the bytes of a message with the headers of its frames, as a multiple of the message limit. A frame for each
/// byte takes seven bytes. Frames without any bytes never complete a message and would be read for ever.
const FRAMING: usize = 8;

/// Error of a read when a message exceeds the limit.
pub(crate) const TOO_MANY_FRAMES: io::ErrorKind = io::ErrorKind::InvalidData;

/// The byte stream of one client, limited per message.
#[derive(Debug)]
pub(crate) struct ClientStream {
    handle: ConnectionHandle,
    /// Bytes read since the last message.
    read: usize,
    /// Limit on `read`.
    limit: usize,
}

impl ClientStream {
    /// Creates a stream for messages of at most `max_message` bytes.
    pub(crate) fn new(handle: ConnectionHandle, max_message: usize) -> Self {
        Self {
            handle,
            read: 0,
            limit: max_message.saturating_mul(FRAMING),
        }
    }

    /// Resets the count after a message.
    pub(crate) fn end_of_message(&mut self) {
        self.read = 0;
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read > this.limit {
            return Poll::Ready(Err(TOO_MANY_FRAMES.into()));
        }
        let socket = &this.handle.socket;
        loop {
            ready!(socket.poll_readable(context))?;
            let read = socket.try_read_buf(buffer);
            flush_replies(&this.handle);
            match read {
                Ok(count) => {
                    this.read += count;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_retried(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.handle.poll_send_control(context, frames)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
