//! One connection's socket and what it has not taken yet.

use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::sync::Arc;

/// Most slices that one vectored write takes (IOV_MAX).
const MAX_SLICES: usize = 1024;
/// A connection that is further behind is closed.
const MAX_PENDING: usize = 64 << 20;

/// The socket is gone, or too far behind.
pub(crate) struct Gone;

/// A socket, and frames that did not fit into its kernel buffer.
pub(crate) struct Outbox {
    stream: TcpStream,
    pending: VecDeque<Arc<[u8]>>,
    /// Bytes of the first pending frame that have been written.
    written: usize,
    send_buffer_bytes: usize,
}

impl Outbox {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            pending: VecDeque::new(),
            written: 0,
            send_buffer_bytes: 0,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends one frame by itself.
    pub(crate) fn send(&mut self, frame: &Arc<[u8]>) -> Result<(), Gone> {
        if !self.pending.is_empty() {
            return self.keep(std::iter::once(frame), 0);
        }
        loop {
            match self.stream.write(frame) {
                Ok(n) if n == frame.len() => return Ok(()),
                Ok(n) => return self.keep(std::iter::once(frame), n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.keep(std::iter::once(frame), 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Sends many in as few calls as the kernel allows. `slices` are those frames, made once for many sockets.
    pub(crate) fn send_all<'a>(
        &mut self,
        slices: &[IoSlice<'_>],
        frame: impl Fn(usize) -> &'a Arc<[u8]>,
    ) -> Result<(), Gone> {
        let mut done = 0;
        while done < slices.len() {
            let rest = done..slices.len();
            if !self.pending.is_empty() {
                return self.keep(rest.map(&frame), 0);
            }
            let part = &slices[done..slices.len().min(done + MAX_SLICES)];
            let mut taken = match self.stream.write_vectored(part) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Gone),
            };
            let whole = part
                .iter()
                .take_while(|slice| {
                    taken >= slice.len() && {
                        taken -= slice.len();
                        true
                    }
                })
                .count();
            done += whole;
            if whole < part.len() {
                return self.keep((done..slices.len()).map(&frame), taken);
            }
        }
        Ok(())
    }

    /// Goes on with what is pending, after the kernel said that there is room.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        while let Some(frame) = self.pending.front() {
            match self.stream.write(&frame[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    self.send_buffer_bytes -= n;
                    if self.written == frame.len() {
                        self.written = 0;
                        self.pending.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    fn keep<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Arc<[u8]>>,
        written: usize,
    ) -> Result<(), Gone> {
        if self.pending.is_empty() {
            self.written = written;
        }
        for frame in frames {
            self.send_buffer_bytes += frame.len();
            self.pending.push_back(Arc::clone(frame));
        }
        self.send_buffer_bytes -= written;
        if self.send_buffer_bytes > MAX_PENDING {
            Err(Gone)
        } else {
            Ok(())
        }
    }
}
