//! The single engine of the VM.
//!
//! Its state outlives every Erlang module that uses it. A module may be purged and loaded again, and several copies of
//! the device may exist, but there is never a second server.
//!
//! Slow or blocking commands (start, stop, new settings) run in order on one control thread. Publishing and queries
//! read the current [`Phase`] without a lock.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use dev_websocket_core::{
    Counters, Disconnect, Inbound, InterestSignal, Reconfigured, Rejected, Server, Settings,
    SlotMarks, SlotReplays, StartError, TokenState, panic_text,
};
use parking_lot::Mutex;

use crate::{logging, threads};

/// The time that clients have to take their close frames at shutdown.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine {
    phase: ArcSwap::from_pointee(Phase::Down(Reason::NotStarted)),
    counters: Arc::default(),
    inbound: Arc::default(),
    slots: Arc::default(),
    interest: Arc::default(),
    replays: Arc::default(),
    tokens: Arc::default(),
    control: Mutex::new(None),
});

/// Release of Erlang/OTP, for the metrics.
pub(crate) static OTP: OnceLock<String> = OnceLock::new();

pub(crate) type Result<T> = std::result::Result<T, Reason>;

/// The reason why there is no server.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// No caller has started one yet.
    NotStarted,
    /// The server is being replaced.
    Restarting,
    /// The server was stopped.
    Stopped,
    /// Protective settings have invalid values: their names, and the values that each accepts.
    Settings(Arc<[(&'static str, String)]>),
    /// The server could not start.
    Start(Arc<StartError>),
    /// The operating system refused to create the control thread.
    ControlThread(Arc<io::Error>),
    /// The engine panicked on the control thread, which contained the panic.
    Panic(String),
}

/// The outcome of publishing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `ok`: the message was published.
    Published,
    /// `large`: undecided, because the message is too large for a scheduler thread.
    Large,
    /// `{dropped, Reason}`: the message was dropped and counted.
    TooLarge,
    Overload,
    NoAudience,
    NotStarted,
    NotRunning,
    Panic,
}

impl From<Rejected> for Outcome {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::TooLarge => Self::TooLarge,
            Rejected::Overload => Self::Overload,
            Rejected::NoAudience => Self::NoAudience,
        }
    }
}

/// A command for the control thread.
pub(crate) enum Command {
    /// Starts the server, only if this VM never started or stopped one.
    Boot(Box<Settings>),
    /// Starts the server, or applies new settings to it.
    Start(Box<Settings>),
    /// Stops the server.
    Stop,
    /// Stops the server for a reason; it stays stopped until a caller starts it.
    Shut(Reason),
}

/// The callback that receives a command's result on the control thread.
pub(crate) type Reply = Box<dyn FnOnce(Result<()>) + Send>;

struct Job {
    command: Command,
    reply: Reply,
}

enum Phase {
    Running(Running),
    Down(Reason),
}

/// A running server with the settings that publishing needs.
pub(crate) struct Running {
    pub(crate) server: Arc<Server>,
    pub(crate) max_message_bytes: u64,
    pub(crate) commitments: bool,
}

impl Running {
    fn new(server: Arc<Server>, settings: &Settings) -> Self {
        Self {
            server,
            max_message_bytes: settings.max_message_bytes,
            commitments: settings.commitments,
        }
    }
}

pub(crate) struct Engine {
    phase: ArcSwap<Phase>,
    /// The counters, shared by all successive servers of this VM.
    pub(crate) counters: Arc<Counters>,
    /// The queue to the listener; it is shared so that a listener survives a restart.
    pub(crate) inbound: Arc<Inbound>,
    /// The marks of published slots; they are shared so that a restart publishes no result again.
    pub(crate) slots: Arc<SlotMarks>,
    /// The signal of changed interest; it is shared so that its watcher survives a restart.
    pub(crate) interest: Arc<InterestSignal>,
    /// The slot replays; they are shared so that their reader survives a restart.
    pub(crate) replays: Arc<SlotReplays>,
    tokens: Arc<TokenState>,
    /// The control thread's channel; the lock is held only to queue a job.
    control: Mutex<Option<Sender<Job>>>,
}

