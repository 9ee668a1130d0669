//! The handle of a connection for tasks and callers: its state and the mailbox of its shard.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::command::Command;
use super::connection_state::ConnectionState;
use super::mailbox::Mailbox;

/// Sends commands to the shard of a connection. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionHandle {
    state: Arc<ConnectionState>,
    mailbox: Arc<Mailbox<Command>>,
}

impl Deref for ConnectionHandle {
    type Target = ConnectionState;

    fn deref(&self) -> &ConnectionState {
        &self.state
    }
}

impl ConnectionHandle {
    pub(crate) fn new(state: Arc<ConnectionState>, mailbox: Arc<Mailbox<Command>>) -> Self {
        Self { state, mailbox }
    }

    /// Returns the state that the handle shares with the shard.
    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Sends the shard a command.
    pub(crate) fn tell(&self, command: Command) {
        self.mailbox.send(command);
    }

    /// Sends complete control frames, even if there is no room.
    pub(crate) fn send_control(&self, frames: Bytes) {
        self.control_made(frames.len());
        self.tell(Command::Control {
            connection: self.id,
            bytes: frames,
        });
    }

    /// Sends complete control frames as soon as there is room.
    pub(crate) fn poll_send_control(
        &self,
        context: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state
            .poll_room(context, ConnectionState::has_control_room)
            .map_ok(|()| {
                self.send_control(Bytes::copy_from_slice(frames));
                frames.len()
            })
    }
}
