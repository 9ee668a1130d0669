//! The next time at which the server must look at a connection with a token, or at one that still needs a token.
//!
//! Each connection has one entry, however often its token is renewed.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::session::Session;

/// Time before the end of a token at which the client is told, in milliseconds.
const NOTICE_MILLIS: u64 = 60_000;

/// The number of a connection.
type Connection = u64;

/// The connections whose permissions end, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    due: Mutex<Due>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Due {
    /// Times in milliseconds since 1970.
    order: BTreeSet<(u64, Connection)>,
    entries: HashMap<Connection, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    ends_at: u64,
    is_told: bool,
}

/// The work for a connection whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// The client is told that its token ends at this time.
    Tell(Connection, u64),
    /// The token is over, or none came in time.
    End(Connection),
}

impl Expiry {
    /// Sets or changes the end of a connection's permissions, in milliseconds since 1970.
    pub(crate) fn set(&self, connection: Connection, ends_at: u64, has_token: bool) {
        let mut due = self.due.lock();
        due.remove(connection);
        // Without a token the client has nothing to renew.
        let at = match has_token {
            true => ends_at.saturating_sub(NOTICE_MILLIS),
            false => ends_at,
        };
        due.insert(
            connection,
            Entry {
                at,
                ends_at,
                is_told: !has_token,
            },
        );
        let is_first = due.order.first() == Some(&(at, connection));
        drop(due);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Sets the end of a session; without one, the connection is forgotten.
    pub(crate) fn renew(&self, connection: Connection, session: &Session) {
        match session.ends_at() {
            Some(ends_at) => self.set(connection, ends_at, true),
            None => self.forget(connection),
        }
    }

    /// Forgets a connection that has ended.
    pub(crate) fn forget(&self, connection: Connection) {
        self.due.lock().remove(connection);
    }

    /// Returns the time of the next task, in milliseconds since 1970.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due.lock().order.first().map(|(at, _)| *at)
    }

    /// Waits until there may be an earlier task, or until [`Self::wake`].
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends the wait.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Takes the next task that is due at `now`, in milliseconds since 1970.
    pub(crate) fn take(&self, now: u64) -> Option<Task> {
        let mut due = self.due.lock();
        let (at, connection) = *due.order.first()?;
        if at > now {
            return None;
        }
        let entry = due.remove(connection)?;
        if entry.is_told || entry.ends_at <= now {
            return Some(Task::End(connection));
        }
        due.insert(
            connection,
            Entry {
                at: entry.ends_at,
                is_told: true,
                ..entry
            },
        );
        Some(Task::Tell(connection, entry.ends_at))
    }
}

impl Due {
    fn insert(&mut self, connection: Connection, entry: Entry) {
        self.order.insert((entry.at, connection));
        self.entries.insert(connection, entry);
    }

    fn remove(&mut self, connection: Connection) -> Option<Entry> {
        let entry = self.entries.remove(&connection)?;
        self.order.remove(&(entry.at, connection));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = NOTICE_MILLIS;

    #[test]
    fn a_client_is_told_a_minute_before_the_end() {
        let expiry = Expiry::default();
        expiry.set(1, 10 * MINUTE, true);
        assert_eq!(expiry.next(), Some(9 * MINUTE));
        assert_eq!(expiry.take(9 * MINUTE - 1), None);
        assert_eq!(expiry.take(9 * MINUTE), Some(Task::Tell(1, 10 * MINUTE)));
        assert_eq!(expiry.take(10 * MINUTE - 1), None);
        assert_eq!(expiry.take(10 * MINUTE), Some(Task::End(1)));
        assert_eq!(expiry.next(), None);
    }

    #[test]
    fn a_renewed_token_has_one_entry_and_its_own_end() {
        let expiry = Expiry::default();
        for end in (10..1000).rev() {
            expiry.set(1, end * MINUTE, true);
        }
        assert_eq!(expiry.due.lock().order.len(), 1);
        assert_eq!(expiry.take(9 * MINUTE), Some(Task::Tell(1, 10 * MINUTE)));
        expiry.set(1, 20 * MINUTE, true);
        assert_eq!(expiry.take(10 * MINUTE), None);
        assert_eq!(expiry.next(), Some(19 * MINUTE));
        expiry.forget(1);
        assert_eq!(expiry.take(u64::MAX), None);
    }

    #[test]
    fn a_short_token_is_told_at_once_and_a_missing_one_never() {
        let expiry = Expiry::default();
        expiry.set(1, MINUTE, true);
        expiry.set(2, MINUTE, false);
        assert_eq!(expiry.take(5), Some(Task::Tell(1, MINUTE)));
        assert_eq!(expiry.take(5), None);
        assert_eq!(expiry.take(MINUTE), Some(Task::End(1)));
        assert_eq!(expiry.take(MINUTE), Some(Task::End(2)));
    }
}
