//! The connections that come to a shard and leave it, carried out a few at a time.
//!
//! Opening a connection costs a system call and a welcome frame, and leaving costs a close. A crowd of them must not
//! delay the next publication. Both may wait, because a client learns of its connection only from the shard, and a
//! client that is gone waits for nothing. Other commands are carried out before the next publication: a client may
//! subscribe and then cause a publication.

use std::collections::{HashMap, VecDeque};

use super::command::Command;
use super::ids::{ConnectionId, Seq};
use crate::message::topic::PrecomputedHash;

/// The commands that may wait for publications. If a connection has one, its later commands wait behind it.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Connections in the order of their first waiting command.
    order: VecDeque<ConnectionId>,
    commands: HashMap<ConnectionId, Vec<Command>, PrecomputedHash>,
}

impl Arrivals {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Keeps a command that may wait, and returns any other.
    pub(super) fn sort(&mut self, command: Command) -> Option<Command> {
        let (connection, begins) = match &command {
            Command::Open(opening) => (Some(opening.state.id), true),
            Command::Remove { connection } => (Some(*connection), true),
            _ if self.is_empty() => return Some(command),
            _ => (command.connection(), false),
        };
        let Some(connection) = connection else {
            return Some(command);
        };
        if let Some(waiting) = self.commands.get_mut(&connection) {
            waiting.push(command);
        } else if begins {
            self.order.push_back(connection);
            self.commands.insert(connection, vec![command]);
        } else {
            return Some(command);
        }
        None
    }

    /// Takes all commands of the next connection. A connection is opened after the publications from before its
    /// request, so it waits until the shard has taken those.
    pub(super) fn next(&mut self, taken: Seq) -> Option<Vec<Command>> {
        let connection = self.order.front()?;
        if let Some(Command::Open(opening)) = self.commands.get(connection)?.first()
            && opening.published > taken
        {
            return None;
        }
        let connection = self.order.pop_front()?;
        self.commands.remove(&connection)
    }
}
