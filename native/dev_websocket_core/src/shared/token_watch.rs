//! The task that ends permissions: it tells clients that their token ends, closes connections whose token is over or
//! revoked, and reads the files of keys and revocations again when they change.
//!
//! Tokens often end together. The shards carry out all commands for connections before the next publication, so thousands
//! of ends at once would delay it for all clients. Therefore the task works in small turns.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, sleep};

use crate::access::{Authority, Task};
use crate::log::publication::now;
use crate::settings::Access;
use crate::shard::command::Command;
use crate::shard::ids::ConnectionId;
use crate::shared::Shared;
use crate::wire::close::Disconnect;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Number of connections that are checked without a pause.
const CHECKED_AT_ONCE: usize = 256;

/// Pause between two turns.
const PAUSE: Duration = Duration::from_millis(1);

/// Least and largest number of connections that are told or closed in one turn. It grows by one in [`GROWTH`], so that
/// even a hundred thousand permissions end within ten seconds.
const LEAST: usize = 2;
const MOST: usize = 256;
const GROWTH: Duration = Duration::from_millis(128);

/// Watches until the server stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut looked = Instant::now();
    let mut turns = Turns::default();
    loop {
        let authority = &shared.context.access;
        let has_files = shared.settings().access == Access::Token;
        let wait = if turns.are_left() {
            Some(PAUSE)
        } else if has_files {
            let until_due = authority.expiry.next().map(|at| at.saturating_sub(now()));
            let until_due = until_due.map_or(LOOK, Duration::from_millis);
            Some(until_due.min(LOOK))
        } else {
            None
        };
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            // News does not shorten the pause.
            () = authority.expiry.changed(), if !turns.are_left() => {}
            () = async { sleep(wait.unwrap_or_default()).await }, if wait.is_some() => {}
        }
        if has_files && looked.elapsed() >= LOOK {
            looked = Instant::now();
            let files = shared.clone();
            // A slow disk holds up this thread and no other.
            let read = move || files.context.access.reload(&files.settings());
            let _ = spawn_blocking(read).await;
        }
        turns.take(&shared).await;
    }
}

/// Turns in which connections are told or closed.
#[derive(Debug, Default)]
struct Turns {
    /// Time of the first one, if more are left.
    begun: Option<Instant>,
    /// The last connection that was checked since permissions were withdrawn, if more are left.
    checked: Option<ConnectionId>,
}

impl Turns {
    fn are_left(&self) -> bool {
        self.begun.is_some()
    }

    /// Takes one turn.
    async fn take(&mut self, shared: &Shared) {
        if shared.context.access.take_change() {
            self.checked = Some(0);
        }
        let begun = self.begun.unwrap_or_else(Instant::now);
        let growth = begun.elapsed().as_millis() / GROWTH.as_millis();
        let mut room = MOST.min(LEAST + usize::try_from(growth).unwrap_or(MOST));
        if let Some(after) = self.checked {
            self.checked = end_refused(shared, after, &mut room).await;
        }
        let are_left = end_due(shared, &mut room) || self.checked.is_some();
        self.begun = are_left.then_some(begun);
    }
}

/// Tells or closes connections whose time has come, while there is room. Returns true if others may be left.
fn end_due(shared: &Shared, room: &mut usize) -> bool {
    while *room > 0 {
        let Some(task) = shared.context.access.expiry.take(now()) else {
            return false;
        };
        *room -= 1;
        let (Task::Tell(id, _) | Task::End(id)) = task;
        if let Some(handle) = shared.connections.find(id) {
            match task {
                Task::Tell(connection, at) => {
                    handle.tell(Command::TokenExpires { connection, at });
                }
                Task::End(_) => handle.close(match handle.peer.session.load().holder {
                    Some(_) => Disconnect::TokenExpired,
                    None => Disconnect::Unauthorized,
                }),
            }
        }
    }
    true
}

/// Closes connections with ids above `after` whose token was revoked, or which have no token although the server needs
/// one now, while there is room. Returns the last connection that was checked, if others may be left.
async fn end_refused(
    shared: &Shared,
    mut after: ConnectionId,
    room: &mut usize,
) -> Option<ConnectionId> {
    let authority: &Authority = &shared.context.access;
    let needs_token = shared.settings().access == Access::Token;
    loop {
        let page = shared.connections.page(after, CHECKED_AT_ONCE);
        if page.is_empty() {
            return None;
        }
        for handle in page {
            if *room == 0 {
                return Some(after);
            }
            after = handle.id;
            let session = handle.peer.session.load();
            let reason = if authority.is_revoked(&session) {
                Disconnect::Revoked
            } else if needs_token && authority.is_of_open_server(&session) {
                Disconnect::Unauthorized
            } else {
                continue;
            };
            // One that is being closed takes no room: after another change, the check begins again.
            if handle.close_reason().is_none() {
                handle.close(reason);
                *room -= 1;
            }
        }
        yield_now().await;
    }
}
