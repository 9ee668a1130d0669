//! A writer shard: one thread that owns some of the connections and does all their writing.
//!
//! It walks the log of publications with its own cursor, takes all there is, finds who is concerned and gives each
//! socket its frames in one vectored write. Commands of the connections' tasks are carried out between batches, so a
//! subscription holds from an exact number on. There is no timer: a shard that is behind coalesces by itself, an idle
//! one writes at once.

pub(crate) mod command;
pub(crate) mod mailbox;
mod outbox;
mod registry;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use tokio::net::TcpStream;

use self::command::{Command, ConnectionId, Format, Opening};
use self::mailbox::Mailbox;
use self::outbox::{Outbox, Sent};
use self::registry::{ConnectionIndex, Position, Registry, TopicIndex};
use crate::connection::link::Link;
use crate::directory::RecentTopics;
use crate::disconnect::Disconnect;
use crate::log::Cursor;
use crate::protocol::{Fault, FaultCode, Limits, Reply, RequestId};
use crate::publication::{Publication, now};
use crate::server::Shared;
use crate::settings::size;
use crate::subscription::Subscription;

/// Publications of one batch; more only delays commands.
const BATCH_PUBLICATIONS: usize = 1024;
/// Bytes of one batch, likewise.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The state of a shard's thread.
pub(crate) struct Shard {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    cursor: Cursor,
    /// The last publication that this shard has dealt with.
    seq: u64,
    clients: Slab<Client>,
    by_id: HashMap<ConnectionId, ConnectionIndex, crate::topic::PrecomputedHash>,
    registry: Registry,
    /// Only one shard keeps the table of recent topics.
    recent: Option<RecentTopics>,
    batch: Vec<Arc<Publication>>,
    /// Connections that the batch concerns.
    concerned: Vec<ConnectionIndex>,
    /// The publications of a connection with several topics in the batch.
    merged: Vec<Position>,
    /// Connections whose socket broke during a batch.
    broken: Vec<ConnectionIndex>,
    /// Connections are being closed, also those that come late.
    closing: Option<Disconnect>,
    stopping: bool,
}

/// One connection.
struct Client {
    link: Arc<Link>,
    format: Format,
    subscriptions: Vec<TopicIndex>,
    outbox: Outbox,
    /// Which of its topics the batch concerns.
    active: Vec<TopicIndex>,
    /// No publications any more: the connection is being closed.
    muted: bool,
    /// The writing side ends once nothing waits.
    finishing: bool,
}

