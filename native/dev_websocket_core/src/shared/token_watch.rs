//! The task that ends permissions: it tells clients that their token ends, closes connections whose token is over or
//! revoked, and reads the files of keys and revocations again when they change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::access::{Authority, Task};
use crate::log::publication::now;
use crate::settings::Access;
use crate::shard::command::Command;
use crate::shared::Shared;
use crate::wire::close::Disconnect;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Number of connections that are checked without a pause.
const CHECKED_AT_ONCE: usize = 256;

/// Watches until the server stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut looked = tokio::time::Instant::now();
    loop {
        let authority = &shared.context.access;
        let wait = match shared.settings().access {
            Access::Open => None,
            Access::Token => {
                let until_due = authority.expiry.next().map(|at| at.saturating_sub(now()));
                let until_due = until_due.map_or(LOOK, Duration::from_millis);
                Some(until_due.min(LOOK))
            }
        };
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = authority.expiry.changed() => {}
            () = async { sleep(wait.unwrap_or_default()).await }, if wait.is_some() => {}
        }
        if wait.is_some() && looked.elapsed() >= LOOK {
            looked = tokio::time::Instant::now();
            let files = shared.clone();
            // A slow disk holds up this thread and no other.
            let read = move || files.context.access.reload(&files.settings());
            let _ = tokio::task::spawn_blocking(read).await;
        }
        end_due(&shared).await;
        if authority.take_change() {
            end_refused(&shared).await;
        }
    }
}

async fn end_due(shared: &Shared) {
    let mut count = 0;
    while let Some(task) = shared.context.access.expiry.take(now()) {
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
        count += 1;
        if count % CHECKED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Closes connections whose token was revoked, or which have no token although the server needs one now.
async fn end_refused(shared: &Shared) {
    let authority: &Authority = &shared.context.access;
    let needs_token = shared.settings().access == Access::Token;
    let mut after = 0;
    loop {
        let page = shared.connections.page(after, CHECKED_AT_ONCE);
        let Some(last) = page.last() else { return };
        after = last.id;
        for handle in page {
            let session = handle.peer.session.load();
            if authority.is_revoked(&session) {
                handle.close(Disconnect::Revoked);
            } else if needs_token && authority.is_of_open_server(&session) {
                handle.close(Disconnect::Unauthorized);
            }
        }
        tokio::task::yield_now().await;
    }
}
