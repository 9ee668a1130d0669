//! The engine of a stream that several nodes share, kept by NATS JetStream.
//!
//! A [`Nats`] runs on the server's thread for it. It goes from session to session; a session is one connection with a
//! runtime of its own. When the connection fails in any way, everything of it ends with the runtime, so that nothing
//! that was given to it is sent later, behind the back of the next session. The server keeps what the stream does not
//! have yet, and the next session sends it again, in order and under the same names, after it has read what is there.
//!
//! A session ([`session`]): connect ([`options`]) → the stream and its epoch ([`place`], [`generation`]) → receive what
//! was missed ([`receiving`]) → receive, send ([`sending`]) and read for clients ([`reading`]) while the stream answers
//! ([`watching`]).
#![forbid(unsafe_code)]

mod error;
mod generation;
mod options;
mod place;
mod reading;
mod receiving;
mod sending;
mod session;
mod watching;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dev_websocket_core::{Stream, StreamEngine};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use self::error::Ended;
use self::session::Session;

/// The time before the next session; it doubles up to the second one.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The time in which a server that stops sends what waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The engine of one server.
#[derive(Debug)]
pub struct Nats {
    /// The last time that the stream was known to be there.
    present_at: (Instant, SystemTime),
    /// The server time of the last record that was received, which tells it from another one with its number.
    last_stored: Option<(u64, i128)>,
    pause: Duration,
}

impl Nats {
    /// Makes an engine, which finds its servers in the settings when it runs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            present_at: (Instant::now(), SystemTime::now()),
            last_stored: None,
            pause: PAUSES[0],
        }
    }

    pub(crate) fn note_present(&mut self) {
        self.present_at = (Instant::now(), SystemTime::now());
        self.pause = PAUSES[0];
    }

    /// Records that a session has ended, and tells the server if the stream is away for too long.
    fn note_end(&mut self, stream: &Stream, ended: &Ended) {
        let is_late = self.present_at.0.elapsed() >= stream.settings().engine_timeout;
        if is_late || !ended.may_pass() {
            let since = self.present_at.1.duration_since(UNIX_EPOCH);
            let since = since.map_or(0, |since| since.as_millis());
            stream.set_away(u64::try_from(since).unwrap_or(u64::MAX), &ended.to_string());
        }
        self.pause = (self.pause * 2).min(PAUSES[1]);
    }

    /// Runs one session to its end, or until the server stops.
    async fn session(&mut self, stream: &Stream) -> Result<(), Ended> {
        tokio::select! {
            ended = Session::new(self, stream).run() => Err(ended),
            () = last_words(stream) => Ok(()),
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamEngine for Nats {
    fn can_read(&self) -> bool {
        true
    }

    fn run(&mut self, stream: &Stream) {
        while !stream.is_stopping() {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let ended = Ended::Failed(format!("the system gives no runtime: {error}"));
                    return self.note_end(stream, &ended);
                }
            };
            runtime.block_on(async {
                if let Err(ended) = self.session(stream).await {
                    self.note_end(stream, &ended);
                    // The server may stop meanwhile.
                    let _ = timeout(self.pause, stream.stopping()).await;
                }
            });
            // A look-up of a name may hang; nobody waits for it.
            runtime.shutdown_background();
        }
    }
}

/// Gives a session the time to send what waits, once the server stops.
async fn last_words(stream: &Stream) {
    stream.stopping().await;
    tokio::select! {
        () = stream.settled() => {}
        () = sleep(LAST_WORDS) => {}
    }
}
