//! What the parts of a server share: settings in force, the log, the mailboxes of the shards, who is admitted.

pub(crate) mod connections;
pub(crate) mod inbound;
pub(crate) mod info;
pub(crate) mod metrics;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use futures::FutureExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::admission::Admission;
use crate::limits::handshakes::Handshakes;
use crate::log::buffer_pool::Spares;
use crate::log::publication::now;
use crate::log::publication_log::Log;
use crate::log::slots::Slots;
use crate::message::topics::TopicRules;
use crate::settings::Settings;
use crate::shard::command::ConnectionId;
use crate::shard::interest::InterestSignal;
use crate::shard::link::Link;
use crate::shard::mailbox::Mailbox;
use crate::shard::peer::Peer;
use crate::shard::topic_registry::Directory;
use crate::shared::connections::Connections;
use crate::shared::inbound::Inbound;
use crate::shared::info::Descriptions;
use crate::subscription::filters::Filters;
use crate::telemetry::counters::Counters;
use crate::telemetry::panics::contain_task;

/// The path of the WebSocket endpoint.
pub(crate) const WEBSOCKET_PATH: &str = "/ws";

/// The number of the next connection. It outlives the server: a number that a listener keeps never means another one.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// See the module's text. One per server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) active: ArcSwap<Active>,
    pub(crate) address: ArcSwap<SocketAddr>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) directory: Directory,
    pub(crate) descriptions: Descriptions,
    /// Differs between servers, so that a client knows when numbers start anew.
    pub(crate) epoch: String,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) filters: Filters,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) log: Log,
    pub(crate) mailboxes: Box<[Arc<Mailbox>]>,
    pub(crate) gauges: Box<[ShardGauges]>,
    pub(crate) connections: Connections,
    /// Bytes of publications that wait for all of them.
    pub(crate) pending_bytes: Arc<AtomicUsize>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) spares: Spares,
    next_shard: AtomicUsize,
}

/// What a shard says of itself.
#[derive(Debug, Default)]
pub(crate) struct ShardGauges {
    /// Subscriptions of its connections.
    pub(crate) subscriptions: AtomicU64,
}

/// What outlives a server: the embedder hands it to the next one.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) interest: Arc<InterestSignal>,
}

/// Settings, and what is made of them for the path of a message.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) settings: Arc<Settings>,
    pub(crate) topic_rules: TopicRules,
    /// Whether anybody can read what is measured.
    pub(crate) is_measured: bool,
}

impl Active {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            topic_rules: settings.topic_rules(),
            is_measured: settings.endpoints.iter().any(|name| name == "metrics"),
            settings: Arc::new(settings),
        })
    }
}

impl Shared {
    /// For a server that starts with these settings and listens there.
    pub(crate) fn new(
        settings: Settings,
        address: SocketAddr,
        shards: usize,
        log: Log,
        lasting: Lasting,
    ) -> Arc<Self> {
        let Lasting {
            counters,
            inbound,
            slots,
            interest,
        } = lasting;
        log.keep(settings.history_bytes);
        Arc::new(Self {
            active: ArcSwap::new(Active::new(settings)),
            address: ArcSwap::from_pointee(address),
            directory: Directory::new(interest),
            epoch: new_epoch(),
            handshakes: Arc::default(),
            admission: Admission::new(counters.clone()),
            filters: Filters::default(),
            counters,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            log,
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            gauges: (0..shards).map(|_| ShardGauges::default()).collect(),
            connections: Connections::default(),
            pending_bytes: Arc::default(),
            descriptions: Descriptions::default(),
            inbound,
            slots,
            spares: Spares::default(),
            next_shard: AtomicUsize::new(0),
        })
    }

    /// Runs a task that the server waits for at its end. A panic of it ends the task alone.
    pub(crate) fn spawn<F>(self: &Arc<Self>, what: &'static str, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = contain_task(what, self.counters.clone(), task(self.clone()));
        self.tasks.spawn(task.map(drop));
    }

    /// Wakes the shards that sleep, when something has been put into the log.
    pub(crate) fn wake_shards(&self) {
        let appended = self.log.appended_bytes();
        self.mailboxes
            .iter()
            .for_each(|mailbox| mailbox.wake(appended));
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.active.load().settings.clone()
    }

    /// The link of a new connection, on one of the shards.
    pub(crate) fn link(&self, stream: TcpStream, peer: Peer) -> Arc<Link> {
        let id: ConnectionId = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len();
        let pending_bytes = self.pending_bytes.clone();
        Link::new(
            id,
            stream,
            peer,
            self.mailboxes[shard].clone(),
            pending_bytes,
        )
    }
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
