use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;

const BEHIND: &[u8] = b"GET / HTTP/1.1\r\n";

/// Builds a header of version 2 with addresses and TLVs of this content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [START_V2, &[command, family], &length, content].concat()
}

fn v2_ipv4(more: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb];
    v2(0x21, 0x11, &[&addresses, more].concat())
}

fn v2_ipv6() -> Vec<u8> {
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb9]);
    addresses[15] = 1;
    addresses[32..].copy_from_slice(&[0x12, 0x67, 0x01, 0xbb]);
    v2(0x21, 0x21, &addresses)
}

/// Headers, and the address that each states.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let (v4, v6) = ("203.0.113.9:4711", "[2001:db9::1]:4711");
    let tlvs = [0x04, 0, 3, 1, 2, 3, 0xea, 0, 0];
    vec![
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n".into(), Some(v4)),
        (b"PROXY TCP6 2001:db9::1 2001:db8::2 4711 443\r\n".into(), Some(v6)),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 443\r\n".into(), Some(v4)),
        (
            b"PROXY TCP6 2001:0db9:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0000:0000:0000:0000:0002 4711 65535\r\n".into(),
            Some(v6),
        ),
        (b"PROXY UNKNOWN\r\n".into(), None),
        (
            b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".into(),
            None,
        ),
        (v2_ipv4(&[]), Some(v4)),
        (v2_ipv4(&tlvs), Some(v4)),
        (v2_ipv4(&[0; MAX_V2 - HEAD_V2 - 12]), Some(v4)),
        (v2_ipv6(), Some(v6)),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &[1; 12]), None),
        // A family that is not read, and a local command with too few bytes for its family.
        (v2(0x20, 0x11, &[]), None),
        (v2(0x21, 0x00, &tlvs), None),
        (v2(0x21, 0x31, &[b'/'; 216]), None),
    ]
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let client = client.unwrap();
    client.set_nodelay(true).unwrap();
    (client, accepted.unwrap().0)
}

/// Writes two parts and returns what the reader finds. Nothing behind the header may be taken.
async fn read_in_parts(parts: [&[u8]; 2]) -> Result<Option<SocketAddr>, Fault> {
    let (mut client, mut server) = pair().await;
    let writing = async {
        client.write_all(parts[0]).await.unwrap();
        if !parts[1].is_empty() {
            sleep(Duration::from_millis(1)).await;
            client.write_all(parts[1]).await.unwrap();
        }
        client.write_all(BEHIND).await.unwrap();
    };
    let (found, ()) = tokio::join!(read(&server), writing);
    if found.is_ok() {
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, BEHIND);
    }
    found
}

#[tokio::test]
async fn a_header_may_be_split_at_any_byte_and_nothing_behind_it_is_taken() {
    for (header, stated) in headers() {
        let stated = stated.map(|address| address.parse().unwrap());
        // A long one is split at its beginning and its end.
        let splits = (0..header.len()).filter(|at| *at < 120 || at + 10 > header.len());
        for at in splits {
            let (first, second) = header.split_at(at);
            let found = read_in_parts([first, second]).await;
            assert_eq!(found, Ok(stated), "{header:?} at {at}");
        }
    }
}

#[tokio::test]
async fn anything_else_is_refused_as_soon_as_it_is_seen() {
    let long_v1 = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let long_v2 = v2(0x21, 0x11, &[0; MAX_V2 - HEAD_V2 + 1]);
    for (bytes, fault) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Fault::Malformed),
        (b"\x16\x03\x01\x02\x00".to_vec(), Fault::Malformed),
        (b"PROXYTCP4".to_vec(), Fault::Malformed),
        (b"proxy TCP4".to_vec(), Fault::Malformed),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Fault::Malformed),
        (
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 65536\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            b"PROXY TCP4 2001:db8::1 192.0.2.1 4711 443\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            b"PROXY TCP4  203.0.113.9 192.0.2.1 4711 443\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 \r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            b"PROXY UDP4 203.0.113.9 192.0.2.1 4711 443\r\n".to_vec(),
            Fault::Malformed,
        ),
        (b"PROXY \r\n".to_vec(), Fault::Malformed),
        (v2(0x11, 0x11, &[0; 12]), Fault::Malformed),
        (v2(0x22, 0x11, &[0; 12]), Fault::Malformed),
        (v2(0x21, 0x11, &[0; 11]), Fault::Malformed),
        (v2(0x21, 0x21, &[0; 35]), Fault::Malformed),
        (v2(0x21, 0x41, &[0; 36]), Fault::Malformed),
        (v2(0x21, 0x31, &[0; 215]), Fault::Malformed),
        (long_v1.into_bytes(), Fault::TooLong),
        (vec![b'x'; 1], Fault::Malformed),
        (long_v2[..HEAD_V2].to_vec(), Fault::TooLong),
    ] {
        assert_eq!(read_in_parts([&bytes, b""]).await, Err(fault), "{bytes:?}");
    }
    for (header, _) in headers() {
        let (mut client, server) = pair().await;
        client.write_all(&header[..header.len() - 1]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&server).await, Err(Fault::Ended));
    }
}

proptest! {
    #[test]
    fn the_length_is_known_at_some_byte_and_never_changes(
        start in select(vec![START_V1, b"PROXY TCP4 ", START_V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b""]),
        rest in vec(prop_oneof![any::<u8>(), select(b"\r\n :.0123456789".as_slice())], 0..200),
        more in vec(any::<u8>(), 0..20),
    ) {
        let bytes = [start, &rest, &more].concat();
        let all = length(&bytes);
        for at in 0..bytes.len() {
            match length(&bytes[..at]) {
                Ok(None) => {}
                known => prop_assert_eq!(known, all),
            }
        }
        if let Ok(Some(length)) = all {
            prop_assert!(length <= MAX_V2);
            if let Some(header) = bytes.get(..length) {
                // It is read or refused, without a panic.
                let _ = address(header);
            }
        }
    }
}
