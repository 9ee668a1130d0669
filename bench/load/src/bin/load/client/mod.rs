//! The event loop.

mod phases;
mod sockets;
mod storms;

use crate::args::Args;
use crate::churn::Storm;
use crate::conn::{Conn, Kind};
use crate::control::{self, Command};
use crate::phase::Phase;
use mio::{Events, Interest, Poll, Token, Waker};
use serde_json::json;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wsbench::feed::print_line;

const WAKE: Token = Token(usize::MAX);
const BUFFER: usize = 256 * 1024;
/// Less than [`BUFFER`] by more than a record of TLS.
const SEALED: usize = 192 * 1024;

/// Connects, counts and answers commands until told to end or the deadline is over.
pub(crate) fn run(args: Args) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let poll = Poll::new().map_err(text)?;
    let waker = Waker::new(poll.registry(), WAKE).map_err(text)?;
    // Run by hand (`--expect`), stdin is nobody's and its end means nothing.
    let commands = if args.expect.is_some() {
        mpsc::channel().1
    } else {
        control::listen(waker).map_err(text)?
    };
    Client::new(args, poll, commands).run()
}

struct Client {
    args: Args,
    /// Run by hand: ends with its first result.
    alone: bool,
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    /// Readers first, then those that never read, then those that come and go.
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Connections that had more to read when their turn was over.
    again: Vec<usize>,
    to_open: usize,
    inflight: usize,
    live: usize,
    failed: usize,
    announced: bool,
    phase: Option<Phase>,
    storm: Storm,
    churned: usize,
    lost: u64,
    buffer: Vec<u8>,
    sealed: Vec<u8>,
    hint: usize,
    begun: Instant,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Client {
    fn new(args: Args, poll: Poll, commands: mpsc::Receiver<Command>) -> Self {
        let fixed = args.conns + args.slow;
        Self {
            alone: args.expect.is_some(),
            poll,
            commands,
            conns: (0..fixed).map(|_| None).collect(),
            free: Vec::new(),
            again: Vec::new(),
            to_open: 0,
            inflight: 0,
            live: 0,
            failed: 0,
            announced: false,
            phase: None,
            storm: Storm::default(),
            churned: 0,
            lost: 0,
            buffer: vec![0; BUFFER],
            sealed: vec![0; SEALED],
            hint: 0,
            begun: Instant::now(),
            args,
        }
    }

    fn run(mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.open_more()?;
            if self.follow_commands()? == Flow::End || self.end_phase()? == Flow::End {
                return Ok(());
            }
            let now = Instant::now();
            self.churn(now);
            if now >= self.begun + self.args.deadline {
                return Err("deadline is over".into());
            }
            let wait = if self.again.is_empty() {
                self.sleep_until().saturating_duration_since(now)
            } else {
                Duration::ZERO
            };
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error.to_string());
            }
            for event in &events {
                let slot = event.token().0;
                if event.is_writable() && self.conns.get(slot).is_some_and(Option::is_some) {
                    self.writable(slot);
                }
                if event.is_readable() || event.is_error() || event.is_read_closed() {
                    self.readable(slot, event.is_read_closed());
                }
            }
            for slot in std::mem::take(&mut self.again) {
                self.readable(slot, false);
            }
        }
    }

    fn sleep_until(&self) -> Instant {
        // Nothing is polled for; the second bounds what a lost wake-up could cost.
        let second = Instant::now() + Duration::from_secs(1);
        let phase = self.phase.as_ref().map(Phase::ends);
        [phase, self.storm.wakes(), Some(second)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(second)
    }

    fn open_more(&mut self) -> Result<(), String> {
        let fixed = self.args.conns + self.args.slow;
        while self.to_open < fixed && self.inflight < self.args.inflight {
            let slot = self.to_open;
            let kind = if slot < self.args.conns {
                Kind::Reader
            } else {
                Kind::Slow
            };
            self.open(slot, kind, slot)
                .map_err(|error| format!("connection {slot}: {error}"))?;
            self.to_open += 1;
            self.inflight += 1;
        }
        if !self.announced && self.live + self.failed >= fixed {
            self.announce()?;
        } else if !self.announced && self.begun.elapsed() > self.args.connect {
            return Err(format!(
                "{} of {fixed} connections after {:?}",
                self.live, self.args.connect
            ));
        }
        Ok(())
    }

    fn announce(&mut self) -> Result<(), String> {
        self.announced = true;
        let (conns, failed) = (self.live, self.failed);
        let millis = self.begun.elapsed().as_millis() as u64;
        print_line(&json!({"event": "connected", "conns": conns, "failed": failed, "ms": millis}))
            .map_err(|e| e.to_string())?;
        match self.args.expect.take() {
            Some(expect) => self.arm(expect),
            None => Ok(()),
        }
    }

    fn open(&mut self, slot: usize, kind: Kind, index: usize) -> io::Result<()> {
        let mut conn = Conn::open(&self.args, kind, index)?;
        self.poll.registry().register(
            conn.stream(),
            Token(slot),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.conns[slot] = Some(conn);
        Ok(())
    }
}
