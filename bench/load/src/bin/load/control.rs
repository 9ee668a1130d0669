//! Commands on stdin, one JSON object a line.

use mio::Waker;
use serde::Deserialize;
use std::{
    io::{self, BufRead},
    sync::mpsc,
    time::Duration,
};

/// What the orchestrator may say.
#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Forget the counts and count from now on.
    Expect(Expect),
    /// Open and close connections beside the others.
    Churn(Churn),
    /// Give the result now.
    Stop,
    /// End.
    Quit,
    /// Not a command.
    #[serde(skip)]
    Unknown(String),
}

/// What must come until the result is whole.
#[derive(Deserialize)]
pub(crate) struct Expect {
    /// Frames for each reading connection; 0: count until told to stop.
    pub(crate) per_conn: u64,
    /// The first stream (publisher) that counts.
    #[serde(default)]
    pub(crate) stream: u16,
    /// How many streams count.
    #[serde(default = "one")]
    pub(crate) streams: u16,
    /// Give up when nothing came for this long.
    #[serde(default = "three_seconds")]
    idle_ms: u64,
    /// Give up after this.
    #[serde(default = "two_minutes")]
    max_ms: u64,
    /// After the last frame expected, how long to look for more than expected.
    #[serde(default = "twenty")]
    settle_ms: u64,
}

impl Expect {
    /// That many frames of stream 0 per connection.
    pub(crate) fn count(per_conn: u64) -> Self {
        Self {
            per_conn,
            stream: 0,
            streams: 1,
            idle_ms: 60_000,
            max_ms: 600_000,
            settle_ms: 20,
        }
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_millis(self.max_ms)
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }
}

/// A storm of short connections.
#[derive(Deserialize)]
pub(crate) struct Churn {
    /// New connections per second.
    pub(crate) rate: f64,
    /// How long each lives.
    pub(crate) live_ms: u64,
    /// How long the storm lasts.
    pub(crate) seconds: f64,
}

fn one() -> u16 {
    1
}

fn twenty() -> u64 {
    20
}

fn three_seconds() -> u64 {
    3000
}

fn two_minutes() -> u64 {
    120_000
}

/// Reads stdin on a thread of its own, since reading a pipe, a file and a terminal without blocking are three different
/// things. The end of stdin is `Quit`.
pub(crate) fn listen(waker: Waker) -> io::Result<mpsc::Receiver<Command>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let lines = io::stdin().lock().lines().map_while(Result::ok);
            let commands = lines.map(|line| {
                serde_json::from_str(&line)
                    .unwrap_or_else(|error| Command::Unknown(error.to_string()))
            });
            for command in commands.chain(std::iter::once(Command::Quit)) {
                if sender.send(command).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}
