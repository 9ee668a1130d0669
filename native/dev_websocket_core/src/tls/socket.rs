//! The socket of a connection, plain or with TLS.
//!
//! The shard writes and the connection's task reads, on different threads. A plain socket needs no lock for that. A TLS
//! session shares state between the two directions, so it has a lock of its own.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Limit on plaintext that is encrypted ahead of the socket, two full records. Queued publications are shared between
/// connections, but their ciphertext is not, so a slow client costs this much memory of its own.
const MAX_PENDING: usize = 32 * 1024;

/// Makes a broken pipe an error of this call; the signal would end the whole program.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;

/// A socket that never blocks. One task reads from it, and one thread writes to it.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// The TLS session, if the connection has one. A plain connection pays for the pointer only.
    session: Option<Box<Mutex<ServerConnection>>>,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            session: None,
        }
    }
}

impl From<TlsStream<TcpStream>> for Socket {
    /// Takes over a connection after its handshake, with everything that the session has decrypted or encrypted so far.
    fn from(stream: TlsStream<TcpStream>) -> Self {
        let (stream, mut session) = stream.into_inner();
        session.set_buffer_limit(Some(MAX_PENDING));
        Self {
            stream,
            session: Some(Box::new(Mutex::new(session))),
        }
    }
}

impl Socket {
    /// Moves the socket from its runtime to the current one, which wakes its tasks from then on.
    ///
    /// # Errors
    /// The system cannot watch the socket.
    pub(crate) fn into_current_runtime(self) -> io::Result<Self> {
        let stream = TcpStream::from_std(self.stream.into_std()?)?;
        Ok(Self { stream, ..self })
    }

    /// Returns the TCP socket, for its options.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    // Calls of the shard.

    /// Writes frames without blocking. Returns the number of accepted bytes before encryption.
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing now. Any other error means that the socket is broken.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.session {
            None => send(&self.stream, slices),
            Some(session) => encrypt(&mut session.lock(), &self.stream, slices),
        }
    }

    /// Returns true if encrypted bytes wait for the socket.
    pub(crate) fn has_pending(&self) -> bool {
        let is_pending = |session: &Mutex<ServerConnection>| session.lock().wants_write();
        self.session.as_deref().is_some_and(is_pending)
    }

    /// Writes encrypted bytes that wait for the socket. Returns false if some still wait.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        match &self.session {
            None => Ok(true),
            Some(session) => write_pending(&mut session.lock(), &self.stream),
        }
    }

    /// Ends the writing side behind everything that was written. Returns false if encrypted bytes still wait for the
    /// socket; the caller then repeats the call.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn finish(&self) -> io::Result<bool> {
        if let Some(session) = &self.session {
            let mut session = session.lock();
            session.send_close_notify();
            if !write_pending(&mut session, &self.stream)? {
                return Ok(false);
            }
        }
        // The client may have closed the connection already.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        Ok(true)
    }

    // Calls of the connection's task.

    /// Waits until the socket takes more bytes. Only the last caller is woken, so the future needs little memory.
    pub(crate) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| self.stream.poll_write_ready(context))
    }

    /// Waits until a read may return something. Only the last caller is woken.
    pub(crate) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| self.poll_readable(context))
    }

    /// Waits until a read may return something. Only the last caller is woken.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Decrypted bytes and the end of the session are not visible at the socket.
        let has_input = |session: &Mutex<ServerConnection>| !session.lock().wants_read();
        if self.session.as_deref().is_some_and(has_input) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.stream.poll_read_ready(context))?;
        Poll::Ready(Ok(()))
    }

    /// Reads without blocking. Returns 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read, and `Interrupted` if the bytes that were read do not complete a TLS
    /// record. Any other error means that the connection is broken.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.session {
            None => self.stream.try_read(buffer),
            Some(session) => decrypt(&mut session.lock(), &self.stream, buffer),
        }
    }

    /// Reads as [`Self::try_read`] does, into a buffer of tokio.
    ///
    /// # Errors
    /// See [`Self::try_read`].
    pub(crate) fn try_read_buf(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        match &self.session {
            None => self.stream.try_read_buf(buffer),
            Some(session) => {
                let room = buffer.initialize_unfilled();
                let count = decrypt(&mut session.lock(), &self.stream, room)?;
                buffer.advance(count);
                Ok(count)
            }
        }
    }
}

/// Makes one system call. It bypasses tokio, whose bookkeeping costs a cache miss for each of thousands of sockets. A
/// full socket is the exception: tokio must know of it to wait for it.
fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    let result = match slices {
        [slice] => socket.send_with_flags(slice, SEND_FLAGS),
        _ => socket.send_vectored_with_flags(slices, SEND_FLAGS),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.try_write_vectored(slices)
        }
        result => result,
    }
}

/// Encrypts frames in records of up to 16 KB and writes them, as long as the socket takes everything.
fn encrypt(
    session: &mut ServerConnection,
    stream: &TcpStream,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    if !write_pending(session, stream)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut taken = session.writer().write_vectored(slices)?;
    if write_pending(session, stream)? && taken < total {
        let mut copies: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = copies.as_mut_slice();
        IoSlice::advance_slices(&mut rest, taken);
        loop {
            let count = session.writer().write_vectored(rest)?;
            taken += count;
            if !write_pending(session, stream)? || count == 0 || taken == total {
                break;
            }
            IoSlice::advance_slices(&mut rest, count);
        }
    }
    Ok(taken)
}

/// Writes encrypted bytes. Returns false if the socket takes no more of them now.
fn write_pending(session: &mut ServerConnection, stream: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut Direct(stream)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Returns decrypted bytes, after at most one read from the socket.
fn decrypt(
    session: &mut ServerConnection,
    stream: &TcpStream,
    buffer: &mut [u8],
) -> io::Result<usize> {
    if let Some(result) = take(session, buffer) {
        return result;
    }
    session.read_tls(&mut Direct(stream))?;
    let processed = session.process_new_packets();
    // An alert tells the client why the session ends. The reply to a request of the client waits for the shard if the
    // socket is full.
    let written = write_pending(session, stream);
    if processed.is_err() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    written?;
    take(session, buffer).unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))
}

/// Returns bytes that are decrypted already, or `None` if there are none yet.
fn take(session: &mut ServerConnection, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    match session.reader().read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        // Many clients close the TCP connection without a TLS alert. The close frame of WebSocket shows whether the end
        // was intended.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(Ok(0)),
        result => Some(result),
    }
}

/// The TCP socket as the TLS library needs it.
struct Direct<'s>(&'s TcpStream);

impl Read for Direct<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(self.0, &[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(self.0, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
