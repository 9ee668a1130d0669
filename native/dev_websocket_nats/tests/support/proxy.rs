//! A TCP proxy between a node and the engine, which a test can cut and stall.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

/// The delay of each piece of a slow direction.
const DELAY: Duration = Duration::from_millis(30);

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Takes bytes of the node no further; the node's writes fill the buffers of the system.
    StallOutgoing,
    /// Takes bytes of the engine no further.
    StallIncoming,
    /// Takes bytes of the node late.
    SlowOutgoing,
    /// Takes bytes of the engine late.
    SlowIncoming,
    /// Refuses connections, and has ended those there were.
    Cut,
}

pub struct Proxy {
    pub url: String,
    mode: Arc<watch::Sender<Mode>>,
}

impl Proxy {
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let modes = mode.clone();
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                if *modes.borrow() == Mode::Cut {
                    continue;
                }
                if let Ok(engine) = TcpStream::connect(("127.0.0.1", port)).await {
                    let (from_node, to_node) = node.into_split();
                    let (from_engine, to_engine) = engine.into_split();
                    tokio::spawn(pump(
                        from_node,
                        to_engine,
                        modes.subscribe(),
                        [Mode::StallOutgoing, Mode::SlowOutgoing],
                    ));
                    tokio::spawn(pump(
                        from_engine,
                        to_node,
                        modes.subscribe(),
                        [Mode::StallIncoming, Mode::SlowIncoming],
                    ));
                }
            }
        });
        Self { url, mode }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Carries bytes until the proxy is cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    [stalled, slow]: [Mode; 2],
) {
    let mut buffer = vec![0; 16 * 1024];
    let carry = async {
        loop {
            until(&mode, |mode| mode != stalled).await;
            let count = from.read(&mut buffer).await.unwrap_or(0);
            until(&mode, |mode| mode != stalled).await;
            if *mode.borrow() == slow {
                sleep(DELAY).await;
            }
            if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carry => {}
        () = until(&mode, |mode| mode == Mode::Cut) => {}
    }
}

async fn until(mode: &watch::Receiver<Mode>, is_wanted: impl Fn(Mode) -> bool) {
    // The proxy of a test that has ended changes nothing any more.
    let _ = mode.clone().wait_for(|mode| is_wanted(*mode)).await;
}