impl Shard {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        cursor: Cursor,
        keeps_topics: bool,
    ) -> Self {
        let known_topics = size(shared.settings().max_known_topics);
        Self {
            shared,
            mailbox,
            cursor,
            seq: 0,
            clients: Slab::new(),
            by_id: HashMap::default(),
            registry: Registry::new(),
            recent: keeps_topics.then(|| RecentTopics::new(known_topics)),
            batch: Vec::new(),
            concerned: Vec::new(),
            merged: Vec::new(),
            broken: Vec::new(),
            closing: None,
            stopping: false,
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        self.mailbox.attach();
        let mut commands = Vec::new();
        while !self.stopping {
            self.mailbox.take(&mut commands);
            for command in commands.drain(..) {
                self.carry_out(command);
            }
            if !self.deliver_batch() {
                self.mailbox.sleep_unless(|| self.cursor.has_next());
            }
        }
    }

    // Publications.

    /// Sends the next publications; false when there were none.
    fn deliver_batch(&mut self) -> bool {
        let mut bytes = 0;
        while self.batch.len() < BATCH_PUBLICATIONS && bytes < BATCH_BYTES {
            let Some(publication) = self.cursor.next() else {
                break;
            };
            bytes += publication.json_frame().len();
            self.batch.push(publication);
        }
        let Some(last) = self.batch.last() else {
            return false;
        };
        self.seq = last.seq();
        self.match_batch();
        self.write_batch();
        self.registry.end_batch();
        self.batch.clear();
        self.cursor.finish();
        while let Some(index) = self.broken.pop() {
            self.remove(index);
        }
        true
    }

    /// Finds the connections that the batch concerns, and for each the topics.
    fn match_batch(&mut self) {
        for (position, publication) in self.batch.iter().enumerate() {
            self.registry.list(position as Position, publication);
            if let Some(recent) = &mut self.recent {
                for topic in publication.topics() {
                    recent.published(topic, &self.shared.directory);
                }
            }
        }
        for topic in self.registry.active() {
            for index in self.registry.subscribers(*topic) {
                let client = &mut self.clients[*index as usize];
                if client.active.is_empty() {
                    self.concerned.push(*index);
                }
                client.active.push(*topic);
            }
        }
    }

    fn write_batch(&mut self) {
        let limit = size(self.shared.settings().pending_bytes);
        let mut sent = Sent::default();
        let mut concerned = std::mem::take(&mut self.concerned);
        for index in concerned.drain(..) {
            let client = &mut self.clients[index as usize];
            let positions = match client.active.as_slice() {
                [topic] => self.registry.positions(*topic),
                topics => {
                    self.merged.clear();
                    for topic in topics {
                        self.merged
                            .extend_from_slice(self.registry.positions(*topic));
                    }
                    self.merged.sort_unstable();
                    self.merged.dedup();
                    &self.merged
                }
            };
            let result = client.deliver(&self.batch, positions, limit, &self.shared);
            client.active.clear();
            match result {
                Ok(amount) => sent.add(amount),
                Err(_) => self.broken.push(index),
            }
        }
        self.concerned = concerned;
        self.count(sent);
    }

    fn count(&self, sent: Sent) {
        let counters = &self.shared.counters;
        counters.deliveries.add(sent.publications);
        counters.bytes_sent.add(sent.bytes);
        counters.writes.add(sent.writes);
    }

    // Commands.

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(*opening),
            Command::Subscribe {
                connection,
                id,
                subscriptions,
            } => self.with(connection, |shard, index| {
                shard.subscribe(index, &id, subscriptions)
            }),
            Command::Unsubscribe {
                connection,
                id,
                subscriptions,
            } => self.with(connection, |shard, index| {
                shard.unsubscribe(index, &id, &subscriptions)
            }),
            Command::Pong { connection, id } => self.with(connection, |shard, index| {
                shard.reply(
                    index,
                    &Reply::Pong {
                        id: &id,
                        timestamp: now(),
                        seq: shard.seq,
                    },
                );
            }),
            Command::Fault { connection, fault } => {
                self.with(connection, |shard, index| shard.fault(index, &fault))
            }
            Command::Control { connection, bytes } => {
                self.with(connection, |shard, index| shard.send_control(index, bytes))
            }
            Command::Writable { connection } => self.with(connection, Self::flush),
            Command::Finish { connection } => self.with(connection, |shard, index| {
                let client = &mut shard.clients[index as usize];
                client.muted = true;
                client.finishing = true;
                shard.flush(index);
            }),
            Command::Remove { connection } => self.with(connection, Self::remove),
            Command::CloseAll { reason } => {
                self.closing = Some(reason);
                self.clients
                    .iter()
                    .for_each(|(_, client)| client.link.close(reason));
            }
            Command::Reconfigure => self.reconfigure(),
            Command::Stop => self.stopping = true,
        }
    }

    fn with(&mut self, connection: ConnectionId, act: impl FnOnce(&mut Self, ConnectionIndex)) {
        if let Some(index) = self.by_id.get(&connection).copied() {
            act(self, index);
        }
    }

    fn open(&mut self, opening: Opening) {
        let id = opening.link.id;
        if let Some(reason) = self.closing {
            opening.link.close(reason);
        }
        let client = Client {
            link: opening.link,
            format: opening.format,
            subscriptions: Vec::new(),
            outbox: Outbox::new(opening.format),
            active: Vec::new(),
            muted: false,
            finishing: false,
        };
        let index = self.clients.insert(client) as ConnectionIndex;
        self.by_id.insert(id, index);
        self.add_subscriptions(index, opening.subscriptions);
        let names = self.names(index);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let shared = self.shared.clone();
        let limits = Limits::of(&shared.settings());
        self.reply(
            index,
            &Reply::established(
                &names,
                &shared.epoch,
                self.seq,
                limits,
                &opening.ignored,
                now(),
            ),
        );
    }

    /// Adds what is new and says what that was.
    fn add_subscriptions(
        &mut self,
        index: ConnectionIndex,
        subscriptions: Vec<Subscription>,
    ) -> Vec<String> {
        let mut added = Vec::new();
        for subscription in subscriptions {
            let name = subscription.name().to_owned();
            let topic = self.registry.find(&subscription);
            let client = &mut self.clients[index as usize];
            if topic.is_none_or(|topic| !client.subscriptions.contains(&topic)) {
                let topic = self
                    .registry
                    .subscribe(subscription, index, &self.shared.directory);
                client.subscriptions.push(topic);
                added.push(name);
            }
        }
        added
    }

    fn subscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        mut subscriptions: Vec<Subscription>,
    ) {
        let settings = self.shared.settings();
        let limit = size(settings.max_topics_per_connection);
        let client = &self.clients[index as usize];
        let mut distinct = std::collections::HashSet::new();
        subscriptions.retain(|subscription| {
            let known = self
                .registry
                .find(subscription)
                .is_some_and(|topic| client.subscriptions.contains(&topic));
            !known && distinct.insert(subscription.clone())
        });
        if client.subscriptions.len() + subscriptions.len() > limit {
            let message = format!("a connection has at most {limit} topics");
            return self.fault(
                index,
                &Fault {
                    id: id.clone(),
                    code: FaultCode::TooManyTopics,
                    message,
                },
            );
        }
        let added = self.add_subscriptions(index, subscriptions);
        let added: Vec<_> = added.iter().map(String::as_str).collect();
        let names = self.names(index);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let message = format!("subscribed to {} new topics", added.len());
        self.reply(
            index,
            &Reply::SubscriptionResponse {
                id,
                message,
                new_topics: &added,
                subscribed_topics: &names,
                seq: self.seq,
                timestamp: now(),
            },
        );
    }

    fn unsubscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        subscriptions: &[Subscription],
    ) {
        let mut removed = Vec::new();
        for subscription in subscriptions {
            let client = &mut self.clients[index as usize];
            let place = self
                .registry
                .find(subscription)
                .and_then(|topic| client.subscriptions.iter().position(|held| *held == topic));
            if let Some(place) = place {
                let topic = client.subscriptions.remove(place);
                self.registry
                    .unsubscribe(topic, index, &self.shared.directory);
                removed.push(subscription.name());
            }
        }
        let names = self.names(index);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let message = format!("unsubscribed from {} topics", removed.len());
        self.reply(
            index,
            &Reply::UnsubscriptionResponse {
                id,
                message,
                removed_topics: &removed,
                subscribed_topics: &names,
                seq: self.seq,
                timestamp: now(),
            },
        );
    }

    fn names(&self, index: ConnectionIndex) -> Vec<String> {
        self.clients[index as usize]
            .subscriptions
            .iter()
            .map(|topic| self.registry.name(*topic).to_owned())
            .collect()
    }

    fn fault(&mut self, index: ConnectionIndex, fault: &Fault) {
        self.shared.counters.error_frames.add(1);
        self.reply(
            index,
            &Reply::Error {
                id: &fault.id,
                code: fault.code,
                message: &fault.message,
                timestamp: now(),
            },
        );
    }

    /// Sends a frame of the control protocol, which a raw connection does not have.
    fn reply(&mut self, index: ConnectionIndex, reply: &Reply<'_>) {
        let client = &self.clients[index as usize];
        if client.format == Format::Json {
            let frame = reply.encode();
            client.link.control_made(frame.len());
            self.send_control(index, frame);
        }
    }

    fn send_control(&mut self, index: ConnectionIndex, frames: Bytes) {
        let client = &mut self.clients[index as usize];
        client.outbox.push_control(frames);
        if !client.outbox.is_blocked() {
            self.flush(index);
        }
    }

    fn flush(&mut self, index: ConnectionIndex) {
        match self.clients[index as usize].flush() {
            Ok(sent) => self.count(sent),
            Err(_) => self.remove(index),
        }
    }

    fn remove(&mut self, index: ConnectionIndex) {
        let Some(client) = self.clients.try_remove(index as usize) else {
            return;
        };
        self.by_id.remove(&client.link.id);
        for topic in &client.subscriptions {
            self.registry
                .unsubscribe(*topic, index, &self.shared.directory);
        }
        self.shared
            .counters
            .dropped_disconnected
            .add(client.outbox.publications());
        client.link.end();
    }

    /// Takes what has changed of the settings that are held here.
    fn reconfigure(&mut self) {
        let known_topics = size(self.shared.settings().max_known_topics);
        if let Some(recent) = &mut self.recent {
            recent.resize(known_topics, &self.shared.directory);
        }
    }
}

