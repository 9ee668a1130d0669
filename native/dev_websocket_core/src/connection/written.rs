//! Bytes between a socket and its peer: those that the peer's system has acknowledged, and those still on the way. A
//! peer with bytes on the way cannot have seen anything sent behind them.
//!
//! Linux reports both for one socket over netlink (sock_diag(7)). The call takes some ten microseconds, so it is made
//! only for a connection that is about to be closed for its silence.

use tokio::net::TcpStream;

/// Bytes that were written to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) acknowledged: u64,
    /// Bytes that are not acknowledged, or not even sent.
    pub(super) on_the_way: u32,
}

/// Returns the state of the bytes written to a socket, or `None` if the system does not report it.
pub(super) fn written(stream: &TcpStream) -> Option<Written> {
    #[cfg(target_os = "linux")]
    {
        linux::ask(stream).ok().flatten()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = stream;
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read};
    use std::net::{IpAddr, SocketAddr};
    use std::ops::Range;
    use std::time::Duration;

    use socket2::{Domain, Protocol, Socket, Type};
    use tokio::net::TcpStream;

    /// `NETLINK_SOCK_DIAG`
    const SOCK_DIAG: i32 = 4;
    /// `SOCK_DIAG_BY_FAMILY`
    const BY_FAMILY: u16 = 20;
    /// `NLM_F_REQUEST`
    const REQUEST: u16 = 1;
    /// `INET_DIAG_INFO`, and the bit that asks for it.
    const INFO: u16 = 2;
    const WITH_INFO: u8 = 1 << (INFO - 1);
    /// Offset of `idiag_wqueue` in an answer, and start of its attributes.
    const WRITE_QUEUE: Range<usize> = 76..80;
    const ATTRIBUTES: usize = 88;
    /// Offset of `tcpi_bytes_acked` in the attribute, after the attribute's header.
    const BYTES_ACKED: Range<usize> = 124..132;
    /// Timeout for the answer. The system normally answers during the request.
    const PATIENCE: Duration = Duration::from_millis(10);

    use super::Written;

    pub(super) fn ask(stream: &TcpStream) -> io::Result<Option<Written>> {
        let request = request(stream.local_addr()?, stream.peer_addr()?);
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::from(libc::SOCK_RAW),
            Some(Protocol::from(SOCK_DIAG)),
        )?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&request)?;
        let mut answer = [0; 1024];
        let length = (&socket).read(&mut answer)?;
        Ok(read(&answer[..length]))
    }

    /// Encodes `nlmsghdr` and `inet_diag_req_v2`.
    fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        const LENGTH: u32 = 72;
        let family = if local.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let mut request = Vec::new();
        request.extend(LENGTH.to_ne_bytes());
        request.extend(BY_FAMILY.to_ne_bytes());
        request.extend(REQUEST.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([family as u8, libc::IPPROTO_TCP as u8, WITH_INFO, 0]);
        // All socket states.
        request.extend(u32::MAX.to_ne_bytes());
        request.extend(local.port().to_be_bytes());
        request.extend(peer.port().to_be_bytes());
        for address in [local, peer] {
            let mut place = [0; 16];
            match address.ip() {
                IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => place = ip.octets(),
            }
            request.extend(place);
        }
        // Any interface, no cookie.
        request.extend([0; 4]);
        request.extend([u8::MAX; 8]);
        debug_assert_eq!(request.len(), LENGTH as usize);
        request
    }

    fn read(answer: &[u8]) -> Option<Written> {
        let kind = answer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
        if kind != BY_FAMILY {
            return None;
        }
        let on_the_way = answer.get(WRITE_QUEUE)?.try_into().ok()?;
        let mut attributes = answer.get(ATTRIBUTES..)?;
        loop {
            let [length, kind] = [attributes.get(..2)?, attributes.get(2..4)?]
                .map(|field| u16::from_ne_bytes([field[0], field[1]]));
            if kind == INFO {
                let acknowledged = attributes.get(BYTES_ACKED)?.try_into().ok()?;
                return Some(Written {
                    acknowledged: u64::from_ne_bytes(acknowledged),
                    on_the_way: u32::from_ne_bytes(on_the_way),
                });
            }
            // Each attribute begins at a multiple of four bytes. Without the minimum, an attribute of length 0 would
            // loop for ever.
            let length = usize::from(length).next_multiple_of(4).max(4);
            attributes = attributes.get(length..)?;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read as _};

    use tokio::net::TcpListener;

    use super::*;

    /// Checks both address families, and an IPv4 client on an IPv6 listener.
    #[tokio::test]
    async fn bytes_that_a_peer_does_not_take_are_told_and_gone_when_it_does() {
        for (address, host) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "[::1]"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(address).await else {
                // This machine has no IPv6.
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let mut peer = std::net::TcpStream::connect(format!("{host}:{port}")).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let first = super::written(&stream).unwrap();
            assert_eq!(first.on_the_way, 0);
            let mut taken = 0;
            loop {
                match stream.try_write(&[0; 64 * 1024]) {
                    Ok(bytes) => taken += bytes,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            assert!(super::written(&stream).unwrap().on_the_way > 0);
            peer.read_exact(&mut vec![0; taken]).unwrap();
            let expected = Written {
                acknowledged: first.acknowledged + taken as u64,
                on_the_way: 0,
            };
            while super::written(&stream) != Some(expected) {
                tokio::task::yield_now().await;
            }
        }
    }
}
