//! The clients of the soak test: told what to do on stdin, line by line, and answering so on stdout.
//!
//! | order | does |
//! |---|---|
//! | `hold` `uri` | connects the observers and the clients that stay |
//! | `churn` `may_die` | lets all of them live, and others come and go |
//! | `settle` | ends the latter and compares everything; answers with all counts |
//! | `release` | ends all |
//! | `spin` `seconds` | keeps a core busy and does nothing |

mod account;
mod choice;
mod frames;
mod ledger;
mod lives;
mod observer;
mod order;
mod session;
mod tally;
mod world;

use std::cell::Cell;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::ledger::{Ledger, OBSERVERS};
use crate::lives::Kind;
use crate::observer::{Report, Seen};
use crate::tally::Tally;
use crate::world::{Stage, World};

/// Clients that stay.
const STAYING: usize = 40;
/// How many of each kind come and go at the same time.
const CHANGING: [(Kind, usize); 6] = [
    (Kind::Passing, 40),
    (Kind::Slow, 12),
    (Kind::Dying, 16),
    (Kind::Raw, 10),
    (Kind::Echo, 6),
    (Kind::RawEcho, 6),
];

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    Hold { uri: String },
    Churn { may_die: bool },
    Settle,
    Release,
    Spin { seconds: f64 },
}

/// Everybody who is connected to one server.
struct Crew {
    world: Rc<World>,
    stage: watch::Sender<Stage>,
    reports: mpsc::UnboundedReceiver<Report>,
    settled: mpsc::UnboundedReceiver<()>,
    staying: JoinSet<()>,
    changing: JoinSet<()>,
}

fn main() -> std::process::ExitCode {
    let (orders, received) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| LocalSet::new().block_on(&runtime, obey(received)));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak-clients: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn obey(mut orders: mpsc::UnboundedReceiver<String>) -> Result<(), String> {
    let tally = Rc::new(Tally::default());
    let mut crew: Option<Crew> = None;
    while let Some(line) = orders.recv().await {
        let order = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
        let answer = match (order, &mut crew) {
            (Order::Hold { uri }, None) => {
                crew = Some(Crew::hold(&uri, &tally).await?);
                json!({"connections": STAYING + OBSERVERS})
            }
            (Order::Churn { may_die }, Some(crew)) => {
                crew.churn(may_die);
                json!({})
            }
            (Order::Settle, Some(crew)) => {
                let observers = crew.settle().await?;
                json!({"tally": &*tally, "observers": observers})
            }
            (Order::Release, crew) => {
                match crew.take() {
                    Some(crew) => crew.release().await?,
                    None => return Err("nobody to release".to_owned()),
                }
                json!({"tally": &*tally})
            }
            (Order::Spin { seconds }, _) => {
                let end = Instant::now() + Duration::from_secs_f64(seconds);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                json!({})
            }
            (order, _) => return Err(format!("not now: {order:?}")),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl Crew {
    async fn hold(uri: &str, tally: &Rc<Tally>) -> Result<Self, String> {
        let address: SocketAddr = uri
            .strip_prefix("ws://")
            .and_then(|rest| rest.strip_suffix("/ws"))
            .and_then(|address| address.parse().ok())
            .filter(|address: &SocketAddr| address.ip().is_loopback())
            .ok_or_else(|| format!("no address of this machine: {uri}"))?;
        let ledger = Arc::new(Ledger::new());
        let (stage, watched) = watch::channel(Stage::Running);
        let (reporter, mut reports) = mpsc::unbounded_channel();
        for number in 0..OBSERVERS {
            let (ledger, watched, reporter) = (ledger.clone(), watched.clone(), reporter.clone());
            std::thread::spawn(move || observer::run(number, address, ledger, watched, reporter));
        }
        let mut epoch = String::new();
        for _ in 0..OBSERVERS {
            match next(&mut reports).await? {
                Report::Subscribed { epoch: theirs } => epoch = theirs,
                other => return Err(format!("an observer said {other:?}")),
            }
        }
        let world = Rc::new(World {
            address,
            epoch,
            ledger,
            tally: tally.clone(),
            stage: watched,
            may_die: Cell::new(true),
            recent: Cell::new(0),
        });
        let (settler, settled) = mpsc::unbounded_channel();
        let mut staying = JoinSet::new();
        for _ in 0..STAYING {
            staying.spawn_local(lives::stay(world.clone(), settler.clone()));
        }
        Ok(Self {
            world,
            stage,
            reports,
            settled,
            staying,
            changing: JoinSet::new(),
        })
    }

    fn churn(&mut self, may_die: bool) {
        self.world.may_die.set(may_die);
        self.stage.send_replace(Stage::Running);
        for (kind, count) in CHANGING {
            for _ in 0..count {
                self.changing
                    .spawn_local(lives::lives(self.world.clone(), kind));
            }
        }
    }

    async fn settle(&mut self) -> Result<Vec<Seen>, String> {
        self.stage.send_replace(Stage::Settling);
        let mut observers = Vec::new();
        while observers.len() < OBSERVERS {
            match next(&mut self.reports).await? {
                Report::Settled(seen) => observers.push(seen),
                other => return Err(format!("an observer said {other:?}")),
            }
        }
        while self.changing.join_next().await.is_some() {}
        for _ in 0..STAYING {
            self.settled.recv().await;
        }
        Ok(observers)
    }

    async fn release(mut self) -> Result<(), String> {
        self.stage.send_replace(Stage::Released);
        while self.staying.join_next().await.is_some() {}
        for _ in 0..OBSERVERS {
            match next(&mut self.reports).await? {
                Report::Released => {}
                other => return Err(format!("an observer said {other:?}")),
            }
        }
        Ok(())
    }
}

/// The next word of an observer.
async fn next(reports: &mut mpsc::UnboundedReceiver<Report>) -> Result<Report, String> {
    match reports.recv().await {
        Some(Report::Failed(error)) => Err(error),
        Some(report) => Ok(report),
        None => Err("the observers are gone".to_owned()),
    }
}
