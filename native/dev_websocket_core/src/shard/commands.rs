//! Execution of the commands that the tasks of connections send to their shard.

use std::io;

use bytes::Bytes;

use super::client::Client;
use super::command::{Command, Opening, StreamNews};
use super::ids::{ConnectionIndex, Seq};
use super::outbox::SendCounts;
use super::replay::Replay;
use super::{Shard, Turn};
use crate::log::publication::now;
use crate::settings::size;
use crate::shard::ids::ConnectionId;
use crate::telemetry::panics::panic_point;
use crate::wire::control::{Limits, Reply, RequestError};
use crate::wire::cursor::{From, Since};
use crate::wire::format::Format;
use crate::wire::gzip;
use crate::wire::sse;

impl Shard {
    /// Carries out a command. A panic counts against the client that the command concerns.
    pub(super) fn carry_out(&mut self, command: Command) {
        let index = match &command {
            Command::Open(opening) => Some(self.enter(opening)),
            _ => command.connection().and_then(|id| self.clients.find(id)),
        };
        let turn = self.turn;
        self.turn = index.map_or(Turn::Shard, Turn::Client);
        panic_point!("shard::command");
        self.act(command);
        self.turn = turn;
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(*opening),
            Command::Request {
                connection,
                bytes,
                request,
            } => self.request(connection, bytes, request),
            Command::Control { connection, bytes } => {
                self.with(connection, |shard, index| shard.send_control(index, bytes));
            }
            Command::Direct {
                connection,
                after,
                frame,
            } => {
                self.catch_up(after);
                self.with(connection, |shard, index| {
                    shard.on_client(index, |client, sent| client.send_direct(frame, sent));
                });
            }
            Command::Slots {
                connection,
                replay,
                step,
            } => self.with(connection, |shard, index| {
                shard.step_slots(index, replay, step);
            }),
            Command::Chunk {
                connection,
                read,
                chunk,
            } => self.with(connection, |shard, index| {
                shard.take_chunk(index, read, chunk);
            }),
            Command::Topics { connection, answer } => self.with(connection, |shard, index| {
                answer.give(shard.topics(index));
            }),
            Command::TokenExpires { connection, at } => self.with(connection, |shard, index| {
                shard.reply(index, &Reply::TokenExpires { at });
            }),
            Command::Writable { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::flush);
                shard.resume_replay(index);
                shard.resume_slots(index);
            }),
            Command::Mute { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, |client, _| {
                    client.mute();
                    Ok(())
                });
            }),
            Command::Finish { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::finish);
            }),
            Command::Remove { connection } => self.with(connection, |shard, index| {
                shard.clients.mark(index);
            }),
            Command::CloseAll { reason } => {
                self.closing = Some(reason);
                self.clients
                    .iter()
                    .for_each(|client| client.state.close(reason));
            }
            Command::Stream { after, news } => self.tell_all(after, news),
            Command::Reconfigure => self.reconfigure(),
            Command::Stop => self.is_stopping = true,
        }
    }

    /// Acts on a connection at its position in the order of publications: earlier publications are sent first.
    pub(super) fn with(
        &mut self,
        connection: ConnectionId,
        act: impl FnOnce(&mut Self, ConnectionIndex),
    ) {
        let Some(index) = self.clients.find(connection) else {
            return;
        };
        self.serve(index);
        // Sending may have shown that the socket is broken.
        if let Some(client) = self.clients.get_mut(index) {
            // A new subscription must not match publications from before it.
            client.served = self.seq;
            act(self, index);
        }
    }

    /// Adds a connection and queues the response to its HTTP request as its first bytes.
    fn enter(&mut self, opening: &Opening) -> ConnectionIndex {
        let state = opening.state.clone();
        state.control_made(opening.head.len());
        let mut client = Client::new(state, opening.format, opening.slow, self.seq);
        client.push_control(opening.head.clone());
        self.clients.insert(client)
    }

    fn open(&mut self, opening: Opening) {
        let Some(index) = self.clients.find(opening.state.id) else {
            return;
        };
        if let Some(reason) = self.closing {
            opening.state.close(reason);
        }
        // Publications from before the request are not for this connection. The newest ones are those of the log, which
        // this shard may not have taken yet.
        self.catch_up(opening.published);
        if let Some(client) = self.clients.get_mut(index) {
            client.served = self.seq;
        }
        self.add_subscriptions(index, opening.subscriptions);
        if opening.format == Format::Raw {
            // No frame follows that would flush the response.
            self.on_client(index, Client::flush);
        }
        let shown = self.context.eras.at(self.seq);
        let reply = Reply::established(
            self.subscribed(index),
            &shown.epoch,
            shown.number,
            Limits::of(&opening.settings),
            &opening.ignored,
            opening.state.peer.session.load().ends_at(),
            now(),
        );
        let has_slots = opening.slots.is_some();
        if let Some(slots) = opening.slots {
            self.hold_slots(index, slots, None);
        }
        // A connection with a replay has not received everything yet, so its reply has no cursor.
        let cursor = reply.is_current() && opening.from.is_none();
        self.reply_at(index, &reply, cursor);
        self.tell_if_stale(index);
        if let Some(from) = opening.from {
            let (present, choice) = (self.seq, self.choice(index));
            match from {
                From::Since(since) => self.begin_after(index, &since, opening.read, |seq| {
                    let from = From::Since(Since { epoch: None, seq });
                    Replay::new(from, present, choice)
                }),
                From::Last(_) => {
                    self.begin_replay(index, Replay::new(from, present, choice), None);
                }
            }
        } else if has_slots {
            self.begin_slots(index);
        }
    }

    pub(super) fn fault(&mut self, index: ConnectionIndex, fault: &RequestError) {
        self.context.counters.error_frames.add(1);
        let RequestError { id, code, message } = fault;
        self.reply(
            index,
            &Reply::Error {
                id,
                code: *code,
                message,
                timestamp: now(),
            },
        );
    }

    /// Sends a frame of the control protocol, which raw connections do not have. A muted connection gets no replies,
    /// because a reply promises that everything before it has arrived.
    pub(super) fn reply(&mut self, index: ConnectionIndex, reply: &Reply<'_>) {
        self.reply_at(index, reply, reply.is_current());
    }

    fn reply_at(&mut self, index: ConnectionIndex, reply: &Reply<'_>, has_cursor: bool) {
        let Some(client) = self.clients.get(index) else {
            return;
        };
        if client.is_muted() {
            return;
        }
        let frame = reply.encode();
        let frame = match (client.format, has_cursor) {
            (Format::Json | Format::Edges, _) => frame,
            (Format::Raw, _) => return,
            (Format::Events, false) => sse::of(&frame, sse::END),
            (Format::Events, true) => {
                let shown = self.context.eras.at(self.seq);
                sse::of(&frame, client.event_end(&shown).as_bytes())
            }
        };
        let is_gzip = client.is_compressed && client.format == Format::Events;
        let frame = gzip::of(frame, is_gzip);
        client.state.control_made(frame.len());
        self.send_control(index, frame);
    }

    fn send_control(&mut self, index: ConnectionIndex, frames: Bytes) {
        self.on_client(index, |client, sent| client.send_control(frames, sent));
    }

    pub(super) fn on_client(
        &mut self,
        index: ConnectionIndex,
        act: impl FnOnce(&mut Client, &mut SendCounts) -> io::Result<()>,
    ) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if act(client, &mut self.sent).is_err() {
            self.clients.mark(index);
        }
    }

    /// Tells a client whether the stream is away. A `live` frame ends it, so the frame comes behind that one.
    pub(super) fn tell_if_stale(&mut self, index: ConnectionIndex) {
        let stream = self.context.stream.as_ref();
        if let Some(since) = stream.and_then(|stream| stream.away_since()) {
            self.reply(index, &Reply::Stale { since });
        }
    }

    /// Tells all clients of the stream. A client in a replay hears by itself when it is live.
    fn tell_all(&mut self, after: Seq, news: StreamNews) {
        self.catch_up(after);
        for index in self.clients.indices() {
            let Some(connection) = self.clients.get(index).map(|client| client.state.id) else {
                continue;
            };
            self.with(connection, |shard, index| match news {
                StreamNews::Away { since } => shard.reply(index, &Reply::Stale { since }),
                StreamNews::Present => {
                    let client = shard.clients.get(index);
                    if client.is_some_and(|client| client.replay.is_none()) {
                        let live = Reply::Live {
                            id: &None,
                            process: None,
                            slot: None,
                            seq: shard.context.eras.number(shard.seq),
                        };
                        shard.reply(index, &live);
                    }
                }
            });
        }
    }

    /// Applies new settings at once.
    fn reconfigure(&mut self) {
        let known_topics = size(self.context.settings().max_known_topics);
        if let Some(recent) = &mut self.recent {
            recent.resize(known_topics, &self.context.topics);
            self.context.buffers.put(self.context.log.trim());
        }
    }
}
