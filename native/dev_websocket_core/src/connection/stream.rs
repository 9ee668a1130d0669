//! The byte stream for tungstenite: reads come from the socket, and writes go to the writer shard.
//!
//! Therefore pongs and close frames go between publications and never inside one that is partly written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{flush_replies, is_retried};
use crate::shard::connection_handle::ConnectionHandle;
use crate::wire::inflate::{InflateError, InflateFilter};

/// Limit on the bytes of a message with the headers of its frames, as a multiple of the message limit. A frame for each
/// byte takes seven bytes. Frames without any bytes never complete a message and would be read for ever.
const FRAMING: usize = 8;

/// Error of a read when a message exceeds the limit.
pub(crate) const TOO_MANY_FRAMES: io::ErrorKind = io::ErrorKind::InvalidData;

/// Error of a read when a compressed message cannot be inflated.
pub(crate) const BROKEN_DATA: io::ErrorKind = io::ErrorKind::InvalidInput;

/// Bytes of one read through the filter.
const READ_BYTES: usize = 256;

/// The byte stream of one client, limited per message.
#[derive(Debug)]
pub(crate) struct ClientStream {
    handle: ConnectionHandle,
    /// Bytes read since the last message.
    read: u32,
    /// Limit on `read`.
    limit: u32,
    /// Inflates the client's messages, if the client has negotiated compression.
    filter: Option<Box<InflateFilter>>,
}

impl ClientStream {
    /// Creates a stream for messages of at most `max_message` bytes. `early` holds the bytes that the client sent after
    /// its request; those that need no filter are left there.
    pub(crate) fn new(handle: ConnectionHandle, max_message: usize, early: &mut Vec<u8>) -> Self {
        let is_compressed = handle.peer.form.is_compressed;
        let filter = is_compressed.then(|| {
            let mut filter = Box::new(InflateFilter::new(max_message));
            filter.push(&std::mem::take(early));
            filter
        });
        Self {
            handle,
            read: 0,
            limit: u32::try_from(max_message.saturating_mul(FRAMING)).unwrap_or(u32::MAX),
            filter,
        }
    }

    /// Resets the count after a message.
    pub(crate) fn end_of_message(&mut self) {
        self.read = 0;
    }

    fn count(&mut self, bytes: usize) {
        // A read takes far less than 4 GiB.
        self.read = self.read.saturating_add(bytes as u32);
    }

    /// Reads through the filter.
    fn poll_filtered(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(filter) = &mut self.filter else {
            return Poll::Ready(Ok(()));
        };
        loop {
            let count = filter.read(buffer.initialize_unfilled());
            let count = count.map_err(|error| match error {
                InflateError::TooLarge => io::Error::from(TOO_MANY_FRAMES),
                InflateError::Broken => BROKEN_DATA.into(),
            })?;
            if count > 0 || buffer.remaining() == 0 {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            ready!(self.handle.socket.poll_readable(context))?;
            let mut bytes = [0; READ_BYTES];
            let read = self.handle.socket.try_read(&mut bytes);
            flush_replies(&self.handle);
            match read {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => {
                    filter.push(&bytes[..count]);
                    self.read = self.read.saturating_add(count as u32);
                    if self.read > self.limit {
                        return Poll::Ready(Err(TOO_MANY_FRAMES.into()));
                    }
                }
                Err(error) if is_retried(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
        if this.filter.is_some() {
            return this.poll_filtered(context, buffer);
        }
        let socket = &this.handle.socket;
        loop {
            ready!(socket.poll_readable(context))?;
            let read = socket.try_read_buf(buffer);
            flush_replies(&this.handle);
            match read {
                Ok(count) => {
                    this.count(count);
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
