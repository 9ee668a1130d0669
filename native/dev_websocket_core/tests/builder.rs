//! Tests of a server with parts that the embedding program provides, and of its end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use dev_websocket_core::{Counters, Disconnect, Server, SettingValue, Settings, StartError};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use support::{PATIENCE, settings};

fn address(server: &Server) -> String {
    let uri = server.info().uri;
    uri.trim_start_matches("ws://")
        .trim_end_matches("/ws")
        .to_owned()
}

fn connect(server: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address(server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(server.info().uri, stream).unwrap().0
}

/// Returns the close code that ends the connection.
fn close_code(client: &mut WebSocket<TcpStream>) -> Option<u16> {
    loop {
        match client.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[test]
fn a_listener_of_the_program_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The settings name another port, which must be ignored.
    let server = Server::builder(settings())
        .listener(listener)
        .start()
        .unwrap();
    assert_eq!(
        server.info().uri,
        format!("ws://127.0.0.1:{}/ws", address.port())
    );
    let mut client = connect(&server);
    let closing = std::thread::spawn(move || close_code(&mut client));
    server.shutdown(Disconnect::Stopping, PATIENCE);
    assert_eq!(closing.join().unwrap(), Some(1001));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_signal_of_the_program_shuts_the_server_down_in_order() {
    let (signal, signalled) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder(settings())
        .shutdown_on(async move {
            // Timers of tokio work in the signal's future.
            let _ = tokio::time::timeout(PATIENCE, signalled).await;
        })
        .start()
        .unwrap();
    let mut client = connect(&server);
    signal.send(()).unwrap();
    assert_eq!(close_code(&mut client), Some(1001));
    // The counts stay readable, and a second shutdown does nothing.
    assert!(
        server
            .stats()
            .iter()
            .any(|(name, _)| *name == "connections")
    );
    drop(server);
}

#[tokio::test]
async fn a_dropped_server_ends_its_threads_and_frees_its_port() {
    let counters = Arc::new(Counters::default());
    let server = Server::start(settings(), counters.clone()).unwrap();
    let address = address(&server);
    let mut client = connect(&server);
    // This thread belongs to a runtime, where blocking would panic.
    drop(server);
    let code = close_code(&mut client);
    assert!(matches!(code, None | Some(1001)), "{code:?}");
    support::until("the port is free", || TcpListener::bind(&address).is_ok());
    // The shards held the counters.
    drop(client);
    support::until("the threads have ended", || {
        Arc::strong_count(&counters) == 1
    });
}

#[test]
fn a_builder_that_cannot_bind_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let counters = Arc::new(Counters::default());
    let settings = Settings {
        port: taken.local_addr().unwrap().port().into(),
        ..settings()
    };
    let (kept, signalled) = tokio::sync::oneshot::channel::<()>();
    let refused = Server::builder(settings)
        .counters(counters.clone())
        .shutdown_on(async move { drop(signalled.await) })
        .start();
    assert!(refused.is_err());
    assert!(kept.is_closed());
    support::until("nothing holds the counters", || {
        Arc::strong_count(&counters) == 1
    });
}

#[test]
fn a_stream_without_its_engine_is_refused_by_the_name_of_the_setting() {
    let mut chosen = settings();
    let url = SettingValue::Text("nats://127.0.0.1:4222".into());
    chosen.set("engine", url).unwrap();
    let error = Server::builder(chosen).start().unwrap_err();
    let StartError::Engine { setting, reason } = &error else {
        panic!("{error}")
    };
    assert_eq!(*setting, "engine");
    assert!(reason.contains("without the engine"), "{reason}");
}
