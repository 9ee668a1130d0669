//! Execution of client requests in a shard.
//!
//! The reading side has checked them: a request names at most as many subscriptions as a connection may have, each
//! once. Therefore a request takes at most that many look-ups. Only removing a subscription scans those that the
//! connection holds.

use super::client::Client;
use super::ids::ConnectionId;
use super::ids::{ConnectionIndex, EntryIndex};
use super::registry::Registry;
use super::replay::{Choice, Replay};
use super::selection::Selection;
use super::{Shard, Turn};
use crate::error_code::ErrorCode;
use crate::log::publication::now;
use crate::shard::topic_registry::TopicRegistry;
use crate::subscription::{Quota, Subscription, TooMany};
use crate::wire::control::{Reply, Request, RequestError, RequestId, Subscribed};
use crate::wire::cursor::Since;
use crate::wire::slots::SlotStart;

impl Shard {
    /// Carries out a request. A change of subscriptions waits until the connection is live, because they must not
    /// change during a replay. The client is not read from while too many bytes of its requests wait.
    pub(super) fn request(
        &mut self,
        connection: ConnectionId,
        bytes: usize,
        request: Result<Request, RequestError>,
    ) {
        self.with(connection, |shard, index| {
            let changes = matches!(
                request,
                Ok(Request::Subscribe { .. } | Request::Unsubscribe { .. })
            );
            let client = shard.clients.get_mut(index);
            if changes && let Some(deferred) = client.and_then(Client::deferred) {
                deferred.push_back((bytes, request));
                return;
            }
            shard.answer(index, request);
            if let Some(client) = shard.clients.get(index) {
                client.state.request_done(bytes);
            }
        });
    }

    fn answer(&mut self, index: ConnectionIndex, request: Result<Request, RequestError>) {
        match request {
            Ok(Request::Subscribe {
                id,
                subscriptions,
                since,
                slots,
            }) => self.subscribe(index, &id, subscriptions, (since, slots)),
            Ok(Request::Unsubscribe { id, subscriptions }) => {
                self.unsubscribe(index, &id, &subscriptions);
            }
            Ok(Request::Ping { id }) => {
                let pong = Reply::Pong {
                    id: &id,
                    timestamp: now(),
                    seq: self.position(index),
                };
                self.reply(index, &pong);
            }
            Ok(Request::Authorized { id, session }) => self.authorize(index, &id, session.0),
            // The reading side has verified the token, or sent the message to the listener.
            Ok(Request::Auth { .. } | Request::Send { .. }) => {}
            Err(fault) => self.fault(index, &fault),
        }
    }

    /// Adds the new subscriptions and returns them as the client writes them.
    pub(super) fn add_subscriptions(
        &mut self,
        index: ConnectionIndex,
        subscriptions: Vec<Subscription>,
    ) -> Subscribed {
        let mut added = Subscribed::default();
        for subscription in subscriptions {
            if self.clients.get(index).is_none() || self.held(index, &subscription).is_some() {
                continue;
            }
            added.add(&subscription);
            let kind = subscription.kind();
            let entry = self
                .on_registry(|registry, topics| registry.subscribe(subscription, index, topics));
            if let Some(client) = self.clients.get_mut(index) {
                self.subscriptions += 1;
                client.selection.of_kind(kind).push(entry);
            }
        }
        added
    }

    /// Changes the subscriptions of the shard. A panic during the change leaves none of them reliable.
    fn on_registry<T>(&mut self, change: impl FnOnce(&mut Registry, &TopicRegistry) -> T) -> T {
        let turn = std::mem::replace(&mut self.turn, Turn::Shard);
        let result = change(&mut self.registry, &self.context.topics);
        self.turn = turn;
        result
    }

    /// Returns the entry of a subscription, if the connection has it.
    fn held(&mut self, index: ConnectionIndex, subscription: &Subscription) -> Option<EntryIndex> {
        self.clients.get(index)?;
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let entry = self.registry.find(subscription)?;
        self.registry.has_subscriber(entry, index).then_some(entry)
    }

