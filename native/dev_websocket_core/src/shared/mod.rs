//! The state that the parts of a server share: settings in force, the log, the mailboxes of the shards, and admission.

pub(crate) mod connection_info;
pub(crate) mod connections;
pub(crate) mod exposition;
pub(crate) mod inbound;
pub(crate) mod info;
pub(crate) mod publishing;
pub(crate) mod stream;
pub(crate) mod token_watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Authority, TokenState};
use crate::limits::admission::Admission;
use crate::limits::handshakes::Handshakes;
use crate::log::publication::now;
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
use crate::shard::slot_replay::SlotReplays;
use crate::shared::connections::Connections;
use crate::shared::inbound::Inbound;
use crate::shared::info::Descriptions;
use crate::shared::stream::Inlet;
use crate::subscription::filters::Filters;
use crate::telemetry::counters::Counters;
use crate::telemetry::panics::contain_task;
use crate::tls::Tls;
use crate::tls::socket::Socket;
use crate::wire::close::Disconnect;

/// Path of the WebSocket endpoint.
pub(crate) const WEBSOCKET_PATH: &str = "/ws";

/// Version of the library, which `info`, the metrics and the log tell.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Id of the next connection. It outlives the server, so that an id kept by a listener never means another connection.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// The shared state of one server.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The parts that shards use as well.
    pub(crate) context: Arc<Context>,
    /// Address of the public listener.
    pub(crate) address: ArcSwap<SocketAddr>,
    /// Address of the operator's listener, if there is one.
    pub(crate) operator_address: ArcSwapOption<SocketAddr>,
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
    /// The receiver of the stream, if there is one.
    pub(crate) inlet: Mutex<Inlet>,
    pub(crate) tls: Arc<Tls>,
    /// Start of the server, in milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// Release of Erlang/OTP, empty without one.
    pub(crate) otp: String,
    next_shard: AtomicUsize,
    /// The runtime that reads from connections.
    reading: Handle,
}

/// The state that outlives a server; the embedder passes it to the next one.
#[derive(Debug, Default)]
pub(crate) struct Persistent {
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<SlotMarks>,
    pub(crate) interest: Arc<InterestSignal>,
    pub(crate) replays: Arc<SlotReplays>,
    pub(crate) access: Arc<TokenState>,
    pub(crate) otp: String,
}

impl Shared {
    /// Creates the state of a server with these settings at this address.
    pub(crate) fn new(
        settings: Settings,
        address: SocketAddr,
        shards: usize,
        log: Log,
        lasting: Persistent,
        reading: Handle,
    ) -> Arc<Self> {
        let Persistent {
            counters,
            inbound,
            slots,
            interest,
            replays,
            access,
            otp,
        } = lasting;
        Arc::new(Self {
            address: ArcSwap::from_pointee(address),
            operator_address: ArcSwapOption::empty(),
            admission: Admission::new(counters.clone()),
            context: Context::new(
                settings,
                shards,
                log,
                counters,
                Authority::new(access),
                interest,
                (slots.clone(), replays),
            ),
            descriptions: Descriptions::default(),
            handshakes: Arc::default(),
            filters: Filters::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            connections: Connections::default(),
            send_buffer_bytes: Arc::default(),
            inbound,
            slots,
            inlet: Mutex::default(),
            tls: Arc::default(),
            started_ms: now(),
            otp,
            next_shard: AtomicUsize::new(0),
            reading,
        })
    }

    /// Runs a task for which the server waits at its end. A panic ends only the task.
    pub(crate) fn spawn<F>(self: &Arc<Self>, what: &'static str, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = contain_task(what, self.context.counters.clone(), task(self.clone()));
        self.tasks.spawn(task.map(drop));
    }

    /// Runs the task of a connection on the runtime that reads from connections, as [`Self::spawn`] runs other tasks.
    ///
    /// # Errors
    /// The system cannot watch the socket.
    pub(crate) fn spawn_connection<F>(
        self: &Arc<Self>,
        socket: Socket,
        task: impl FnOnce(Arc<Self>, Socket) -> F,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = {
            let _entered = self.reading.enter();
            socket.into_current_runtime()?
        };
        let counters = self.context.counters.clone();
        let task = contain_task("a connection", counters, task(self.clone(), socket));
        self.tasks.spawn_on(task.map(drop), &self.reading);
        Ok(())
    }

    /// Stops accepting connections, and closes the present ones.
    pub(crate) fn close_all(&self, reason: Disconnect) {
        self.stopping.cancel();
        self.tasks.close();
        self.context.tell_shards(|| Command::CloseAll { reason });
    }

    /// Returns the settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.context.settings()
    }

    /// Creates the handle of a new connection on one of the shards.
    pub(crate) fn handle(&self, socket: Socket, peer: Peer) -> ConnectionHandle {
        let id: ConnectionId = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.context.mailboxes.len();
        let state = ConnectionState::new(id, socket, peer, self.send_buffer_bytes.clone());
        ConnectionHandle::new(state, self.context.mailboxes[shard].clone())
    }
}
