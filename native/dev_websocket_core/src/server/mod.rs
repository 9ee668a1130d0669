//! The server: what an embedder starts, publishes through, asks and stops.

pub(crate) mod admin;
pub(crate) mod publish;
pub(crate) mod results;
pub(crate) mod send;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::error::StartError;
use crate::http::listener;
use crate::log::publication_log::Log;
use crate::log::slot_marks::SlotMarks;
use crate::settings::Settings;
use crate::settings::active::ActiveSettings;
use crate::shard::Shard;
use crate::shard::command::Command;
use crate::shard::interest::InterestSignal;
use crate::shared::exposition::{self, Family};
use crate::shared::inbound::Inbound;
use crate::shared::info::{Description, Info};
use crate::shared::{Persistent, Shared};
use crate::telemetry::counters::Counters;
use crate::wire::close::Disconnect;

/// A running server: a listener, a runtime that reads, and shards that write. Dropping it without
/// [`Server::shutdown`] leaves its threads running.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    /// For work that must keep neither a caller nor a shard. It takes nothing more once the server is shut down.
    pub(crate) runtime: Handle,
    running: Mutex<Option<Running>>,
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

impl Server {
    /// Starts the threads and binds the listener.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be bound or the system gives no threads; nothing is left running.
    pub fn start(settings: Settings, counters: Arc<Counters>) -> Result<Self, StartError> {
        let (inbound, slots, interest) = Default::default();
        Self::start_with(settings, counters, inbound, slots, interest)
    }

    /// Starts a server whose clients are heard by whoever listens at `inbound`, that publishes no slot again of those that
    /// `slots` has seen, and whose subscriptions `interest` is told of.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_with(
        settings: Settings,
        counters: Arc<Counters>,
        inbound: Arc<Inbound>,
        slots: Arc<SlotMarks>,
        interest: Arc<InterestSignal>,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.worker_count())
            .thread_name("ws-io")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let listener = bind(&runtime, &settings)?;
        let address = local_address(&listener, &settings)?;
        let (shard_count, workers) = (settings.shard_count(), settings.worker_count());
        let (log, cursors) = Log::new(shard_count);
        let shared = Shared::new(
            settings,
            address,
            shard_count,
            log,
            Persistent {
                counters,
                inbound,
                slots,
                interest,
            },
        );
        let mut running = Running {
            runtime,
            shards: Vec::new(),
            listening: CancellationToken::new(),
            accepting: None,
        };
        for (index, cursor) in cursors.into_iter().enumerate() {
            let shard = Shard::new(
                shared.context.clone(),
                shared.context.mailboxes[index].clone(),
                cursor,
                index,
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
        tracing::info!(
            name: "started", %address, shards = shard_count, workers,
            "The WebSocket server listens on {address} (shards: {shard_count}, workers: {workers})."
        );
        Ok(Self {
            shared,
            runtime: running.runtime.handle().clone(),
            running: Mutex::new(Some(running)),
        })
    }

    /// Where clients connect, and what they can subscribe to.
    #[must_use]
    pub fn info(&self) -> Info {
        self.shared.describe().info.clone()
    }

    /// What a client needs to know before it connects. Who asks in a row gets the same: up to 100 topics are listed as they
    /// are, a longer list is made anew after 100 microseconds for each of its topics.
    #[must_use]
    pub fn describe(&self) -> Arc<Description> {
        self.shared.describe()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// Gauges and counts by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        self.shared.stats()
    }

    /// Everything that is counted and measured, as Prometheus names it.
    #[must_use]
    pub fn metrics(&self) -> Vec<Family> {
        exposition::families(&self.shared)
    }

    /// Takes new settings while running. A new address is bound before the old one is left, where both can be.
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
            self.move_listener(running, &settings)?;
        }
        let changed = old.differences(&settings).join(", ");
        self.shared.context.log.keep(settings.history_bytes);
        self.shared
            .context
            .active
            .store(ActiveSettings::new(settings));
        self.shared
            .context
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(Command::Reconfigure));
        if !changed.is_empty() {
            tracing::info!(
                name: "changed_settings", settings = changed,
                "The WebSocket server has new settings: {changed}."
            );
        }
        Ok(Reconfigured::Applied)
    }

    /// Binds the new address, then leaves the old one. Of one port, the two may be in each other's way, as all interfaces
    /// and one of them are: then the old one is left first, and taken back when the new one cannot be had.
    fn move_listener(&self, running: &mut Running, settings: &Settings) -> Result<(), StartError> {
        let old = **self.shared.address.load();
        let listener = match bind(&running.runtime, settings) {
            Err(_) if wanted_address(settings).port() == old.port() => {
                running.leave();
                bind(&running.runtime, settings).inspect_err(|_| {
                    match bind_address(&running.runtime, old) {
                        Ok(listener) => running.listen(&self.shared, listener),
                        Err(error) => tracing::error!(
                            name: "lost_address", address = %old, %error,
                            "The WebSocket server could not return to its old address {old}: {error}."
                        ),
                    }
                })?
            }
            bound => bound?,
        };
        let address = local_address(&listener, settings)?;
        running.leave();
        self.shared.address.store(Arc::new(address));
        running.listen(&self.shared, listener);
        tracing::info!(
            name: "moved", %address, from = %old,
            "The WebSocket server has moved from {old} to {address}."
        );
        Ok(())
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
            .context
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(Command::CloseAll { reason }));
        // At the deadline the rest is cut off.
        let _ = running
            .runtime
            .block_on(async { tokio::time::timeout(deadline, self.shared.tasks.wait()).await });
        running.runtime.shutdown_background();
        stop_shards(&self.shared, running.shards);
        let address = **self.shared.address.load();
        tracing::info!(
            name: "stopped", %address, reason = reason.name(),
            "The WebSocket server on {address} has stopped."
        );
    }
}

#[cfg(test)]
impl Server {
    /// A server without threads, whose log the test reads.
    pub(crate) fn without_threads(
        settings: Settings,
    ) -> (Self, crate::log::publication_log::Cursor) {
        let (log, mut cursors) = Log::new(1);
        let lasting = Persistent {
            counters: Arc::default(),
            inbound: Arc::default(),
            slots: Arc::default(),
            interest: Arc::default(),
        };
        let address = ([127, 0, 0, 1], 0).into();
        #[allow(clippy::unwrap_used, reason = "a test's own runtime")]
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let server = Self {
            shared: Shared::new(settings, address, 1, log, lasting),
            runtime: runtime.handle().clone(),
            running: Mutex::new(None),
        };
        (server, cursors.remove(0))
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
        .context
        .mailboxes
        .iter()
        .for_each(|mailbox| mailbox.send(Command::Stop));
    for shard in shards {
        // A shard that panicked has said so; the others still end.
        let _ = shard.join();
    }
}

fn bind(runtime: &Runtime, settings: &Settings) -> Result<TcpListener, StartError> {
    bind_address(runtime, wanted_address(settings))
}

fn bind_address(runtime: &Runtime, address: SocketAddr) -> Result<TcpListener, StartError> {
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
