//! Recovery of a shard after a panic.
//!
//! A panic while the shard acted on one client ends that client: it is closed with 1011 and replays missed messages
//! after it reconnects. A panic in the search for subscribers or in the shard's own state leaves nothing reliable. The
//! shard then discards its subscriptions and its batch and closes all of its clients. Other shards are not affected in
//! either case. The shard does not retry the command, turn or publication that panicked.

use super::batch::Batch;
use super::ids::{ConnectionIndex, Seq};
use super::registry::Registry;
use super::selection::Selection;
use super::{Shard, Turn};
use crate::telemetry::panics::{contain, panic_point};

impl Shard {
    pub(super) fn recover(&mut self) {
        match std::mem::replace(&mut self.turn, Turn::Shard) {
            Turn::Client(index) => self.close_after_fault(index),
            Turn::Matching => {
                self.skip_in_replays(self.seq);
                self.start_over();
            }
            Turn::Shard => self.start_over(),
        }
        self.settle();
    }

    /// Marks a publication so that replays do not search for its subscribers again.
    fn skip_in_replays(&self, seq: Seq) {
        let past = self.context.log.read(seq, 1);
        if let Some(publication) = past.publications.first().filter(|past| past.seq() == seq) {
            publication.poison();
        }
    }

    /// Closes one client. Its subscriptions stay until it is gone.
    fn close_after_fault(&mut self, index: ConnectionIndex) {
        let counters = self.context.counters.clone();
        self.registry.forget_runs();
        self.merged.clear();
        let close = || {
            panic_point!("shard::recovery");
            let client = self.clients.get_mut(index);
            client.is_some_and(|client| client.close_after_fault(&mut self.sent))
        };
        if contain("a client's recovery", &counters, close) != Some(true) {
            // The client cannot even be told.
            self.clients.mark(index);
        }
    }

    fn start_over(&mut self) {
        let counters = self.context.counters.clone();
        std::mem::replace(&mut self.registry, Registry::new()).leave(&self.context.topics);
        self.batch = Batch::default();
        self.subscriptions = 0;
        self.queue.clear();
        self.replaying.clear();
        self.ahead.clear();
        self.cursor.finish();
        // Includes marked clients, because the new registry does not know them.
        for client in self.clients.all_mut() {
            client.selection = Selection::default();
            client.active.clear();
            client.is_queued = false;
        }
        if contain("a writer shard's recovery", &counters, || self.close_all()).is_none() {
            // The clients cannot even be told.
            self.clients.mark_all();
        }
    }

    fn close_all(&mut self) {
        panic_point!("shard::recovery");
        for index in self.clients.indices() {
            if let Some(client) = self.clients.get_mut(index)
                && !client.close_after_fault(&mut self.sent)
            {
                self.clients.mark(index);
            }
        }
    }

    /// Counts publications as dropped that the panic lost on their way to a client.
    fn settle(&mut self) {
        self.count();
        let lost = self.owed.wrapping_sub(self.clients.waiting_publications());
        self.sent.dropped_disconnected += lost;
        self.count();
    }
}
