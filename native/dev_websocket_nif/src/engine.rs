//! The one engine of the VM.
//!
//! Its state outlives every Erlang module that talks to it: a module may be purged and loaded again, and there may be
//! several copies of the device, but never a second server. What takes time or waits (start, stop, new settings) runs
//! in turn on one control thread; casts and questions read the present [`Phase`] without a lock.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use dev_websocket_core::{
    Counters, Disconnect, Inbound, InterestSignal, Reconfigured, Rejected, Server, Settings,
    SlotMarks, StartError, panic_text,
};
use parking_lot::Mutex;

use crate::logging;

/// How long clients get to take their close frames.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine {
    phase: ArcSwap::from_pointee(Phase::Down(Reason::NotStarted)),
    counters: Arc::default(),
    inbound: Arc::default(),
    slots: Arc::default(),
    interest: Arc::default(),
    control: Mutex::new(None),
});

pub(crate) type Result<T> = std::result::Result<T, Reason>;

/// Why there is no server.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// Nobody asked for one yet.
    NotStarted,
    /// It is being replaced right now.
    Restarting,
    /// It was stopped.
    Stopped,
    /// Settings that protect it have values that do not fit: their names, and what each takes.
    Settings(Arc<[(&'static str, String)]>),
    /// It could not start.
    Start(Arc<StartError>),
    /// The system gave no control thread.
    ControlThread(Arc<io::Error>),
    /// A fault of the engine, contained on the control thread.
    RequestError(String),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `ok`: on its way.
    Published,
    /// `large`: not decided, too big for a scheduler thread.
    Large,
    /// `{dropped, Reason}`, counted.
    TooLarge,
    Overload,
    NoAudience,
    NotStarted,
    NotRunning,
    RequestError,
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

/// What the control thread is told.
pub(crate) enum Command {
    /// Start, but only the very first time in this VM.
    Boot(Box<Settings>),
    /// Start, or take new settings.
    Start(Box<Settings>),
    /// Stop.
    Stop,
    /// Stop because of this, and stay so until somebody starts it.
    Shut(Reason),
}

/// Takes the result of a command, on the control thread.
pub(crate) type Reply = Box<dyn FnOnce(Result<()>) + Send>;

struct Job {
    command: Command,
    reply: Reply,
}

enum Phase {
    Running(Running),
    Down(Reason),
}

/// A server with what a cast needs of its settings.
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
    /// Shared by all servers of this VM, one after the other.
    pub(crate) counters: Arc<Counters>,
    /// Likewise, so that a listener stays over a restart.
    pub(crate) inbound: Arc<Inbound>,
    /// Likewise, so that a restart publishes no result again.
    pub(crate) slots: Arc<SlotMarks>,
    /// Likewise, so that its watcher stays over a restart.
    pub(crate) interest: Arc<InterestSignal>,
    /// Held only to hand over a job.
    control: Mutex<Option<Sender<Job>>>,
}

impl Engine {
    /// Runs with the server, or says what becomes of what the caller has for it.
    pub(crate) fn with_running<T>(
        &self,
        run: impl FnOnce(&Running) -> T,
    ) -> std::result::Result<T, Outcome> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(run(running)),
            // Not lost yet: the caller starts the server and calls again.
            Phase::Down(Reason::NotStarted) => Err(Outcome::NotStarted),
            Phase::Down(_) => {
                self.counters.dropped_not_running.add(1);
                Err(Outcome::NotRunning)
            }
        }
    }

    /// Runs with the server, or says why there is none.
    pub(crate) fn with_server<T>(&self, run: impl FnOnce(&Running) -> T) -> Result<T> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(run(running)),
            Phase::Down(reason) => Err(reason.clone()),
        }
    }

    /// The running server, or why there is none.
    pub(crate) fn server(&self) -> Result<Arc<Server>> {
        match &**self.phase.load() {
            Phase::Running(running) => Ok(running.server.clone()),
            Phase::Down(reason) => Err(reason.clone()),
        }
    }

    /// Queues a command for the control thread, which is started when there is none.
    pub(crate) fn submit(&self, command: Command, reply: Reply) -> Result<()> {
        let mut control = self.control.lock();
        let mut job = Job { command, reply };
        if let Some(jobs) = &*control {
            match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => job = back,
            }
        }
        // From here on there may be something to tell.
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
        // The receiver lives: its thread has nothing else to do.
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
        let started = Server::builder(settings.clone())
            .counters(self.counters.clone())
            .inbound(self.inbound.clone())
            .slot_marks(self.slots.clone())
            .interest(self.interest.clone())
            .start();
        match started {
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

    /// Says why there is no server, if there is none: what was asked for did not come as far as the control thread.
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
        // Another server has other subscriptions, and without one there are none.
        self.interest.changed();
    }

    /// Tells of a fault on a scheduler thread, whose place only the program's own hook knows.
    pub(crate) fn contained(&self, panic: &(dyn Any + Send)) {
        self.counters.panics.add(1);
        let text = panic_text(panic);
        tracing::error!(
            name: "fault", panic = text,
            "The WebSocket server panicked: {text}."
        );
    }

    /// After a fault there may be no server any more, and no command may believe that one is on its way.
    fn recover(&self, fault: String) -> Reason {
        self.counters.panics.add(1);
        let reason = Reason::RequestError(fault);
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

/// Ends a server that no phase holds any more.
fn retire(server: Arc<Server>, reason: Disconnect) {
    server.shutdown(reason, SHUTDOWN_DEADLINE);
    // A cast that began before still publishes into it. The last one to let go frees the server, and that must not be
    // a scheduler thread.
    while Arc::strong_count(&server) > 1 {
        thread::sleep(Duration::from_millis(1));
    }
}
