//! The runtimes of a server: one serves requests, the other reads from connections.
//!
//! Requests come from strangers, in any number, and each costs work before it is known to be worth any. Their threads
//! have a lower priority, so under full load the clients that are connected come first.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::TaskTracker;

use crate::settings::Settings;

/// Nice value of the threads that serve requests, above that of the program. Linux gives such a thread a tenth of the
/// time of a normal one, while both want the processor.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The threads of a server, without its shards.
#[derive(Debug)]
pub(super) struct Runtimes {
    /// Accepts connections and serves their requests.
    requests: Runtime,
    /// Reads from connections.
    connections: Runtime,
}

impl Runtimes {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system cannot create threads.
    pub(super) fn start(settings: &Settings) -> io::Result<Self> {
        let workers = settings.worker_count();
        Ok(Self {
            requests: builder("ws-http", workers)
                .on_thread_start(lower_priority)
                .build()?,
            connections: builder("ws-io", workers).build()?,
        })
    }

    /// Returns the runtime that accepts connections.
    pub(super) fn requests(&self) -> &Runtime {
        &self.requests
    }

    /// Returns the handle of the runtime that reads from connections.
    pub(super) fn connections(&self) -> &Handle {
        self.connections.handle()
    }

    /// Waits for the tasks up to the deadline, then ends all threads.
    pub(super) fn end(self, tasks: &TaskTracker, deadline: Duration) {
        // At the deadline the remaining connections are cut off.
        let _ = self
            .connections
            .block_on(async { tokio::time::timeout(deadline, tasks.wait()).await });
        self.abandon();
    }

    /// Ends all threads without waiting for their tasks.
    pub(super) fn abandon(self) {
        self.requests.shutdown_background();
        self.connections.shutdown_background();
    }
}

fn builder(name: &str, workers: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(workers)
        .thread_name(name)
        .enable_all();
    builder
}

/// Lowers the priority of the calling thread. On other systems than Linux the value would apply to the whole program.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Without it requests have the priority of everything else, so an error is no reason to stop.
        let _ = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICE));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_requests_have_a_lower_priority() {
        let own = getpriority_process(None).unwrap();
        let runtimes = Runtimes::start(&Settings::default()).unwrap();
        let nice = |runtime: &Handle| {
            let task = runtime.spawn(async { getpriority_process(None).unwrap() });
            runtime.block_on(task).unwrap()
        };
        assert_eq!(nice(runtimes.requests().handle()), (own + NICE).min(19));
        assert_eq!(nice(runtimes.connections()), own);
        assert_eq!(getpriority_process(None).unwrap(), own);
        runtimes.abandon();
    }
}
