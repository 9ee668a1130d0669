//! The server: what an embedder starts, publishes through, asks and stops.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::connection::link::Link;
use crate::counters::Counters;
use crate::directory::Directory;
use crate::disconnect::Disconnect;
use crate::error::{Rejected, StartError};
use crate::http::WEBSOCKET_PATH;
use crate::listener;
use crate::log::Log;
use crate::message::Value;
use crate::message::topics::TopicRules;
use crate::publication::{Draft, now};
use crate::settings::{Settings, size};
use crate::shard::Shard;
use crate::shard::command::{Command, ConnectionId};
use crate::shard::mailbox::Mailbox;

/// A running server: a listener, a runtime that reads, and shards that write. Dropping it without
/// [`Server::shutdown`] leaves its threads running.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// What `info` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Where clients connect: `ws://host:port/ws`.
    pub uri: String,
    /// Topics with subscribers or recent publications, sorted, at most `max_known_topics`.
    pub topics: Vec<String>,
}

/// What became of new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconfigured {
    /// They hold from now on; connections stay.
    Applied,
    /// Nothing changed: these need a new server.
    NeedsRestart,
}

/// The threads and the listener.
#[derive(Debug)]
struct Running {
    runtime: Runtime,
    shards: Vec<JoinHandle<()>>,
    /// Ends the present listener.
    listening: CancellationToken,
    /// Accepts from it.
    accepting: Option<tokio::task::JoinHandle<()>>,
}

/// What all parts of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    active: ArcSwap<Active>,
    address: ArcSwap<SocketAddr>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) directory: Directory,
    /// Differs between servers, so that a client knows when numbers start anew.
    pub(crate) epoch: String,
    pub(crate) admission: Arc<Admission>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) log: Log,
    mailboxes: Box<[Arc<Mailbox>]>,
    next_connection: AtomicU64,
}

/// Settings, and what is made of them for the path of a message.
#[derive(Debug)]
struct Active {
    settings: Arc<Settings>,
    topic_rules: TopicRules,
}

impl Active {
    fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            topic_rules: settings.topic_rules(),
            settings: Arc::new(settings),
        })
    }
}

