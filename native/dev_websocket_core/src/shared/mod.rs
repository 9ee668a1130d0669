//! What the parts of a server share: settings in force, the log, the mailboxes of the shards, who is admitted.

pub(crate) mod connections;
pub(crate) mod exposition;
pub(crate) mod inbound;
pub(crate) mod info;

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
use crate::log::publication_log::Log;
use crate::log::slot_marks::SlotMarks;
use crate::settings::Settings;
use crate::shard::command::Command;
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::connection_state::ConnectionState;
use crate::shard::context::Context;
use crate::shard::ids::ConnectionId;
use crate::shard::interest::InterestSignal;
use crate::shard::peer::Peer;
use crate::shared::connections::Connections;
use crate::shared::inbound::Inbound;
use crate::shared::info::Descriptions;
use crate::subscription::filters::Filters;
use crate::telemetry::counters::Counters;
use crate::telemetry::panics::contain_task;
use crate::wire::close::Disconnect;

/// The path of the WebSocket endpoint.
pub(crate) const WEBSOCKET_PATH: &str = "/ws";

/// The number of the next connection. It outlives the server: a number that a listener keeps never means another one.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// One per server.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The parts that shards use as well.
    pub(crate) context: Arc<Context>,
    pub(crate) address: ArcSwap<SocketAddr>,
    pub(crate) descriptions: Descriptions,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) filters: Filters,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) connections: Connections,
    /// Bytes in the send buffers of all connections.
    pub(crate) send_buffer_bytes: Arc<AtomicUsize>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<SlotMarks>,
    next_shard: AtomicUsize,
}

/// What outlives a server: the embedder hands it to the next one.
#[derive(Debug, Default)]
pub(crate) struct Persistent {
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<SlotMarks>,
    pub(crate) interest: Arc<InterestSignal>,
}

impl Shared {
    /// For a server that starts with these settings and listens there.
    pub(crate) fn new(
        settings: Settings,
        address: SocketAddr,
        shards: usize,
        log: Log,
        lasting: Persistent,
    ) -> Arc<Self> {
        let Persistent {
            counters,
            inbound,
            slots,
            interest,
        } = lasting;
        Arc::new(Self {
            address: ArcSwap::from_pointee(address),
            admission: Admission::new(counters.clone()),
            context: Context::new(settings, shards, log, counters, interest),
            descriptions: Descriptions::default(),
            handshakes: Arc::default(),
            filters: Filters::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            connections: Connections::default(),
            send_buffer_bytes: Arc::default(),
            inbound,
            slots,
            next_shard: AtomicUsize::new(0),
        })
    }

    /// Runs a task that the server waits for at its end. A panic of it ends the task alone.
    pub(crate) fn spawn<F>(self: &Arc<Self>, what: &'static str, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = contain_task(what, self.context.counters.clone(), task(self.clone()));
        self.tasks.spawn(task.map(drop));
    }

    /// Ends the acceptance of connections, and closes those that there are.
    pub(crate) fn close_all(&self, reason: Disconnect) {
        self.stopping.cancel();
        self.tasks.close();
        self.context
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(Command::CloseAll { reason }));
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.context.settings()
    }

    /// The handle of a new connection, on one of the shards.
    pub(crate) fn handle(&self, stream: TcpStream, peer: Peer) -> ConnectionHandle {
        let id: ConnectionId = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.context.mailboxes.len();
        let state = ConnectionState::new(id, stream, peer, self.send_buffer_bytes.clone());
        ConnectionHandle::new(state, self.context.mailboxes[shard].clone())
    }
}
