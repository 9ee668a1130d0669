//! Inspection of connections for operators, and disconnection of single ones.

use crate::server::Server;
use crate::server::send::SendError;
use crate::shared::connection_info::{ASKED_AT_ONCE, ConnectionInfo, ask};
use crate::wire::close::Disconnect;

/// The answer to a caller, delivered when this is dropped. Whichever way the work ends, there is exactly one answer.
struct Promise<T, F: FnOnce(T)> {
    found: Option<T>,
    answer: Option<F>,
}

impl<T, F: FnOnce(T)> Promise<T, F> {
    fn new(found: T, answer: F) -> Self {
        Self {
            found: Some(found),
            answer: Some(answer),
        }
    }

    /// Changes the answer.
    fn add(&mut self, change: impl FnOnce(&mut T)) {
        self.found.as_mut().map(change);
    }
}

impl<T, F: FnOnce(T)> Drop for Promise<T, F> {
    fn drop(&mut self) {
        if let (Some(found), Some(answer)) = (self.found.take(), self.answer.take()) {
            answer(found);
        }
    }
}

impl Server {
    /// Requests the properties of a connection. The answer comes on another thread; it is `None` if the connection has
    /// ended meanwhile.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once, if there is no such connection; there is no other answer then.
    pub fn connection(
        &self,
        connection: u64,
        answer: impl FnOnce(Option<ConnectionInfo>) + Send + 'static,
    ) -> Result<(), SendError> {
        let Some(handle) = self.shared.connections.find(connection) else {
            return Err(SendError::NoConnection);
        };
        let mut promise = Promise::new(None, answer);
        self.runtime.spawn(async move {
            let headers = handle.peer.headers();
            let headers = headers.map(|(name, value)| (name.to_vec(), value.to_vec()));
            let known = ask(&handle).await.map(|known| ConnectionInfo {
                headers: headers.collect(),
                ..known
            });
            promise.add(|found| *found = known);
        });
        Ok(())
    }

    /// Requests a page of connections: at most `limit` with ids above `after`, in order. The answer comes on another
    /// thread, without connections that have ended meanwhile.
    ///
    /// The work is proportional to the page. It is done in small parts, so that shards do not keep other connections
    /// waiting.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] at once, if there are none; there is no other answer then.
    pub fn connections(
        &self,
        after: u64,
        limit: usize,
        answer: impl FnOnce(Vec<ConnectionInfo>) + Send + 'static,
    ) -> Result<(), SendError> {
        let handles = self.shared.connections.page(after, limit);
        if handles.is_empty() {
            return Err(SendError::NoConnection);
        }
        let mut promise = Promise::new(Vec::with_capacity(handles.len()), answer);
        self.runtime.spawn(async move {
            for handles in handles.chunks(ASKED_AT_ONCE) {
                let asked: Vec<_> = handles.iter().map(ask).collect();
                for known in asked {
                    let known = known.await;
                    promise.add(|found| found.extend(known));
                }
            }
        });
        Ok(())
    }

    /// Closes a connection with code 1008.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] if the connection has ended or never existed.
    pub fn disconnect(&self, connection: u64) -> Result<(), SendError> {
        let handle = self.shared.connections.find(connection);
        let handle = handle.ok_or(SendError::NoConnection)?;
        handle.close(Disconnect::Operator);
        Ok(())
    }
}
