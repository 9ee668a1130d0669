//! The server that an embedding program starts, publishes through, inspects and stops.

pub(crate) mod admin;
pub(crate) mod builder;
mod engine;
mod listeners;
pub(crate) mod publish;
pub(crate) mod results;
mod runtimes;
pub(crate) mod send;
pub(crate) mod slots;
mod tokens;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use self::builder::Builder;
use self::engine::EngineThread;
use self::listeners::Accepting;
use self::runtimes::Runtimes;
use crate::error::StartError;
use crate::http::Door;
use crate::settings::Settings;
use crate::settings::active::ActiveSettings;
use crate::shard::command::Command;
use crate::shared::Shared;
use crate::shared::exposition::{self, Family};
use crate::shared::info::{Description, Info};
use crate::telemetry::counters::Counters;
use crate::wire::close::Disconnect;

/// A running server: its listeners, a runtime that reads, and shards that write.
///
/// [`Server::shutdown`] closes the connections with a close frame. Dropping a running server ends its threads at once.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    /// Runtime for work that must block neither a caller nor a shard. It accepts no more work after the shutdown.
    pub(crate) runtime: Handle,
    running: Arc<Mutex<Option<Running>>>,
}

/// The outcome of new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconfigured {
    /// The settings are in force; connections stay.
    Applied,
    /// Nothing changed, because these settings need a new server.
    NeedsRestart,
}

/// The threads and the listeners.
#[derive(Debug)]
struct Running {
    runtimes: Runtimes,
    shards: Vec<JoinHandle<()>>,
    public: Option<Accepting>,
    operator: Option<Accepting>,
    engine: Option<EngineThread>,
}

impl Server {
    /// Creates a builder of a server with these settings.
    pub fn builder(settings: Settings) -> Builder {
        Builder::new(settings)
    }

    /// Starts a server with these settings and these counters.
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub fn start(settings: Settings, counters: Arc<Counters>) -> Result<Self, StartError> {
        Self::builder(settings).counters(counters).start()
    }

    /// Returns the URL for clients, and the topics to which they can subscribe.
    #[must_use]
    pub fn info(&self) -> Info {
        self.shared.describe().info.clone()
    }

    /// Returns the data that a client needs before it connects. Calls in quick succession share one description. Up to
    /// 100 topics are always current. A longer list is reused for 100 microseconds for each of its topics.
    #[must_use]
    pub fn describe(&self) -> Arc<Description> {
        self.shared.describe()
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// Returns gauges and counts by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        self.shared.stats()
    }

    /// Returns all counters, gauges and histograms under their Prometheus names.
    #[must_use]
    pub fn metrics(&self) -> Vec<Family> {
        exposition::families(&self.shared)
    }

    /// Applies new settings to the running server. It binds a new address before it leaves the old one, if both can be
    /// bound.
    ///
    /// # Errors
    /// [`StartError::Listen`] or [`StartError::ListenOperator`] if a new address cannot be bound, and
    /// [`StartError::Certificate`] if the new certificate is invalid. The old settings then stay in force.
    pub fn reconfigure(&self, settings: Settings) -> Result<Reconfigured, StartError> {
        let mut running = self.running.lock();
        let old = self.shared.settings();
        let Some(running) = running.as_mut() else {
            return Ok(Reconfigured::NeedsRestart);
        };
        if (settings.shards, settings.workers) != (old.shards, old.workers)
            || settings.has_other_engine(&old)
        {
            return Ok(Reconfigured::NeedsRestart);
        }
        // The certificate is in force before the new address, so that no connection there goes without it.
        let certificate = self.shared.tls.read(&settings)?;
        let before = self.shared.tls.replace(certificate);
        self.move_listeners(running, &old, &settings)
            .inspect_err(|_| {
                self.shared.tls.replace(before);
            })?;
        let changed = old.differences(&settings).join(", ");
        let context = &self.shared.context;
        context.log.keep(settings.history_bytes);
        context.buffers.compression.set(settings.compression_min());
        self.shared
            .context
            .active
            .store(ActiveSettings::new(settings));
        self.shared.context.tell_shards(|| Command::Reconfigure);
        let authority = &self.shared.context.access;
        authority.reload(&self.shared.settings());
        authority.note_change();
        if !changed.is_empty() {
            tracing::info!(
                name: "changed_settings", settings = changed,
                "The WebSocket server applied new settings: {changed}."
            );
        }
        Ok(Reconfigured::Applied)
    }

    /// Closes the listeners, tells the clients the reason, and ends all threads. It waits for the clients up to the
    /// deadline, so do not call it on a thread that has other work. A second call does nothing.
    pub fn shutdown(&self, reason: Disconnect, deadline: Duration) {
        if let Some(running) = self.running.lock().take() {
            running.shutdown(&self.shared, reason, deadline);
        }
    }
}

impl Drop for Server {
    /// Dropping does not wait, because a server may be dropped on any thread, even one of another runtime.
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().take() {
            running.abandon(&self.shared);
        }
    }
}

#[cfg(test)]
impl Server {
    /// Creates a server without threads, whose log the test reads.
    pub(crate) fn without_threads(
        settings: Settings,
    ) -> (Self, crate::log::publication_log::Cursor) {
        let (log, mut cursors) = crate::log::publication_log::Log::new(1);
        let lasting = crate::shared::Persistent::default();
        let address = ([127, 0, 0, 1], 0).into();
        #[allow(clippy::unwrap_used, reason = "a test's own runtime")]
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let server = Self {
            shared: Shared::new(settings, address, 1, log, lasting, runtime.handle().clone()),
            runtime: runtime.handle().clone(),
            running: Arc::default(),
        };
        (server, cursors.remove(0))
    }
}

impl Running {
    /// Ends everything: the clients are told, and have time until the deadline.
    fn shutdown(mut self, shared: &Shared, reason: Disconnect, deadline: Duration) {
        self.leave(Door::Public);
        self.leave(Door::Operator);
        shared.close_all(reason);
        if let Some(engine) = self.engine.take() {
            engine.end(deadline);
        }
        self.runtimes.end(&shared.tasks, deadline);
        stop_shards(shared, self.shards);
        let address = **shared.address.load();
        tracing::info!(
            name: "stopped", %address, reason = reason.name(),
            "The WebSocket server on {address} stopped."
        );
    }

    /// Ends everything without waiting.
    fn abandon(self, shared: &Shared) {
        for accepting in self.public.iter().chain(&self.operator) {
            accepting.stop();
        }
        shared.close_all(Disconnect::Stopping);
        self.runtimes.abandon();
        shared.context.tell_shards(|| Command::Stop);
    }
}

fn stop_shards(shared: &Shared, shards: Vec<JoinHandle<()>>) {
    shared.context.tell_shards(|| Command::Stop);
    for shard in shards {
        // A panic of the shard was logged; the other shards still end.
        let _ = shard.join();
    }
}
