//! How a shard carries out the commands of its connections' tasks.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;

use super::Shard;
use super::client::Client;
use super::command::{Command, ConnectionId, Opening};
use super::outbox::Sent;
use super::place::{ConnectionIndex, Seq};
use super::replay::Replay;
use super::replaying::MAX_DEFERRED;
use crate::cursor::{From, Since};
use crate::delivery::Format;
use crate::event;
use crate::fault::fault_point;
use crate::fault_code::FaultCode;
use crate::protocol::{Fault, Limits, Reply, RequestId, Subscribed};
use crate::publication::now;
use crate::settings::size;
use crate::subscription::{Kind, Quota, Subscription, TooMany};

impl Shard {
    pub(super) fn carry_out(&mut self, command: Command) {
        fault_point!("shard::command");
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
                answer.give(shard.topics(index));
            }),
            Command::Writable { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::flush);
                shard.resume_replay(index);
            }),
            Command::Mute { connection } => self.with(connection, |shard, index| {
                shard.clients[index as usize].mute();
            }),
            Command::Finish { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::finish);
            }),
            Command::Remove { connection } => self.with(connection, Self::remove),
            Command::CloseAll { reason } => {
                self.closing = Some(reason);
                self.clients
                    .iter()
                    .for_each(|(_, client)| client.link.close(reason));
            }
            Command::Reconfigure => self.reconfigure(),
            Command::Stop => self.is_stopping = true,
        }
    }

    /// Acts on a connection at the place that it has in the order of publications: those before are sent first.
    fn with(&mut self, connection: ConnectionId, act: impl FnOnce(&mut Self, ConnectionIndex)) {
        let Some(index) = self.by_id.get(&connection).copied() else {
            return;
        };
        self.serve(index);
        // It may have turned out to be broken.
        if self.by_id.contains_key(&connection) {
            // What was published to a topic before is not for those who subscribe now.
            self.clients[index as usize].served = self.seq;
            act(self, index);
        }
    }

    fn open(&mut self, opening: Opening) {
        let id = opening.link.id;
        if let Some(reason) = self.closing {
            opening.link.close(reason);
        }
        // What was published before its request is not for it, and the newest are those of the log: not what this shard has
        // come to.
        self.catch_up(opening.published);
        let client = Client::new(opening.link, opening.format, opening.slow, self.seq);
        let index = self.clients.insert(client) as ConnectionIndex;
        self.by_id.insert(id, index);
        self.add_subscriptions(index, opening.subscriptions);
        self.begin_answer(index, opening.head);
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
            if !self.is_subscribed(index, &subscription) {
                added.add(&subscription);
                self.subscriptions += 1;
                let kind = subscription.kind();
                let entry = self
                    .registry
                    .subscribe(subscription, index, &self.shared.directory);
                let selection = &mut self.clients[index as usize].selection;
                match kind {
                    Kind::Template => selection.templates.push(entry),
                    Kind::Topic | Kind::Match => selection.topics.push(entry),
                }
            }
        }
        added
    }

    fn is_subscribed(&self, index: ConnectionIndex, subscription: &Subscription) -> bool {
        let selection = &self.clients[index as usize].selection;
        self.registry
            .find(subscription)
            .is_some_and(|entry| selection.entries().any(|held| held == entry))
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
        let had = self.clients[index as usize].selection.clone();
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
            let selection = &mut self.clients[index as usize].selection;
            let held = match subscription.kind() {
                Kind::Template => &mut selection.templates,
                Kind::Topic | Kind::Match => &mut selection.topics,
            };
            if let Some(place) = held.iter().position(|held| *held == entry) {
                held.remove(place);
                self.subscriptions -= 1;
                self.registry
                    .unsubscribe(entry, index, &self.shared.directory);
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
        let held = &self.clients[index as usize].selection.topics;
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

    /// The topics and globs of a connection, and its regular expressions. To write them down is not this thread's work.
    fn topics(&self, index: ConnectionIndex) -> Vec<Subscription> {
        let topics = self.clients[index as usize].selection.topics.iter();
        topics
            .map(|entry| self.registry.subscription(*entry).clone())
            .collect()
    }

    fn subscribed(&self, index: ConnectionIndex) -> Subscribed {
        let mut subscribed = Subscribed::default();
        for entry in self.clients[index as usize].selection.entries() {
            subscribed.add(self.registry.subscription(entry));
        }
        subscribed
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
            match &mut shard.clients[index as usize].replay {
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
        let replay = &self.clients[index as usize].replay;
        replay.as_ref().map_or(self.seq, |replay| replay.position())
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
        let Some(client) = self.clients.get(index as usize) else {
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

    /// Answers the request of a new connection. What follows goes out with it where something does.
    fn begin_answer(&mut self, index: ConnectionIndex, head: Bytes) {
        let client = &mut self.clients[index as usize];
        client.link.control_made(head.len());
        if client.format == Format::Raw {
            self.send_control(index, head);
        } else {
            client.push_control(head);
        }
    }

    fn send_control(&mut self, index: ConnectionIndex, frames: Bytes) {
        self.on_client(index, |client, sent| client.send_control(frames, sent));
    }

    fn on_client(
        &mut self,
        index: ConnectionIndex,
        act: impl FnOnce(&mut Client, &mut Sent) -> io::Result<()>,
    ) {
        let Some(client) = self.clients.get_mut(index as usize) else {
            return;
        };
        if act(client, &mut self.sent).is_err() {
            self.remove(index);
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
