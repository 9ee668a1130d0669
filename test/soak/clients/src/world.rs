//! Where the clients live: the server's address, the stage of the run, and what they have in common.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::ledger::Ledger;
use crate::tally::Tally;

/// What clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Live.
    Running,
    /// Those that come and go end; those that stay compare all they got.
    Settling,
    /// All end.
    Released,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    /// Of the server that runs now.
    pub(crate) epoch: String,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tally: Rc<Tally>,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Whether clients may die with something on the way to them.
    pub(crate) may_die: Cell<bool>,
    /// A number that somebody has had lately: where a replay may begin.
    pub(crate) recent: Cell<u64>,
}

/// Generous: it must only be reached when something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// tungstenite clears this much before each read.
const READ_BUFFER: usize = 16 * 1024;

pub(crate) type Socket = WebSocketStream<TcpStream>;

impl World {
    pub(crate) fn is_running(&self) -> bool {
        *self.stage.borrow() == Stage::Running
    }
}

/// A small receive buffer, and the segments of a real network: with those of this machine it would fill and empty by
/// timers.
const SMALL_BUFFER: u32 = 16 * 1024;
const SEGMENT: u32 = 1400;

/// A TCP connection from any address of this machine, so that the ports of one do not run out. A small one holds little of
/// what the client does not read.
pub(crate) async fn connect(address: SocketAddr, is_small: bool) -> Result<TcpStream, String> {
    let attempt = async {
        let socket = TcpSocket::new_v4()?;
        if is_small {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
        }
        socket.bind(SocketAddr::from(([127, 0, 0, fastrand::u8(2..250)], 0)))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    attempt.await.map_err(|error| format!("connect: {error}"))
}

/// A WebSocket with that query.
pub(crate) async fn upgrade(stream: TcpStream, query: &str) -> Result<Socket, String> {
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0);
    let url = format!("ws://{address}/ws?{query}");
    let handshake = client_async_with_config(url, stream, Some(config));
    match tokio::time::timeout(DEADLINE, handshake).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(format!("{query}: {error}")),
        Err(_) => Err(format!("{query}: no answer to the handshake")),
    }
}

/// Some time between two.
pub(crate) fn between(least: u64, most: u64) -> Duration {
    Duration::from_millis(fastrand::u64(least..most))
}