impl Client {
    fn deliver(
        &mut self,
        batch: &[Arc<Publication>],
        positions: &[Position],
        limit: usize,
        shared: &Shared,
    ) -> io::Result<Sent> {
        if self.muted {
            shared
                .counters
                .dropped_disconnected
                .add(positions.len() as u64);
            return Ok(Sent::default());
        }
        let was_blocked = self.outbox.is_blocked();
        let mut sent = Sent::default();
        if self.outbox.is_empty() {
            sent.add(
                self.outbox
                    .send(batch, positions, write_to(&self.link.stream))?,
            );
        } else {
            for position in positions {
                self.outbox.push(batch[*position as usize].clone());
            }
        }
        if self.outbox.is_blocked() {
            match self.format {
                Format::Json => shared
                    .counters
                    .dropped_slow
                    .add(self.outbox.drop_oldest(limit)),
                // A raw connection has no gap frames, so a hole would be silent.
                Format::Raw if self.outbox.is_over(limit) => {
                    shared.counters.dropped_slow.add(self.outbox.drop_all());
                    self.muted = true;
                    self.link.close(Disconnect::Slow);
                }
                Format::Raw => {}
            }
            if !was_blocked {
                self.link.block();
            }
        }
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<Sent> {
        let sent = self.outbox.flush(write_to(&self.link.stream))?;
        self.link.control_sent(sent.control_bytes);
        if self.outbox.is_blocked() {
            self.link.block();
        } else if self.finishing && self.outbox.is_empty() {
            // The client reads to the end of the stream; reading goes on until it closes its side.
            let _ = socket2::SockRef::from(&self.link.stream).shutdown(Shutdown::Write);
            self.link.end();
        }
        Ok(sent)
    }
}

fn write_to(stream: &TcpStream) -> impl FnMut(&[io::IoSlice<'_>]) -> io::Result<usize> + '_ {
    |slices| stream.try_write_vectored(slices)
}
