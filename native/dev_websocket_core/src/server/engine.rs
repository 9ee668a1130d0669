//! The thread of the engine that keeps the stream of several servers.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::error::StartError;
use crate::shared::stream::{Stream, StreamEngine};
use crate::telemetry::panics::contain;

/// The time before an engine that has ended or panicked runs again.
const PAUSE: Duration = Duration::from_secs(1);

/// A running engine.
#[derive(Debug)]
pub(super) struct EngineThread {
    /// Ends when the thread does.
    ended: Receiver<()>,
}

impl EngineThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot create it.
    pub(super) fn start(mut engine: Box<dyn StreamEngine>, stream: Stream) -> io::Result<Self> {
        stream.set_can_read(engine.can_read());
        let (alive, ended) = channel::<()>();
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        thread::Builder::new()
            .name("ws-engine".into())
            .spawn(move || {
                let _alive = alive;
                while !stream.is_stopping() {
                    let counters = stream.counters();
                    let run = || engine.run(&stream);
                    if contain("the engine of the stream", &counters, run).is_none() {
                        stream.set_away(crate::log::publication::now(), "its engine has panicked");
                    }
                    waiting.block_on(async {
                        // The server may stop meanwhile.
                        let _ = tokio::time::timeout(PAUSE, stream.stopping()).await;
                    });
                }
                let records = stream.unsettled();
                if records > 0 {
                    tracing::warn!(
                        name: "engine_left", records,
                        "The WebSocket server stopped before its stream had {records} of its messages."
                    );
                }
            })?;
        Ok(Self { ended })
    }

    /// Waits until the engine has sent what it can, up to the deadline.
    pub(super) fn end(self, deadline: Duration) {
        // The thread sends nothing; the channel ends with it.
        let _ = self.ended.recv_timeout(deadline);
    }
}

/// Returns the error of a setting that this library cannot follow.
pub(super) fn not_built() -> StartError {
    StartError::Engine {
        setting: "engine",
        reason: "this library was built without the engine for NATS".to_owned(),
    }
}
