//! What to do when a socket can be read or written.

use super::Client;
use crate::conn::{Conn, Kind, State};
use crate::parser::answer_ping;
use std::io;
use std::time::Instant;
use wsbench::clock::now_ns;
use wsbench::reader::Event;

/// Reads of one socket before the others have their turn.
const READS_IN_A_ROW: usize = 16;
/// After so many lost connections the rest is only counted.
const LOSSES_TOLD: u64 = 5;

impl Client {
    pub(super) fn writable(&mut self, slot: usize) {
        let sent = self.conns[slot].as_mut().map_or(Ok(()), Conn::writable);
        if let Err(error) = sent {
            self.lose(slot, &error);
        }
    }

    pub(super) fn readable(&mut self, slot: usize, ended: bool) {
        for _ in 0..READS_IN_A_ROW {
            let Some(conn) = self.conns.get_mut(slot).and_then(Option::as_mut) else {
                return;
            };
            if conn.kind == Kind::Slow && conn.state == State::Live {
                return;
            }
            let received = match conn.read(&mut self.buffer, &mut self.sealed) {
                Ok(None) => return,
                Ok(Some(received)) => received,
                Err(error) => return self.lose(slot, &error),
            };
            let read = received.bytes;
            let taken = if matches!(conn.state, State::Connecting | State::Handshake) {
                match conn.handshake(&self.buffer[..read]) {
                    Ok(None) => Ok(()),
                    Ok(Some(rest)) => self.upgraded(slot, &rest),
                    Err(error) => Err(error),
                }
            } else {
                let buffer = std::mem::take(&mut self.buffer);
                let taken = self.frames(slot, &buffer[..read]);
                self.buffer = buffer;
                taken
            };
            if let Err(error) = taken {
                return self.lose(slot, &error);
            }
            // Less than there was room for: the socket is empty, and epoll tells of what comes next. Only the end of
            // the connection may already have been told of.
            if !received.is_full && !ended {
                return;
            }
        }
        self.again.push(slot);
    }

    fn upgraded(&mut self, slot: usize, rest: &[u8]) -> io::Result<()> {
        if !self.args.welcome {
            self.goes_live(slot);
        }
        self.frames(slot, rest)
    }

    /// Takes bytes of frames: the hot path.
    fn frames(&mut self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(conn) = self.conns[slot].as_mut() else {
            return Ok(());
        };
        let (kind, index, now, mut closed) = (conn.kind, conn.index, now_ns(), None);
        let (parser, out, track) = conn.parts();
        let is_nats = parser.is_nats();
        let (mut other, mut gaps, mut pings) = (0, 0, 0);
        let mut phase = self.phase.as_mut();
        let valid = parser.feed(bytes, &mut self.hint, |event| match event {
            Event::Message(marker) => match (&mut phase, kind) {
                (Some(phase), Kind::Reader) => phase.message(index, marker, now),
                (Some(phase), Kind::Churn) => phase.churn_message(track, marker),
                _ => {}
            },
            Event::Other(text) => {
                other += 1;
                gaps += u64::from(memchr::memmem::find(text, br#""type":"gap""#).is_some());
            }
            Event::Ping(payload) => {
                pings += 1;
                answer_ping(is_nats, out, payload);
            }
            Event::Pong => {}
            Event::Close(code) => closed = Some(code),
        });
        if let Some(phase) = phase {
            phase.other += other;
            phase.gaps += gaps;
            phase.pings += pings;
            if kind == Kind::Reader {
                phase.note_read(bytes.len(), Instant::now());
            }
        }
        valid.map_err(io::Error::other)?;
        if let Some(code) = closed {
            return Err(io::Error::other(format!("closed by the server, {code}")));
        }
        let welcome = other > 0 && conn.state == State::Welcome;
        if pings > 0 {
            conn.writable()?;
        }
        if welcome {
            self.goes_live(slot);
        }
        Ok(())
    }

    fn goes_live(&mut self, slot: usize) {
        let Some(conn) = self.conns[slot].as_mut() else {
            return;
        };
        conn.state = State::Live;
        match conn.kind {
            Kind::Churn => self.storm.tally.live += 1,
            kind => {
                self.live += 1;
                self.inflight -= 1;
                if kind == Kind::Slow {
                    // Never looked at again; the socket stays open and its window closes.
                    let _ = self.poll.registry().deregister(conn.stream());
                }
            }
        }
    }

    /// A connection ended that should not have, or could not be made.
    fn lose(&mut self, slot: usize, error: &io::Error) {
        let Some(conn) = self.conns[slot].take() else {
            return;
        };
        if conn.kind == Kind::Churn {
            self.count_down(&conn);
            self.storm.tally.failed += 1;
            return;
        }
        if conn.state == State::Live {
            self.live -= 1;
        } else {
            self.inflight -= 1;
            self.failed += 1;
        }
        if let Some(phase) = &mut self.phase {
            phase.closed += 1;
        }
        self.lost += 1;
        if self.lost <= LOSSES_TOLD {
            eprintln!("load: connection {slot} {}: {error}", conn.state.name());
        }
    }

    pub(super) fn count_down(&mut self, conn: &Conn) {
        self.storm.tally.lost += conn.track.missing();
    }
}