    fn subscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        mut subscriptions: Vec<Subscription>,
        (since, slots): (Option<Since>, Option<SlotStart>),
    ) {
        let context = self.context.clone();
        subscriptions.retain(|subscription| self.held(index, subscription).is_none());
        let held = self.selection(index);
        let held = held.entries().map(|entry| self.registry.kind(entry));
        let kinds = held.chain(subscriptions.iter().map(Subscription::kind));
        if let Err(TooMany { code, message }) = Quota::of(&context.settings()).check(kinds) {
            return self.refuse(index, id, code, message);
        }
        if let Err((code, message)) = self.check_access(index, subscriptions.iter()) {
            return self.refuse(index, id, code, message);
        }
        if let Some(since) = &since
            && let Err(error) = context.check_cursor(since)
        {
            return self.refuse(index, id, ErrorCode::BadSince, error.to_string());
        }
        let slots = match self.admit_slots(slots) {
            Ok(slots) => slots,
            Err((code, message)) => return self.refuse(index, id, code, message),
        };
        if since.is_some() {
            // A cursor of another connection may be ahead of the shard.
            self.take_until(index, context.log.last_seq());
        }
        let read = match since.as_ref().map(|since| self.admit_read(since)) {
            None => None,
            Some(Ok(read)) => read,
            Some(Err((code, message))) => return self.refuse(index, id, code, message),
        };
        let had = since.as_ref().map(|_| self.choice(index));
        let added = self.add_subscriptions(index, subscriptions);
        let count = added.count();
        let reply = Reply::SubscriptionResponse {
            id,
            message: format!("subscribed to {count} new topics"),
            new_topics: added.topics,
            new_match: added.matches,
            new_template: added.templates,
            subscribed: self.subscribed(index),
            seq: self.context.eras.number(self.seq),
            timestamp: now(),
        };
        self.reply(index, &reply);
        if let (Some(since), Some(had)) = (since, had) {
            let (present, choice) = (self.seq, (self.choice(index), had));
            self.begin_after(index, &since, read, |seq| {
                Replay::of_subscribe(seq, present, choice, id.clone())
            });
        }
        if let Some(slots) = slots {
            self.hold_slots(index, slots, id.clone());
            self.begin_slots(index);
        }
    }

    fn unsubscribe(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        subscriptions: &[Subscription],
    ) {
        if let Err((code, message)) = self.check_rest(index, subscriptions) {
            return self.refuse(index, id, code, message);
        }
        let mut removed = Subscribed::default();
        for subscription in subscriptions {
            let Some(entry) = self.held(index, subscription) else {
                continue;
            };
            if let Some(client) = self.clients.get_mut(index) {
                let held = client.selection.of_kind(subscription.kind());
                #[cfg(test)]
                {
                    self.steps += held.len();
                }
                held.retain(|held| *held != entry);
                self.subscriptions -= 1;
                self.on_registry(|registry, topics| {
                    registry.unsubscribe(entry, index, topics);
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
            seq: self.context.eras.number(self.seq),
            timestamp: now(),
        };
        self.reply(index, &reply);
    }

    /// Returns the topics, globs and regular expressions of a connection. Another thread converts them to text.
    pub(super) fn topics(&self, index: ConnectionIndex) -> Vec<Subscription> {
        let topics = self.selection(index).topics;
        topics
            .iter()
            .map(|entry| self.registry.subscription(*entry).clone())
            .collect()
    }

    /// Returns the subscriptions of a connection as the client writes them.
    pub(super) fn subscribed(&self, index: ConnectionIndex) -> Subscribed {
        let mut subscribed = Subscribed::default();
        for subscription in self.held_by(index) {
            subscribed.add(subscription);
        }
        subscribed
    }

    /// Returns the subscriptions of a connection for matching without those of others.
    pub(super) fn choice(&self, index: ConnectionIndex) -> Choice {
        Choice::of(self.held_by(index))
    }

    /// Iterates over the subscriptions of a connection.
    pub(super) fn held_by(&self, index: ConnectionIndex) -> impl Iterator<Item = &Subscription> {
        let client = self.clients.get(index);
        let entries = client
            .into_iter()
            .flat_map(|client| client.selection.entries());
        entries.map(|entry| self.registry.subscription(entry))
    }

    /// Returns the entries of a connection's subscriptions; none if the connection is gone.
    fn selection(&self, index: ConnectionIndex) -> Selection {
        let client = self.clients.get(index);
        client.map_or_else(Selection::default, |client| client.selection.clone())
    }

    pub(super) fn refuse(
        &mut self,
        index: ConnectionIndex,
        id: &RequestId,
        code: ErrorCode,
        message: String,
    ) {
        let id = id.clone();
        self.fault(index, &RequestError { id, code, message });
    }

    /// Returns the number, as clients see it, up to which a connection has received everything.
    fn position(&self, index: ConnectionIndex) -> u64 {
        let client = self.clients.get(index);
        let replay = client.and_then(|client| client.replay.as_ref());
        if let Some(past) = replay.and_then(|replay| replay.past.as_ref()) {
            return past.cursor().seq;
        }
        let place = replay.map_or(self.seq, |replay| replay.position());
        let ahead_until = replay.map_or(0, |replay| replay.ahead_until());
        self.context.eras.number(place).max(ahead_until)
    }
}
