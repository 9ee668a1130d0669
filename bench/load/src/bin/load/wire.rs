//! The bytes of a connection, plain or over TLS.

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// Trusts the one certificate in a file.
pub(crate) fn trust(path: &str) -> Result<Arc<ClientConfig>, String> {
    let text = |error: &dyn std::fmt::Display| format!("{path}: {error}");
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| text(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| text(&error))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each connection has a whole handshake, as those of different clients have.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a read brought.
pub(crate) struct Received {
    /// Bytes for the reader of frames; over TLS there may be none yet.
    pub(crate) bytes: usize,
    /// Whether the socket may hold more.
    pub(crate) is_full: bool,
}

/// A socket, and its session of TLS.
pub(crate) struct Wire {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    pub(crate) fn new(
        stream: TcpStream,
        config: Option<&Arc<ClientConfig>>,
        host: &str,
    ) -> io::Result<Self> {
        let session = config.map(|config| {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
            let session = ClientConnection::new(config.clone(), name);
            session.map(Box::new).map_err(io::Error::other)
        });
        Ok(Self {
            stream,
            session: session.transpose()?,
        })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends as much as the socket takes. The rest stays in `out`, or in the session.
    pub(crate) fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            while !out.is_empty() {
                match until_blocked(|| self.stream.write(out))? {
                    None => return Ok(()),
                    Some(n) => drop(out.drain(..n)),
                }
            }
            return Ok(());
        };
        let taken = session.writer().write(out)?;
        out.drain(..taken);
        flush(session, &mut self.stream)
    }

    /// Reads once; `None` without data. `sealed` has room for bytes that are not decrypted yet.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        sealed: &mut [u8],
    ) -> io::Result<Option<Received>> {
        let room = match self.session {
            None => &mut *buffer,
            Some(_) => sealed,
        };
        let Some(read) = until_blocked(|| self.stream.read(room))? else {
            return Ok(None);
        };
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let is_full = read == room.len();
        let bytes = match &mut self.session {
            None => read,
            Some(session) => {
                let opened = open(session, &sealed[..read], buffer)?;
                flush(session, &mut self.stream)?;
                opened
            }
        };
        Ok(Some(Received { bytes, is_full }))
    }
}

/// Decrypts. Of a record that is cut off, the beginning stays in the session, so `buffer` must have room for one more.
fn open(session: &mut ClientConnection, mut sealed: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
    let mut opened = 0;
    while !sealed.is_empty() {
        session.read_tls(&mut sealed)?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let end = opened + state.plaintext_bytes_to_read();
        let room = buffer.get_mut(opened..end);
        let room = room.ok_or_else(|| io::Error::other("more than there is room for"))?;
        session.reader().read_exact(room)?;
        opened = end;
    }
    Ok(opened)
}

fn flush(session: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        if until_blocked(|| session.write_tls(stream))?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Tries again after a signal; `None` when the socket is not ready.
#[inline]
fn until_blocked(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match attempt() {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
