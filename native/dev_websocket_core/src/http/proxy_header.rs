//! The PROXY protocol, versions 1 and 2: a header before everything else, in which a proxy states the client's address.
//!
//! The reader looks at the waiting bytes before it takes them, and leaves everything behind the header in the socket.
//! So TLS or HTTP can follow without a buffer between.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::handshakes::Place;
use crate::shared::Shared;

/// The beginning of a header of version 1, and the limit on its length.
const START_V1: &[u8] = b"PROXY ";
const MAX_V1: usize = 107;
/// The signature of version 2. A command, a family and a length follow, then as many bytes as the length says.
const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_V2: usize = START_V2.len() + 4;
/// Limit on a header of version 2 with all of its TLVs. Proxies send far less.
const MAX_V2: usize = 4096;
/// A connection of the proxy itself, such as a health check. Its addresses have no meaning.
const LOCAL: u8 = 0x20;

/// The reason why a connection is closed before its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The stream ended inside the header or before it.
    Ended,
    /// The bytes are not a header.
    Malformed,
    TooLong,
    /// `handshake_timeout` passed.
    Late,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Late => "timeout",
        }
    }
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

/// Takes the header from a new connection and returns the client's address: the stated one if the sender is trusted,
/// otherwise the sender's. The result is `None` if the connection must be closed.
pub(super) async fn client(
    shared: &Shared,
    stream: &TcpStream,
    sender: SocketAddr,
    place: &Place,
) -> Option<SocketAddr> {
    let settings = shared.settings();
    let header = tokio::select! {
        header = timeout(settings.handshake_timeout, read(stream)) => header.unwrap_or(Err(Fault::Late)),
        () = shared.stopping.cancelled() => return None,
        () = place.lost() => return None,
    };
    match header {
        Ok(Some(client)) if settings.trusted_proxies.contains(sender.ip()) => Some(client),
        Ok(_) => Some(sender),
        Err(fault) => {
            shared.context.counters.proxy_headers_refused.add(1);
            let reason = fault.name();
            tracing::info!(
                name: "refused_proxy_header", reason, peer = %sender,
                "The WebSocket server closed a connection of {sender} without a PROXY protocol header: {reason}."
            );
            None
        }
    }
}

/// Takes the header and no byte more. The result is `None` if the header states no address.
async fn read(stream: &TcpStream) -> Result<Option<SocketAddr>, Fault> {
    let mut header = Vec::new();
    let mut chunk = [0; 256];
    loop {
        let waiting = stream.peek(&mut chunk).await?;
        if waiting == 0 {
            return Err(Fault::Ended);
        }
        let known = header.len();
        header.extend_from_slice(&chunk[..waiting]);
        let length = length(&header)?;
        // A header that is not complete yet has all waiting bytes.
        header.truncate(length.map_or(header.len(), |length| header.len().min(length)));
        take(stream, &mut chunk, header.len() - known).await?;
        if length == Some(header.len()) {
            return address(&header);
        }
    }
}

/// Takes waiting bytes.
async fn take(stream: &TcpStream, buffer: &mut [u8], count: usize) -> io::Result<()> {
    let mut left = count;
    while left > 0 {
        stream.readable().await?;
        match stream.try_read(&mut buffer[..left]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => left -= taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the length of the header that the bytes begin with, or `None` if more bytes must show it.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let begins = |start: &[u8]| {
        let common = start.len().min(bytes.len());
        bytes[..common] == start[..common]
    };
    if begins(START_V1) {
        let line = &bytes[..bytes.len().min(MAX_V1)];
        let end = line.windows(2).position(|end| end == b"\r\n");
        return match end {
            Some(end) => Ok(Some(end + 2)),
            None if bytes.len() < MAX_V1 => Ok(None),
            None => Err(Fault::TooLong),
        };
    }
    if !begins(START_V2) {
        return Err(Fault::Malformed);
    }
    let Some([.., high, low]) = bytes.get(..HEAD_V2) else {
        return Ok(None);
    };
    let length = HEAD_V2 + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_V2 {
        return Err(Fault::TooLong);
    }
    Ok(Some(length))
}

/// Returns the client's address in a complete header. TLVs are skipped.
pub(crate) fn address(header: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    if header.starts_with(START_V2) && header.get(START_V2.len()) == Some(&LOCAL) {
        return Ok(None);
    }
    match ProxyHeader::parse(header, ParseConfig::default()) {
        Ok((parsed, length)) if length == header.len() => {
            let client = parsed.proxied_address().map(|stated| stated.source);
            Ok(client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port())))
        }
        _ => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests;
