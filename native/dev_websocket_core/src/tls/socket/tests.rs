use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Connects a client without a runtime of its own to a socket of the server.
async fn pair() -> (std::net::TcpStream, ClientConnection, Socket) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shaking = tokio::task::spawn_blocking(move || {
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::new(client), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp).unwrap();
        }
        (tcp, session)
    });
    let (accepted, _) = listener.accept().await.unwrap();
    SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let socket = Socket::from(acceptor.accept(accepted).await.unwrap());
    let (tcp, session) = shaking.await.unwrap();
    tcp.set_nonblocking(true).unwrap();
    (tcp, session, socket)
}

/// Reads the bytes that have arrived at the client. Returns true at the end of the session.
fn read(tcp: &mut std::net::TcpStream, session: &mut ClientConnection, got: &mut Vec<u8>) -> bool {
    loop {
        match session.read_tls(tcp) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        }
        session.process_new_packets().unwrap();
        let mut buffer = [0; 4096];
        loop {
            match session.reader().read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(_) => break,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Checks that every byte arrives once and in order, for any sizes of slices and any pauses of the client.
    #[test]
    fn every_byte_arrives_in_order(
        writes in prop::collection::vec((prop::collection::vec(1_usize..60_000, 1..8), any::<bool>()), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut tcp, mut session, socket) = pair().await;
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            let mut next = 0_u32;
            for (lengths, is_read) in writes {
                let mut slices: VecDeque<Vec<u8>> = lengths.into_iter().map(|length| {
                    (0..length).map(|_| { next = next.wrapping_add(1); (next.wrapping_mul(2_654_435_761) >> 24) as u8 }).collect()
                }).collect();
                slices.iter().for_each(|slice| sent.extend_from_slice(slice));
                while !slices.is_empty() {
                    let borrowed: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                    match socket.write(&borrowed) {
                        Ok(mut taken) => {
                            assert!(taken > 0);
                            while let Some(first) = slices.front_mut() {
                                let count = taken.min(first.len());
                                first.drain(..count);
                                taken -= count;
                                if !first.is_empty() { break; }
                                slices.pop_front();
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            assert!(socket.has_pending());
                            read(&mut tcp, &mut session, &mut got);
                            tokio::task::yield_now().await;
                        }
                    }
                }
                if is_read {
                    read(&mut tcp, &mut session, &mut got);
                }
            }
            while !socket.finish().unwrap() {
                assert!(!read(&mut tcp, &mut session, &mut got));
                tokio::task::yield_now().await;
            }
            assert!(!socket.has_pending());
            while !read(&mut tcp, &mut session, &mut got) {
                tokio::task::yield_now().await;
            }
            assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_records_are_no_bytes_and_decrypted_bytes_are_readable_at_once() {
    let (mut tcp, mut session, socket) = pair().await;
    session.writer().write_all(&[7; 20_000]).unwrap();
    session.send_close_notify();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    let mut buffer = [0; 100];
    for part in records.chunks(999) {
        tcp.write_all(part).unwrap();
    }
    let mut got = 0;
    loop {
        socket.readable().await.unwrap();
        match socket.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                assert!(buffer[..count].iter().all(|byte| *byte == 7));
                got += count;
            }
            Err(error) => assert!(matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            )),
        }
    }
    assert_eq!(got, 20_000);
    // The end stays visible, although nothing more arrives at the socket.
    socket.readable().await.unwrap();
    assert_eq!(socket.try_read(&mut buffer).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_ends_the_session_with_an_alert() {
    let (mut tcp, mut session, socket) = pair().await;
    tcp.write_all(b"\x17\x03\x03\x00\x20").unwrap();
    tcp.write_all(&[0; 32]).unwrap();
    let mut buffer = [0; 100];
    let error = loop {
        socket.readable().await.unwrap();
        match socket.try_read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result.unwrap_err(),
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    tcp.set_nonblocking(false).unwrap();
    let alerted = loop {
        session.read_tls(&mut tcp).unwrap();
        if let Err(error) = session.process_new_packets() {
            break error;
        }
    };
    assert!(
        matches!(alerted, rustls::Error::AlertReceived(_)),
        "{alerted}"
    );
}
