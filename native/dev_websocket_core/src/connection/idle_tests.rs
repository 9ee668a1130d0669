//! Test of ten hours with idle connections, in which the test controls the clock.
//!
//! Sockets, shard and client are real; only time is not. Real events follow each step of the clock: before the next
//! step, a living client has read its ping and the server has read the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::serve;
use crate::access::Session;
use crate::log::publication_log::Log;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::shard::command::{Command, Opening};
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::peer::Peer;
use crate::shared::{Persistent, Shared};
use crate::telemetry::panics::contain_task;
use crate::wire::format::Format;

const HOURS: u64 = 10;
const EACH: usize = 10;

/// Limit on the task of an idle connection, out of the 4 KB that the connection may cost. Passing futures by value
/// easily doubles it.
const MOST_TASK_BYTES: usize = 768;

type Client = WebSocketStream<TcpStream>;

/// A server without its listener: the part after the handshake.
struct Connections {
    shared: Arc<Shared>,
    listener: TcpListener,
    shard: Option<std::thread::JoinHandle<()>>,
}

impl Connections {
    async fn start() -> Self {
        let (log, mut cursors) = Log::new(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lasting = Persistent::default();
        let address = listener.local_addr().unwrap();
        let shared = Shared::new(
            Settings::default(),
            address,
            1,
            log,
            lasting,
            Handle::current(),
        );
        let cursor = cursors.pop().unwrap();
        let shard = Shard::new(
            shared.context.clone(),
            shared.context.mailboxes[0].clone(),
            cursor,
            0,
        );
        let shard = std::thread::spawn(|| shard.run());
        Self {
            shared,
            listener,
            shard: Some(shard),
        }
    }

    fn opening(&self, stream: TcpStream, address: SocketAddr) -> (ConnectionHandle, Opening) {
        let peer = Peer::new(
            address,
            Format::Json,
            &hyper::HeaderMap::new(),
            Session::unrestricted(),
        );
        let handle = self.shared.handle(stream.into(), peer);
        let opening = Opening {
            state: handle.state().clone(),
            head: Bytes::new(),
            format: Format::Json,
            slow: Default::default(),
            from: None,
            slots: None,
            read: None,
            published: 0,
            subscriptions: Vec::new(),
            ignored: Vec::new(),
            settings: self.shared.settings(),
        };
        (handle, opening)
    }

    /// Connects a client past its handshake and returns it with its task. The task must be small, because every idle
    /// connection has one.
    async fn connect(&self) -> (Client, JoinHandle<()>) {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap());
        let (stream, accepted) = tokio::join!(stream, self.listener.accept());
        let (stream, (accepted, address)) = (stream.unwrap(), accepted.unwrap());
        stream.set_nodelay(true).unwrap();
        accepted.set_nodelay(true).unwrap();
        let (handle, opening) = self.opening(accepted, address);
        let serving = serve(self.shared.clone(), handle, opening, Vec::new());
        let contained = contain_task(
            "a connection",
            self.shared.context.counters.clone(),
            serving,
        );
        assert!(
            size_of_val(&contained) <= MOST_TASK_BYTES,
            "{}",
            size_of_val(&contained)
        );
        let task = tokio::spawn(contained.map(drop));
        let mut client = Client::from_raw_socket(stream, Role::Client, None).await;
        assert!(client.next().await.unwrap().unwrap().is_text());
        (client, task)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.shared.context.mailboxes[0].send(Command::Stop);
        if let Some(shard) = self.shard.take() {
            shard.join().unwrap();
        }
    }
}

/// Reads until the server's ping, answers it, and waits until the server has read the answer.
async fn answer_ping(client: &mut Client) {
    while !client.next().await.unwrap().unwrap().is_ping() {}
    client.flush().await.unwrap();
    wait_for_server(client).await;
}

/// Sends a request, which is a sign of life other than a pong.
async fn speak(client: &mut Client) {
    let request = Message::text(r#"{"type":"ping","id":1}"#);
    client.send(request).await.unwrap();
    while !client.next().await.unwrap().unwrap().is_text() {}
}

async fn wait_for_server(client: &mut Client) {
    client.send(Message::Ping("read?".into())).await.unwrap();
    while !client.next().await.unwrap().unwrap().is_pong() {}
}

/// Checks the last unread bytes of a client: two pings and a close frame. It reads the bytes without tungstenite, which
/// would answer the pings.
async fn is_told_why(mut client: Client) -> bool {
    let mut bytes = Vec::new();
    client.get_mut().read_to_end(&mut bytes).await.unwrap();
    bytes == b"\x89\0\x89\0\x88\x18\x03\xf0no answer to two pings"
}

#[tokio::test(start_paused = true)]
async fn ten_idle_hours_cut_the_dead_and_keep_the_living() {
    // While a task blocks, the clock moves only when the test advances it.
    let (_held, release) = channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || release.recv());
    let server = Connections::start().await;
    let connect = || join_all((0..EACH).map(|_| server.connect()));
    let (mut living, mut speaking) = (connect().await, connect().await);
    let (dead, mut dying) = (connect().await, connect().await);
    let interval = server.shared.settings().ping_interval;
    let turns = Duration::from_secs(HOURS * 3600).as_millis() / interval.as_millis();
    assert_eq!(turns, 1440);
    for turn in 1..=turns {
        tokio::time::advance(interval).await;
        join_all(living.iter_mut().map(|(client, _)| answer_ping(client))).await;
        join_all(speaking.iter_mut().map(|(client, _)| speak(client))).await;
        if turn < turns / 2 {
            join_all(dying.iter_mut().map(|(client, _)| answer_ping(client))).await;
        }
        let gone = |clients: &[(Client, JoinHandle<()>)]| {
            clients
                .iter()
                .filter(|(_, task)| task.is_finished())
                .count()
        };
        assert_eq!(gone(&living) + gone(&speaking), 0, "turn {turn}");
        // Two pings are sent, the third step closes the connection, and the fourth ends the wait for an answer.
        assert_eq!(gone(&dead), if turn < 4 { 0 } else { EACH }, "turn {turn}");
        let last = turns / 2 + 3;
        assert_eq!(
            gone(&dying),
            if turn < last { 0 } else { EACH },
            "turn {turn}"
        );
    }
    for (client, _) in dead {
        assert!(is_told_why(client).await);
    }
    for (client, _) in dying {
        assert!(is_told_why(client).await);
    }
    // The living clients are still served.
    join_all(living.iter_mut().map(|(client, _)| wait_for_server(client))).await;
    let counters = &server.shared.context.counters;
    assert_eq!((counters.panics.get(), counters.error_frames.get()), (0, 0));
    drop((living, speaking, _held));
    assert!(blocking.await.unwrap().is_err());
}
