//! A client of everything on a thread of its own, which writes the ledger.
//!
//! From its first frame to its end it must get every number, or be told that it is missing.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message as Ws;

use crate::choice::{Choice, Selection};
use crate::frames::{Frame, Message};
use crate::ledger::Ledger;
use crate::order::Order;
use crate::world::{Stage, connect, upgrade};

/// What an observer says.
#[derive(Debug)]
pub(crate) enum Report {
    /// It is subscribed, to a server of this epoch.
    Subscribed {
        epoch: String,
    },
    /// All that was published so far, and everything is here.
    Settled(Seen),
    Released,
    Failed(String),
}

/// What it got since it was subscribed.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Seen {
    pub(crate) received: u64,
    /// Messages that it was told are missing.
    pub(crate) told_slow: u64,
    pub(crate) told_overload: u64,
}

#[derive(Debug)]
struct Observer {
    number: usize,
    ledger: Arc<Ledger>,
    order: Order,
    seen: Seen,
    /// Everything up to here has come or was told.
    position: u64,
    /// Messages that gap frames told of since.
    told: u64,
}

/// Observes until released.
pub(crate) fn run(
    number: usize,
    address: SocketAddr,
    ledger: Arc<Ledger>,
    stage: watch::Receiver<Stage>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(observe(number, address, ledger, stage, &reports)),
        Err(error) => Err(error.to_string()),
    };
    let _ = reports.send(match outcome {
        Ok(()) => Report::Released,
        Err(error) => Report::Failed(format!("observer {number}: {error}")),
    });
}

async fn observe(
    number: usize,
    address: SocketAddr,
    ledger: Arc<Ledger>,
    mut stage: watch::Receiver<Stage>,
    reports: &mpsc::UnboundedSender<Report>,
) -> Result<(), String> {
    let mut socket = upgrade(connect(address, false).await?, "topic=*").await?;
    let everything = Selection::of([Choice::Everything]).table();
    let mut observer = Observer {
        number,
        ledger,
        order: Order::new(&everything),
        seen: Seen::default(),
        position: 0,
        told: 0,
    };
    stage.mark_unchanged();
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Ws::Text(text))) => {
                    if let Some(report) = observer.take(&text)? {
                        let _ = reports.send(report);
                    }
                }
                Some(Ok(Ws::Ping(_) | Ws::Pong(_))) => {}
                other => return Err(format!("{other:?}")),
            },
            changed = stage.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = *stage.borrow_and_update();
                match now {
                    Stage::Running => {}
                    Stage::Settling => {
                        let ping = Ws::text(r#"{"type":"ping"}"#);
                        socket.send(ping).await.map_err(|error| error.to_string())?;
                    }
                    Stage::Released => break,
                }
            }
        }
    }
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

impl Observer {
    fn take(&mut self, text: &str) -> Result<Option<Report>, String> {
        let frame: Frame<'_> =
            serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        match frame.kind {
            "connection_established" => {
                self.position = frame.seq;
                self.ledger.seen(self.number, frame.seq);
                let epoch = frame.epoch.to_owned();
                return Ok(Some(Report::Subscribed { epoch }));
            }
            "message" => {
                let message = Message::of_frame(&frame)?;
                self.come_to(frame.seq)?;
                self.order.message(message)?;
                self.seen.received += 1;
                self.ledger.message(frame.seq, message.class);
                self.ledger.seen(self.number, frame.seq);
            }
            "gap" if frame.reason == "slow" => {
                if frame.after < self.position {
                    let position = self.position;
                    return Err(format!("all was here up to {position}: {text}"));
                }
                self.order.told(frame.dropped);
                self.seen.told_slow += frame.dropped;
                self.told += frame.dropped;
            }
            "gap" if frame.reason == "overload" => {
                let seq = frame.after + 1;
                self.come_to(seq)?;
                self.order.told(frame.dropped);
                self.seen.told_overload += frame.dropped;
                self.ledger.loss(seq, frame.dropped);
                self.ledger.seen(self.number, seq);
            }
            "pong" => {
                self.come_to(frame.seq + 1)?;
                self.position = frame.seq;
                self.order.check()?;
                self.ledger.seen(self.number, frame.seq);
                return Ok(Some(Report::Settled(self.seen)));
            }
            _ => return Err(format!("an unexpected frame: {text}")),
        }
        Ok(None)
    }

    /// Each number between stands for one message at least.
    fn come_to(&mut self, seq: u64) -> Result<(), String> {
        let told = std::mem::take(&mut self.told);
        let missing = seq
            .checked_sub(self.position + 1)
            .ok_or_else(|| format!("{seq} came after {}", self.position))?;
        if told < missing || (missing == 0 && told > 0) {
            return Err(format!(
                "{missing} numbers are missing before {seq}, {told} messages told"
            ));
        }
        self.position = seq;
        Ok(())
    }
}