impl Engine {
    /// Runs a function with the server, or returns the outcome of the caller's message without one.
    pub(crate) fn with_running<T>(
        &self,
        run: impl FnOnce(&Running) -> T,
    ) -> std::result::Result<T, Outcome> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(run(running)),
            // The message is not lost yet: the caller starts the server and calls again.
            Phase::Down(Reason::NotStarted) => Err(Outcome::NotStarted),
            Phase::Down(_) => {
                self.counters.dropped_not_running.add(1);
                Err(Outcome::NotRunning)
            }
        }
    }

    /// Runs a function with the server, or returns the reason why there is none.
    pub(crate) fn with_server<T>(&self, run: impl FnOnce(&Running) -> T) -> Result<T> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(run(running)),
            Phase::Down(reason) => Err(reason.clone()),
        }
    }

    /// Returns the running server, or the reason why there is none.
    pub(crate) fn server(&self) -> Result<Arc<Server>> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(running.server.clone()),
            Phase::Down(reason) => Err(reason.clone()),
        }
    }

    /// Queues a command for the control thread, and starts that thread if there is none.
    pub(crate) fn submit(&self, command: Command, reply: Reply) -> Result<()> {
        let mut control = self.control.lock();
        let mut job = Job { command, reply };
        if let Some(jobs) = &*control {
            match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => job = back,
            }
        }
        // From here on the engine may produce log events.
        logging::begin(&self.counters);
        let (sender, jobs) = channel();
        thread::Builder::new()
            .name("ws-control".to_owned())
            .spawn(|| control_loop(jobs))
            .map_err(|error| {
                let reason = Reason::ControlThread(Arc::new(error));
                self.refuse(&reason);
                reason
            })?;
        // The receiver exists, because its thread has just started.
        let _ = sender.send(job);
        *control = Some(sender);
        Ok(())
    }

    fn run(&self, command: Command) -> Result<()> {
        match (command, self.server()) {
            (Command::Boot(settings), Err(Reason::NotStarted))
            | (Command::Start(settings), Err(_)) => self.start(*settings),
            (Command::Boot(_), server) => server.map(drop),
            (Command::Start(settings), Ok(server)) => self.reconfigure(server, *settings),
            (Command::Stop, server) => {
                self.stop(server, Reason::Stopped);
                Ok(())
            }
            (Command::Shut(reason), server) => {
                self.stop(server, reason);
                Ok(())
            }
        }
    }

    fn start(&self, settings: Settings) -> Result<()> {
        let builder = Server::builder(settings.clone())
            .counters(self.counters.clone())
            .tokens(self.tokens.clone())
            .inbound(self.inbound.clone())
            .slot_marks(self.slots.clone())
            .interest(self.interest.clone())
            .slot_replays(self.replays.clone())
            .on_shard_start(threads::yield_to_callers)
            .otp(OTP.get().map(String::as_str).unwrap_or_default());
        #[cfg(feature = "nats")]
        let builder = builder.engine(Box::new(dev_websocket_nats::Nats::new()));
        match builder.start() {
            Ok(server) => {
                self.enter(Phase::Running(Running::new(Arc::new(server), &settings)));
                Ok(())
            }
            Err(error) => {
                let reason = Reason::Start(Arc::new(error));
                self.enter(Phase::Down(reason.clone()));
                Err(reason)
            }
        }
    }

    fn stop(&self, server: Result<Arc<Server>>, reason: Reason) {
        self.enter(Phase::Down(reason));
        if let Ok(server) = server {
            retire(server, Disconnect::Stopping);
            logging::settle(&self.counters);
        }
    }

    /// Stores the reason if there is no server, for a request that did not reach the control thread.
    pub(crate) fn refuse(&self, reason: &Reason) {
        self.phase.rcu(|phase| match **phase {
            Phase::Running(_) => phase.clone(),
            Phase::Down(_) => Arc::new(Phase::Down(reason.clone())),
        });
    }

    fn reconfigure(&self, server: Arc<Server>, settings: Settings) -> Result<()> {
        match server.reconfigure(settings.clone()) {
            Ok(Reconfigured::Applied) => {
                self.enter(Phase::Running(Running::new(server, &settings)));
                Ok(())
            }
            Ok(Reconfigured::NeedsRestart) => {
                self.enter(Phase::Down(Reason::Restarting));
                retire(server, Disconnect::Restarting);
                self.start(settings)
            }
            Err(error) => Err(Reason::Start(Arc::new(error))),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
        // A new server has other subscriptions, and a stopped one has none.
        self.interest.changed();
    }

    /// Reports a panic on a scheduler thread. Only the program's own panic hook knows its position.
    pub(crate) fn contained(&self, panic: &(dyn Any + Send)) {
        self.counters.panics.add(1);
        let text = panic_text(panic);
        tracing::error!(
            name: "fault", panic = text,
            "The WebSocket server panicked: {text}."
        );
    }

    /// Resets the phase after a panic, because the server may be gone and no command may expect one to start.
    fn recover(&self, fault: String) -> Reason {
        self.counters.panics.add(1);
        let reason = Reason::Panic(fault);
        if let Err(Reason::NotStarted | Reason::Restarting) = self.server() {
            self.enter(Phase::Down(reason.clone()));
        }
        reason
    }
}

fn control_loop(jobs: Receiver<Job>) {
    for Job { command, reply } in jobs {
        let result = catch_unwind(AssertUnwindSafe(|| ENGINE.run(command)));
        let result =
            result.unwrap_or_else(|panic| Err(ENGINE.recover(panic_text(&*panic).to_owned())));
        if catch_unwind(AssertUnwindSafe(|| reply(result))).is_err() {
            ENGINE.counters.panics.add(1);
        }
    }
}

/// Shuts down a server that no phase refers to.
fn retire(server: Arc<Server>, reason: Disconnect) {
    server.shutdown(reason, SHUTDOWN_DEADLINE);
    // An earlier publisher may still use the server. The last owner frees it, and that must not be a scheduler thread.
    while Arc::strong_count(&server) > 1 {
        thread::sleep(Duration::from_millis(1));
    }
}