impl Server {
    /// Starts the threads and binds the listener.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be bound or the system gives no threads; nothing is left running.
    pub fn start(settings: Settings, counters: Arc<Counters>) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.worker_count())
            .thread_name("ws-io")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let listener = bind(&runtime, &settings)?;
        let address = local_address(&listener, &settings)?;
        let shard_count = settings.shard_count();
        let (log, cursors) = Log::new(shard_count);
        let shared = Arc::new(Shared {
            active: ArcSwap::new(Active::new(settings)),
            address: ArcSwap::from_pointee(address),
            admission: Admission::new(counters.clone()),
            counters,
            directory: Directory::default(),
            epoch: new_epoch(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            log,
            mailboxes: (0..shard_count)
                .map(|_| Arc::new(Mailbox::default()))
                .collect(),
            next_connection: AtomicU64::new(1),
        });
        let mut running = Running {
            runtime,
            shards: Vec::new(),
            listening: CancellationToken::new(),
            accepting: None,
        };
        for (index, cursor) in cursors.into_iter().enumerate() {
            let shard = Shard::new(
                shared.clone(),
                shared.mailboxes[index].clone(),
                cursor,
                index == 0,
            );
            match std::thread::Builder::new()
                .name(format!("ws-shard-{index}"))
                .spawn(|| shard.run())
            {
                Ok(thread) => running.shards.push(thread),
                Err(error) => {
                    stop_shards(&shared, running.shards);
                    return Err(StartError::Threads(error));
                }
            }
        }
        running.listen(&shared, listener);
        tracing::info!(%address, "listening");
        Ok(Self {
            shared,
            running: Mutex::new(Some(running)),
        })
    }

    /// Publishes a message to the subscribers of its topics. Never waits: it encodes, takes a place in the order and
    /// wakes the writers. Messages published one after the other arrive in that order.
    ///
    /// # Errors
    /// [`Rejected`] when the message was dropped; that is counted already.
    pub fn publish(&self, message: &Value<'_>) -> Result<u64, Rejected> {
        self.has_audience()?;
        let shared = &*self.shared;
        let counters = &shared.counters;
        let active = shared.active.load();
        let settings = &active.settings;
        let set = active.topic_rules.topics_of(message);
        counters.topics_reserved.add(set.reserved);
        counters.topics_excess.add(set.excess);
        counters.topics_invalid.add(set.invalid);
        let without_topic = set.topics.is_empty();
        let limit = size(settings.max_message_bytes);
        let appended = Draft::encode(set.topics, message, limit, settings.commitments)
            .and_then(|draft| shared.log.append(draft, settings.ingress_bytes));
        match appended {
            Ok(seq) => {
                shared.mailboxes.iter().for_each(|mailbox| mailbox.wake());
                counters.publications.add(1);
                counters
                    .publications_without_topic
                    .add(u64::from(without_topic));
                Ok(seq)
            }
            Err(rejected) => {
                match rejected {
                    Rejected::TooLarge => counters.dropped_too_large.add(1),
                    Rejected::Overload => counters.dropped_overload.add(1),
                    Rejected::NoAudience => {}
                }
                Err(rejected)
            }
        }
    }

    /// Whether anybody could receive a message: somebody is connected, or history is kept. Costs two loads, so that a
    /// caller can spare itself the rest.
    ///
    /// # Errors
    /// [`Rejected::NoAudience`], counted.
    pub fn has_audience(&self) -> Result<(), Rejected> {
        if self.shared.admission.connections() == 0
            && self.shared.active.load().settings.history_bytes == 0
        {
            self.shared.counters.dropped_no_audience.add(1);
            return Err(Rejected::NoAudience);
        }
        Ok(())
    }

    /// Where clients connect, and what they can subscribe to.
    #[must_use]
    pub fn info(&self) -> Info {
        let settings = self.shared.settings();
        Info {
            uri: self.uri(&settings),
            topics: self.shared.directory.names(size(settings.max_known_topics)),
        }
    }

    fn uri(&self, settings: &Settings) -> String {
        let address = **self.shared.address.load();
        let host = match (settings.public_host.as_str(), address.ip()) {
            ("", ip) if ip.is_unspecified() => "localhost".to_owned(),
            ("", IpAddr::V6(ip)) => format!("[{ip}]"),
            ("", ip) => ip.to_string(),
            (host, _) => host.to_owned(),
        };
        format!("ws://{host}:{}{WEBSOCKET_PATH}", address.port())
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// Gauges and counts by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let shared = &self.shared;
        let mut stats = shared.counters.list();
        stats.extend([
            ("connections", shared.admission.connections()),
            ("topics", shared.directory.len() as u64),
            ("seq", shared.log.last_seq()),
            ("ingress_waiting_bytes", shared.log.waiting_bytes()),
            ("history_kept_bytes", shared.log.history_bytes() as u64),
        ]);
        stats
    }

    /// Takes new settings while running. A new address is bound before the old one is left.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the new address cannot be bound; the old settings stay in force then.
    pub fn reconfigure(&self, settings: Settings) -> Result<Reconfigured, StartError> {
        let mut running = self.running.lock();
        let old = self.shared.settings();
        let Some(running) = running.as_mut() else {
            return Ok(Reconfigured::NeedsRestart);
        };
        if (settings.shards, settings.workers) != (old.shards, old.workers) {
            return Ok(Reconfigured::NeedsRestart);
        }
        if (settings.host, settings.port) != (old.host, old.port) {
            let listener = bind(&running.runtime, &settings)?;
            self.shared
                .address
                .store(Arc::new(local_address(&listener, &settings)?));
            running.leave();
            running.listen(&self.shared, listener);
        }
        self.shared.active.store(Active::new(settings));
        self.shared
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(Command::Reconfigure));
        Ok(Reconfigured::Applied)
    }

    /// Closes the listener, tells the clients why, and ends all threads. Waits for the clients up to the deadline, so
    /// it must not be called on a thread that has other work. A second call does nothing.
    pub fn shutdown(&self, reason: Disconnect, deadline: Duration) {
        let Some(mut running) = self.running.lock().take() else {
            return;
        };
        running.leave();
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(Command::CloseAll { reason }));
        // At the deadline the rest is cut off.
        let _ = running
            .runtime
            .block_on(async { tokio::time::timeout(deadline, self.shared.tasks.wait()).await });
        running.runtime.shutdown_background();
        stop_shards(&self.shared, running.shards);
    }
}

impl Running {
    fn listen(&mut self, shared: &Arc<Shared>, listener: TcpListener) {
        self.listening = CancellationToken::new();
        self.accepting = Some(self.runtime.spawn(listener::accept(
            shared.clone(),
            listener,
            self.listening.clone(),
        )));
    }

    /// Ends the listener. When this returns, its address is free.
    fn leave(&mut self) {
        self.listening.cancel();
        if let Some(accepting) = self.accepting.take() {
            // It ends at once; if it panicked, its listener is gone all the same.
            let _ = self.runtime.block_on(accepting);
        }
    }
}

fn stop_shards(shared: &Shared, shards: Vec<JoinHandle<()>>) {
    shared
        .mailboxes
        .iter()
        .for_each(|mailbox| mailbox.send(Command::Stop));
    for shard in shards {
        // A shard that panicked has said so; the others still end.
        let _ = shard.join();
    }
}

fn bind(runtime: &Runtime, settings: &Settings) -> Result<TcpListener, StartError> {
    let address = wanted_address(settings);
    let _entered = runtime.enter();
    listener::bind(address).map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, settings: &Settings) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen {
        address: wanted_address(settings),
        source,
    })
}

fn wanted_address(settings: &Settings) -> SocketAddr {
    // The table keeps the port within 16 bits.
    SocketAddr::new(
        settings.host,
        u16::try_from(settings.port).unwrap_or_default(),
    )
}

/// Six characters that no other server of this machine or time has.
fn new_epoch() -> String {
    let mut number = RandomState::new().hash_one((now(), std::process::id()));
    let mut epoch = String::new();
    for _ in 0..6 {
        epoch.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
    }
    epoch
}

impl Shared {
    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.active.load().settings.clone()
    }

    /// The link of a new connection, on one of the shards.
    pub(crate) fn link(&self, stream: TcpStream) -> Arc<Link> {
        let id: ConnectionId = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let shard = id as usize % self.mailboxes.len();
        Link::new(id, stream, self.mailboxes[shard].clone())
    }
}
