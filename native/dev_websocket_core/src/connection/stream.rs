//! The byte stream that tungstenite sees: it reads from the socket, and what it writes goes to the writer shard.
//!
//! So its pongs and close frames are put between publications and never inside one that is partly written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shard::connection_handle::ConnectionHandle;

/// What the bytes of a message may take with the headers of its frames, as a multiple of its limit: a frame for each
/// byte has one of seven bytes. Frames without any bytes never make a message, and would be read for ever.
const FRAMING: usize = 8;

/// What a read fails with when a message takes more than that.
pub(crate) const TOO_MANY_FRAMES: io::ErrorKind = io::ErrorKind::InvalidData;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct ClientStream {
    handle: ConnectionHandle,
    /// Bytes read since the last message.
    read: usize,
    /// How many these may be.
    limit: usize,
}

impl ClientStream {
    /// For messages of at most so many bytes.
    pub(crate) fn new(handle: ConnectionHandle, max_message: usize) -> Self {
        Self {
            handle,
            read: 0,
            limit: max_message.saturating_mul(FRAMING),
        }
    }

    /// A message was read.
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
        let stream = &this.handle.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read_buf(buffer) {
                Ok(count) => {
                    this.read += count;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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
