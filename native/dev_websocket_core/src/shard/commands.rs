//! How a shard carries out the commands of its connections' tasks.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;

use super::Shard;
use super::client::Client;
use super::command::{Command, ConnectionId, Format, Opening};
use super::outbox::Sent;
use super::registry::ConnectionIndex;
use crate::protocol::{Fault, FaultCode, Limits, Reply, RequestId};
use crate::publication::now;
use crate::settings::size;
use crate::subscription::Subscription;

impl Shard {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(*opening),
            Command::Subscribe {
                connection,
                id,
                subscriptions,
            } => {
                self.with(connection, |shard, index| {
                    shard.subscribe(index, &id, subscriptions)
                });
            }
            Command::Unsubscribe {
                connection,
                id,
                subscriptions,
            } => {
                self.with(connection, |shard, index| {
                    shard.unsubscribe(index, &id, &subscriptions)
                });
            }
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
                self.with(connection, |shard, index| shard.fault(index, &fault));
            }
            Command::Control { connection, bytes } => {
                self.with(connection, |shard, index| shard.send_control(index, bytes));
            }
            Command::Writable { connection } => self.with(connection, |shard, index| {
                shard.on_client(index, Client::flush);
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
        let client = Client::new(opening.link, opening.format, self.seq);
        let index = self.clients.insert(client) as ConnectionIndex;
        self.by_id.insert(id, index);
        self.add_subscriptions(index, opening.subscriptions);
        let names = self.names(index);
        let shared = self.shared.clone();
        let limits = Limits::of(&opening.settings);
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
            if !self.is_subscribed(index, &subscription) {
                added.push(subscription.name().to_owned());
                let topic = self
                    .registry
                    .subscribe(subscription, index, &self.shared.directory);
                self.clients[index as usize].subscriptions.push(topic);
            }
        }
        added
    }

    fn is_subscribed(&self, index: ConnectionIndex, subscription: &Subscription) -> bool {
        let held = &self.clients[index as usize].subscriptions;
        self.registry
            .find(subscription)
            .is_some_and(|topic| held.contains(&topic))
    }

    fn subscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        mut subscriptions: Vec<Subscription>,
    ) {
        let limit = size(self.shared.settings().max_topics_per_connection);
        let mut distinct = HashSet::new();
        subscriptions.retain(|subscription| {
            !self.is_subscribed(index, subscription) && distinct.insert(subscription.clone())
        });
        if self.clients[index as usize].subscriptions.len() + subscriptions.len() > limit {
            let message = format!("topics: a connection has at most {limit}");
            let fault = Fault {
                id: id.clone(),
                code: FaultCode::TooManyTopics,
                message,
            };
            return self.fault(index, &fault);
        }
        let added = self.add_subscriptions(index, subscriptions);
        let names = self.names(index);
        let message = format!("subscribed to {} new topics", added.len());
        let reply = Reply::SubscriptionResponse {
            id,
            message,
            new_topics: &added,
            subscribed_topics: &names,
            seq: self.seq,
            timestamp: now(),
        };
        self.reply(index, &reply);
    }

    fn unsubscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        subscriptions: &[Subscription],
    ) {
        let mut removed = Vec::new();
        for subscription in subscriptions {
            let held = &mut self.clients[index as usize].subscriptions;
            let topic = self.registry.find(subscription);
            if let Some(place) = held.iter().position(|held| Some(*held) == topic) {
                let topic = held.remove(place);
                self.registry
                    .unsubscribe(topic, index, &self.shared.directory);
                removed.push(subscription.name().to_owned());
            }
        }
        let names = self.names(index);
        let message = format!("unsubscribed from {} topics", removed.len());
        let reply = Reply::UnsubscriptionResponse {
            id,
            message,
            removed_topics: &removed,
            subscribed_topics: &names,
            seq: self.seq,
            timestamp: now(),
        };
        self.reply(index, &reply);
    }

    fn names(&self, index: ConnectionIndex) -> Vec<String> {
        let held = &self.clients[index as usize].subscriptions;
        held.iter()
            .map(|topic| self.registry.name(*topic).to_owned())
            .collect()
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
        self.on_client(index, |client, sent| client.send_control(frames, sent));
    }

    fn on_client(
        &mut self,
        index: ConnectionIndex,
        act: impl FnOnce(&mut Client, &mut Sent) -> io::Result<()>,
    ) {
        if act(&mut self.clients[index as usize], &mut self.sent).is_err() {
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
