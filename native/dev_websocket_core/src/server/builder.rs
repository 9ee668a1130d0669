//! Builder of a server. The caller may provide shared parts, a listener, and a signal to shut down.

use std::future::Future;
use std::net::TcpListener as StdTcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::{self, EngineThread};
use super::listeners::{bind, bind_operator, local_address, open_operator, public_address};
use super::runtimes::Runtimes;
use super::{Running, Server, stop_shards};
use crate::access::TokenState;
use crate::error::StartError;
use crate::http::{Door, listener};
use crate::log::publication_log::Log;
use crate::log::slot_marks::SlotMarks;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::shard::interest::InterestSignal;
use crate::shard::slot_replay::SlotReplays;
use crate::shared::inbound::Inbound;
use crate::shared::stream::{Stream, StreamEngine};
use crate::shared::{Persistent, Shared, VERSION, token_watch};
use crate::telemetry::counters::Counters;
use crate::tls::Tls;
use crate::wire::close::Disconnect;

/// Time that clients have to close after the caller's signal.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that is not started yet. Each part except the settings has a default.
#[must_use = "a builder does nothing before it is started"]
pub struct Builder {
    settings: Settings,
    persistent: Persistent,
    listener: Option<StdTcpListener>,
    signal: Option<Signal>,
    on_shard_start: fn(),
    engine: Option<Box<dyn StreamEngine>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("settings", &self.settings)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            persistent: Persistent::default(),
            listener: None,
            signal: None,
            on_shard_start: || {},
            engine: None,
        }
    }

    /// Sets the counters, which outlive the server. By default the server has new ones, all at 0.
    pub fn counters(mut self, counters: Arc<Counters>) -> Self {
        self.persistent.counters = counters;
        self
    }

    /// Sets the route of client messages to a listener of the program. By default there is no listener.
    pub fn inbound(mut self, inbound: Arc<Inbound>) -> Self {
        self.persistent.inbound = inbound;
        self
    }

    /// Sets the publication progress of each process. A slot that it covers is not published again. By default it is
    /// empty.
    pub fn slot_marks(mut self, marks: Arc<SlotMarks>) -> Self {
        self.persistent.slots = marks;
        self
    }

    /// Sets the signal for changes in the processes that subscriptions name. By default no watcher is signalled.
    pub fn interest(mut self, interest: Arc<InterestSignal>) -> Self {
        self.persistent.interest = interest;
        self
    }

    /// Sets the slot replays, which a part of the program reads. By default there is no reader, and none is possible.
    pub fn slot_replays(mut self, replays: Arc<SlotReplays>) -> Self {
        self.persistent.replays = replays;
        self
    }

    /// Sets the secret that signs tokens, and the revoked tokens. By default they are new.
    pub fn tokens(mut self, tokens: Arc<TokenState>) -> Self {
        self.persistent.access = tokens;
        self
    }

    /// Sets the release of Erlang/OTP that runs the server, for the metrics. By default it is empty.
    pub fn otp(mut self, release: impl Into<String>) -> Self {
        self.persistent.otp = release.into();
        self
    }

    /// Sets a function that each writer shard runs first, such as one that tells the system how to schedule its thread.
    /// By default it does nothing.
    pub fn on_shard_start(mut self, run: fn()) -> Self {
        self.on_shard_start = run;
        self
    }

    /// Sets the engine that keeps the stream of the setting `engine`. By default there is none, and the setting is
    /// refused.
    pub fn engine(mut self, engine: Box<dyn StreamEngine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Sets a bound listener. By default the server binds `host` and `port` of the settings.
    pub fn listener(mut self, listener: StdTcpListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Shuts the server down with close code 1001 when the future completes; clients then have 5 seconds to close. A
    /// separate thread polls it within a tokio runtime, so signals and timers of tokio work.
    pub fn shutdown_on(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }

    /// Starts the threads, and binds the listeners. The public one is bound unless the caller has provided it.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be bound, the system cannot create threads, or the certificate is invalid. Nothing is left running then.
    pub fn start(self) -> Result<Server, StartError> {
        let Self {
            settings,
            persistent,
            listener,
            signal,
            on_shard_start,
            engine,
        } = self;
        if settings.has_engine() && engine.is_none() {
            return Err(engine::not_built());
        }
        let certificate = Tls::default().read(&settings)?;
        let runtimes = Runtimes::start(&settings).map_err(StartError::Threads)?;
        let listener = match listener {
            None => bind(runtimes.requests(), Door::Public, public_address(&settings))?,
            Some(bound) => {
                let _entered = runtimes.requests().enter();
                let address = bound.local_addr().map_err(StartError::Threads)?;
                listener::from_std(bound)
                    .map_err(|source| StartError::Listen { address, source })?
            }
        };
        let address = local_address(&listener, Door::Public, public_address(&settings))?;
        let operator = bind_operator(runtimes.requests(), &settings)?;
        let (shard_count, workers) = (settings.shard_count(), settings.worker_count());
        let (log, cursors) = Log::new(shard_count);
        let reading = runtimes.connections().clone();
        let shared = Shared::new(settings, address, shard_count, log, persistent, reading);
        shared.tls.replace(certificate);
        let mut running = Running {
            runtimes,
            shards: Vec::new(),
            public: None,
            operator: None,
            engine: None,
        };
        for (index, cursor) in cursors.into_iter().enumerate() {
            let mailbox = shared.context.mailboxes[index].clone();
            let shard = Shard::new(shared.context.clone(), mailbox, cursor, index);
            let thread = thread::Builder::new().name(format!("ws-shard-{index}"));
            let run = move || {
                on_shard_start();
                shard.run();
            };
            match thread.spawn(run) {
                Ok(thread) => running.shards.push(thread),
                Err(error) => {
                    stop_shards(&shared, running.shards);
                    return Err(StartError::Threads(error));
                }
            }
        }
        shared.context.access.reload(&shared.settings());
        {
            let _entered = running.runtimes.connections().enter();
            shared.spawn("the token watch", token_watch::watch);
        }
        running
            .runtimes
            .connections()
            .spawn(shared.tls.clone().watch());
        if let Some((engine, stream)) = engine.zip(Stream::of(&shared)) {
            match EngineThread::start(engine, stream) {
                Ok(thread) => running.engine = Some(thread),
                Err(error) => {
                    running.abandon(&shared);
                    return Err(StartError::Threads(error));
                }
            }
        }
        running.listen(&shared, Door::Public, listener);
        tracing::info!(
            name: "started", %address, shards = shard_count, workers, version = VERSION,
            "The WebSocket server {VERSION} listens on {address} (shards: {shard_count}, workers: {workers})."
        );
        if let Some(operator) = operator {
            open_operator(&mut running, &shared, operator);
        }
        let server = Server {
            runtime: running.runtimes.connections().clone(),
            running: Arc::new(Mutex::new(Some(running))),
            shared,
        };
        if let Some(signal) = signal {
            server.shut_down_on(signal)?;
        }
        Ok(server)
    }
}

impl Server {
    fn shut_down_on(&self, signal: Signal) -> Result<(), StartError> {
        let (shared, running) = (self.shared.clone(), self.running.clone());
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        thread::Builder::new()
            .name("ws-stop".into())
            .spawn(move || {
                let is_told = waiting.block_on(async {
                    tokio::select! {
                        () = signal => true,
                        () = shared.stopping.cancelled() => false,
                    }
                });
                if is_told && let Some(running) = running.lock().take() {
                    running.shutdown(&shared, Disconnect::Stopping, SHUTDOWN_DEADLINE);
                }
            })
            .map_err(StartError::Threads)?;
        Ok(())
    }
}
