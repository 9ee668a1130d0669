//! How a shard carries out the commands of its connections' tasks.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;

use super::client::Client;
use super::command::{Command, ConnectionId, Opening};
use super::outbox::Sent;
use super::place::{ConnectionIndex, Seq};
use super::registry::Registry;
use super::replay::{Replay, Selection};
use super::replaying::MAX_DEFERRED;
use super::{Shard, Turn};
use crate::cursor::{From, Since};
use crate::delivery::Format;
use crate::directory::Directory;
use crate::event;
use crate::fault::fault_point;
use crate::fault_code::FaultCode;
use crate::protocol::{Fault, Limits, Reply, RequestId, Subscribed};
use crate::publication::now;
use crate::settings::size;
use crate::subscription::{Quota, Subscription, TooMany};

impl Shard {
    /// Carries out a command. A panic is the fault of the client that the command concerns.
    pub(super) fn carry_out(&mut self, command: Command) {
        let index = match &command {
            Command::Open(opening) => Some(self.enter(opening)),
            _ => command.connection().and_then(|id| self.clients.find(id)),
        };
        let turn = self.turn;
        self.turn = index.map_or(Turn::Shard, Turn::Client);
        fault_point!("shard::command");
        self.act(command);
        self.turn = turn;
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(*opening),
            Command::Subscribe { connection, .. } | Command::Unsubscribe { connection, .. } => {
                self.when_live(connection, command, |shard, index, command| match command {
                    Command::Subscribe {
                        id,
                        subscriptions,
                        since,
                        ..
                    } => shard.subscribe(index, &id, subscriptions, since),
                    Command::Unsubscribe {
                        id, subscriptions, ..
                    } => shard.unsubscribe(index, &id, &subscriptions),
                    _ => {}
                });
            }
            Command::Pong { connection, id } => self.with(connection, |shard, index| {
                shard.reply(
                    index,
                    &Reply::Pong {
                        id: &id,
                        timestamp: now(),
                        seq: shard.position(index),
                    },
                );
            }),
            Command::Fault { connection, fault } => {
                self.with(connection, |shard, index| shard.fault(index, &fault));
            }
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
            Command::Topics { connection, answer } => self.with(connection, |shard, index| {
                answer.give(shard.topic_names(index));
            }),
            Command::Writable { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::flush);
                shard.resume_replay(index);
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
                    .for_each(|client| client.link.close(reason));
            }
            Command::Reconfigure => self.reconfigure(),
            Command::Stop => self.is_stopping = true,
        }
    }

    /// Acts on a connection at the place that it has in the order of publications: those before are sent first.
    fn with(&mut self, connection: ConnectionId, act: impl FnOnce(&mut Self, ConnectionIndex)) {
        let Some(index) = self.clients.find(connection) else {
            return;
        };
        self.serve(index);
        // Its socket may have turned out to be broken.
        if let Some(client) = self.clients.get_mut(index) {
            // What was published to a topic before is not for those who subscribe now.
            client.served = self.seq;
            act(self, index);
        }
    }

    /// Takes a connection on, with the answer to its request as the first bytes to be sent.
    fn enter(&mut self, opening: &Opening) -> ConnectionIndex {
        let link = opening.link.clone();
        link.control_made(opening.head.len());
        let mut client = Client::new(link, opening.format, opening.slow, self.seq);
        client.push_control(opening.head.clone());
        self.clients.insert(client)
    }

    fn open(&mut self, opening: Opening) {
        let Some(index) = self.clients.find(opening.link.id) else {
            return;
        };
        if let Some(reason) = self.closing {
            opening.link.close(reason);
        }
        // What was published before its request is not for it, and the newest are those of the log: not what this shard has
        // come to.
        self.catch_up(opening.published);
        if let Some(client) = self.clients.get_mut(index) {
            client.served = self.seq;
        }
        self.add_subscriptions(index, opening.subscriptions);
        if opening.format == Format::Raw {
            // No first frame follows.
            self.on_client(index, Client::flush);
        }
        let shared = self.shared.clone();
        let reply = Reply::established(
            self.subscribed(index),
            &shared.epoch,
            self.seq,
            Limits::of(&opening.settings),
            &opening.ignored,
            now(),
        );
        // Who gets past publications has not had everything yet.
        let cursor = reply.cursor().filter(|_| opening.from.is_none());
        self.reply_at(index, &reply, cursor);
        if let Some(from) = opening.from {
            let is_other_epoch = matches!(&from, From::Since(since) if !since.is_of(&shared.epoch));
            let replay = Replay::new(from, self.seq);
            self.begin_replay(index, replay, is_other_epoch);
        }
    }

    /// Adds what is new and says what that was.
    fn add_subscriptions(
        &mut self,
        index: ConnectionIndex,
        subscriptions: Vec<Subscription>,
    ) -> Subscribed {
        let mut added = Subscribed::default();
        for subscription in subscriptions {
            if self.clients.get(index).is_none() || self.is_subscribed(index, &subscription) {
                continue;
            }
            added.add(&subscription);
            let kind = subscription.kind();
            let entry = self.on_registry(|registry, directory| {
                registry.subscribe(subscription, index, directory)
            });
            if let Some(client) = self.clients.get_mut(index) {
                self.subscriptions += 1;
                client.selection.of_kind(kind).push(entry);
            }
        }
        added
    }

    /// Changes the subscriptions of the shard. A panic in between leaves none that can be relied on.
    fn on_registry<T>(&mut self, change: impl FnOnce(&mut Registry, &Directory) -> T) -> T {
        let turn = std::mem::replace(&mut self.turn, Turn::Shard);
        let result = change(&mut self.registry, &self.shared.directory);
        self.turn = turn;
        result
    }

    fn is_subscribed(&self, index: ConnectionIndex, subscription: &Subscription) -> bool {
        let Some(client) = self.clients.get(index) else {
            return false;
        };
        self.registry
            .find(subscription)
            .is_some_and(|entry| client.selection.entries().any(|held| held == entry))
    }

    fn subscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        mut subscriptions: Vec<Subscription>,
        since: Option<Since>,
    ) {
        let shared = self.shared.clone();
        let mut distinct = HashSet::new();
        subscriptions.retain(|subscription| {
            !self.is_subscribed(index, subscription) && distinct.insert(subscription.clone())
        });
        let had = self.selection(index);
        let held = had.entries().map(|entry| self.registry.kind(entry));
        let kinds = held.chain(subscriptions.iter().map(Subscription::kind));
        if let Err(TooMany { code, message }) = Quota::of(&shared.settings()).check(kinds) {
            return self.refuse(index, id, code, message);
        }
        if let Some(since) = &since
            && let Err(error) = since.check(&shared.epoch, shared.log.last_seq())
        {
            return self.refuse(index, id, FaultCode::BadSince, error.to_string());
        }
        let added = self.add_subscriptions(index, subscriptions);
        let count = added.count();
        let reply = Reply::SubscriptionResponse {
            id,
            message: format!("subscribed to {count} new topics"),
            new_topics: added.topics,
            new_match: added.matches,
            new_template: added.templates,
            subscribed: self.subscribed(index),
            seq: self.seq,
            timestamp: now(),
        };
        self.reply(index, &reply);
        if let Some(since) = since {
            let is_other_epoch = !since.is_of(&shared.epoch);
            let replay = Replay::of_subscribe(since.seq, self.seq, had, id.clone());
            self.begin_replay(index, replay, is_other_epoch);
        }
    }

    fn unsubscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        subscriptions: &[Subscription],
    ) {
        if let Some(message) = self.contradiction(index, subscriptions) {
            return self.refuse(index, id, FaultCode::Contradictory, message);
        }
        let mut removed = Subscribed::default();
        for subscription in subscriptions {
            let Some(entry) = self.registry.find(subscription) else {
                continue;
            };
            let Some(client) = self.clients.get_mut(index) else {
                break;
            };
            let held = client.selection.of_kind(subscription.kind());
            if let Some(place) = held.iter().position(|held| *held == entry) {
                held.remove(place);
                self.subscriptions -= 1;
                self.on_registry(|registry, directory| {
                    registry.unsubscribe(entry, index, directory);
                });
                removed.add(subscription);
            }
        }
        let count = removed.count();
        let reply = Reply::UnsubscriptionResponse {
            id,
            message: format!("unsubscribed from {count} topics"),
            removed_topics: removed.topics,
            removed_match: removed.matches,
            removed_template: removed.templates,
            subscribed: self.subscribed(index),
            seq: self.seq,
            timestamp: now(),
        };
        self.reply(index, &reply);
    }

    /// Why a request to unsubscribe would change nothing although the client hears of the topic: it is a pattern that
    /// brings it, which stays.
    fn contradiction(
        &self,
        index: ConnectionIndex,
        subscriptions: &[Subscription],
    ) -> Option<String> {
        let held = self.selection(index).topics;
        let remaining: Vec<&Subscription> = held
            .iter()
            .map(|entry| self.registry.subscription(*entry))
            .filter(|held| !subscriptions.contains(held))
            .collect();
        subscriptions.iter().find_map(|subscription| {
            let Subscription::Topic(topic) = subscription else {
                return None;
            };
            if self.is_subscribed(index, subscription) {
                return None;
            }
            let covering = remaining.iter().find(|held| match held {
                Subscription::Everything => true,
                Subscription::Pattern(pattern) => pattern.is_match(topic.name()),
                Subscription::Topic(_) | Subscription::Template(_) => false,
            })?;
            Some(format!(
                "{:?} is not subscribed by name; {} goes on to bring it",
                topic.name(),
                covering.shown()
            ))
        })
    }

    /// The topics and globs of a connection, and its regular expressions.
    fn topic_names(&self, index: ConnectionIndex) -> Vec<String> {
        let topics = self.selection(index).topics;
        topics
            .iter()
            .map(|entry| match self.registry.subscription(*entry).shown() {
                serde_json::Value::String(name) => name,
                shown => shown.to_string(),
            })
            .collect()
    }

    fn subscribed(&self, index: ConnectionIndex) -> Subscribed {
        let mut subscribed = Subscribed::default();
        for entry in self.selection(index).entries() {
            subscribed.add(self.registry.subscription(entry));
        }
        subscribed
    }

    /// The subscriptions of a connection; none of one that is gone.
    fn selection(&self, index: ConnectionIndex) -> Selection {
        let client = self.clients.get(index);
        client.map_or_else(Selection::default, |client| client.selection.clone())
    }

    fn refuse(&mut self, index: ConnectionIndex, id: &RequestId, code: FaultCode, message: String) {
        let id = id.clone();
        self.fault(index, &Fault { id, code, message });
    }

    /// Acts on a connection, or keeps the command until the connection is live: what it is subscribed to must not change
    /// while it gets what was published before.
    fn when_live(
        &mut self,
        connection: ConnectionId,
        command: Command,
        act: impl FnOnce(&mut Self, ConnectionIndex, Command),
    ) {
        self.with(connection, |shard, index| {
            let replay = shard.clients.get_mut(index);
            match replay.and_then(|client| client.replay.as_mut()) {
                None => act(shard, index, command),
                Some(replay) if replay.deferred.len() < MAX_DEFERRED => {
                    replay.deferred.push_back(command);
                }
                Some(_) => {
                    let id = match command {
                        Command::Subscribe { id, .. } | Command::Unsubscribe { id, .. } => id,
                        _ => None,
                    };
                    let message = format!("{MAX_DEFERRED} requests wait for the replay to end");
                    shard.refuse(index, &id, FaultCode::Busy, message);
                }
            }
        });
    }

    /// Up to where a connection has had everything.
    fn position(&self, index: ConnectionIndex) -> Seq {
        let client = self.clients.get(index);
        let replay = client.and_then(|client| client.replay.as_ref());
        replay.map_or(self.seq, |replay| replay.position())
    }

    fn fault(&mut self, index: ConnectionIndex, fault: &Fault) {
        self.shared.counters.error_frames.add(1);
        let Fault { id, code, message } = fault;
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

    /// Sends a frame of the control protocol, which a raw connection does not have. Who gets no publications any more gets
    /// no answers either: they say that everything before them is here.
    pub(super) fn reply(&mut self, index: ConnectionIndex, reply: &Reply<'_>) {
        self.reply_at(index, reply, reply.cursor());
    }

    fn reply_at(&mut self, index: ConnectionIndex, reply: &Reply<'_>, cursor: Option<Seq>) {
        let Some(client) = self.clients.get(index) else {
            return;
        };
        if client.is_muted() {
            return;
        }
        let frame = reply.encode();
        let frame = match (client.format, cursor) {
            (Format::Json, _) => frame,
            (Format::Raw, _) => return,
            (Format::Events, None) => event::of(&frame, event::END),
            (Format::Events, Some(seq)) => {
                event::of(&frame, event::end_at(&self.shared.epoch, seq).as_bytes())
            }
        };
        client.link.control_made(frame.len());
        self.send_control(index, frame);
    }

    fn send_control(&mut self, index: ConnectionIndex, frames: Bytes) {
        self.on_client(index, |client, sent| client.send_control(frames, sent));
    }

    fn on_client(
        &mut self,
        index: ConnectionIndex,
        act: impl FnOnce(&mut Client, &mut Sent) -> io::Result<()>,
    ) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if act(client, &mut self.sent).is_err() {
            self.clients.mark(index);
        }
    }

    /// Takes what has changed of the settings that are held here.
    fn reconfigure(&mut self) {
        let known_topics = size(self.shared.settings().max_known_topics);
        if let Some(recent) = &mut self.recent {
            recent.resize(known_topics, &self.shared.directory);
        }
    }
}
