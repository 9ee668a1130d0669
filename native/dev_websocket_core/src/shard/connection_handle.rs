//! A connection as tasks and callers hold it: its state, and the mailbox of its shard.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::command::Command;
use super::connection_state::ConnectionState;
use super::mailbox::Mailbox;

/// Gives commands to the connection's shard. Cheap to clone.
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

    /// The state, as the shard holds it.
    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Gives the shard a command.
    pub(crate) fn tell(&self, command: Command) {
        self.mailbox.send(command);
    }

    /// Sends whole control frames, whether there is room or not.
    pub(crate) fn send_control(&self, frames: Bytes) {
        self.control_made(frames.len());
        self.tell(Command::Control {
            connection: self.id,
            bytes: frames,
        });
    }

    /// Sends whole control frames when there is room.
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
