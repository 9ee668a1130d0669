//! What a shard does after a fault: nothing that was half done is believed any more.
//!
//! Its subscriptions and its batch are thrown away, and its connections are closed with 1011, so that their clients come
//! again and ask for what they missed. Other shards notice nothing. The publication or command that the fault happened
//! with is not tried again.

use super::Shard;
use super::batch::Batch;
use super::registry::Registry;
use super::replay::Selection;
use crate::disconnect::Disconnect;
use crate::fault::{contain, fault_point};

impl Shard {
    pub(super) fn start_over(&mut self) {
        let counters = self.shared.counters.clone();
        let links: Vec<_> = self
            .clients
            .iter()
            .map(|(_, client)| client.link.clone())
            .collect();
        std::mem::replace(&mut self.registry, Registry::new()).leave(&self.shared.directory);
        self.batch = Batch::default();
        self.subscriptions = 0;
        self.queue.clear();
        self.replaying.clear();
        self.cursor.finish();
        self.count();
        if contain("a writer shard's recovery", &counters, || self.close_all()).is_none() {
            // They cannot even be told.
            self.clients.clear();
            self.by_id.clear();
            links.iter().for_each(|link| link.end());
        }
    }

    fn close_all(&mut self) {
        fault_point!("shard::recovery");
        let counters = &self.shared.counters;
        let by_id = &mut self.by_id;
        self.clients.retain(|_, client| {
            client.selection = Selection::default();
            client.active.clear();
            client.is_queued = false;
            if client.link.close_reason() == Some(Disconnect::Fault) {
                // It may be what the fault is in, so there is no second try to tell it.
                by_id.remove(&client.link.id);
                counters
                    .dropped_disconnected
                    .add(client.waiting_publications());
                client.link.end();
                return false;
            }
            client.give_up(counters);
            client.link.close(Disconnect::Fault);
            true
        });
    }
}
