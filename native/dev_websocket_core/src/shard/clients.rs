//! The clients of a shard: where each is, and which are to be removed.
//!
//! A turn acts on a client by its index. A client whose socket breaks is only marked, so the index stays valid until the
//! turn is over; a marked client is not found any more. The shard removes marked clients between two turns.

use std::collections::HashMap;

use slab::Slab;

use super::client::Client;
use super::ids::ConnectionId;
use super::ids::ConnectionIndex;
use crate::message::topic::PrecomputedHash;

/// Owns the clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    slab: Slab<Client>,
    by_id: HashMap<ConnectionId, ConnectionIndex, PrecomputedHash>,
    /// Marked clients, each once.
    broken: Vec<ConnectionIndex>,
}

impl Clients {
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(crate) fn insert(&mut self, client: Client) -> ConnectionIndex {
        let id = client.state.id;
        let index = self.slab.insert(client) as ConnectionIndex;
        self.by_id.insert(id, index);
        index
    }

    /// The index of a connection, unless it is gone or marked.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<ConnectionIndex> {
        let index = *self.by_id.get(&id)?;
        self.get(index).map(|_| index)
    }

    /// The client at an index, unless it is gone or marked.
    pub(crate) fn get(&self, index: ConnectionIndex) -> Option<&Client> {
        let client = self.slab.get(index as usize);
        client.filter(|client| !client.is_broken)
    }

    /// The client at an index, unless it is gone or marked.
    pub(crate) fn get_mut(&mut self, index: ConnectionIndex) -> Option<&mut Client> {
        let client = self.slab.get_mut(index as usize);
        client.filter(|client| !client.is_broken)
    }

    /// All clients that are not marked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        let clients = self.slab.iter().map(|(_, client)| client);
        clients.filter(|client| !client.is_broken)
    }

    /// Marks a client, which is removed when the turn is over.
    pub(crate) fn mark(&mut self, index: ConnectionIndex) {
        if let Some(client) = self.get_mut(index) {
            client.is_broken = true;
            self.broken.push(index);
        }
    }

    /// Marks all clients.
    pub(crate) fn mark_all(&mut self) {
        for (index, client) in &mut self.slab {
            if !client.is_broken {
                client.is_broken = true;
                self.broken.push(index as ConnectionIndex);
            }
        }
    }

    /// A marked client, with its index.
    pub(crate) fn first_marked(&mut self) -> Option<(ConnectionIndex, &mut Client)> {
        let index = *self.broken.last()?;
        Some((index, self.slab.get_mut(index as usize)?))
    }

    /// Removes the client that [`Self::first_marked`] gave.
    pub(crate) fn remove_marked(&mut self) -> Option<Client> {
        let client = self.slab.try_remove(self.broken.pop()? as usize)?;
        self.by_id.remove(&client.state.id);
        Some(client)
    }

    /// Publications that still wait for clients, those of marked ones included.
    pub(crate) fn waiting_publications(&self) -> u64 {
        let clients = self.slab.iter();
        clients
            .map(|(_, client)| client.waiting_publications())
            .sum()
    }

    /// All clients, those of marked ones included.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slab.iter_mut().map(|(_, client)| client)
    }

    /// Every index that is taken.
    pub(crate) fn indices(&self) -> Vec<ConnectionIndex> {
        let indices = self.slab.iter();
        indices.map(|(index, _)| index as ConnectionIndex).collect()
    }
}
