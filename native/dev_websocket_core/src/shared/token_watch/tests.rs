use std::net::SocketAddr;

use hyper::header::HeaderMap;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::*;
use crate::access::session::Holder;
use crate::access::{Revocation, Session};
use crate::log::publication_log::Log;
use crate::settings::Settings;
use crate::shard::connection_handle::ConnectionHandle;
use crate::shard::peer::Peer;
use crate::shared::Persistent;
use crate::wire::format::Format;

const COUNT: usize = 1000;

/// A server that needs tokens, and connections with a token of a subject.
struct Crowd {
    shared: Arc<Shared>,
    handles: Vec<ConnectionHandle>,
}

impl Crowd {
    async fn new() -> Self {
        let (log, _cursors) = Log::new(1);
        let settings = Settings {
            access: Access::Token,
            ..Settings::default()
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let (lasting, reading) = (Persistent::default(), Handle::current());
        let shared = Shared::new(settings, address, 1, log, lasting, reading);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap()
            .into_std()
            .unwrap();
        let session = Arc::new(Session {
            grants: Default::default(),
            holder: Some(Holder {
                iss: "issuer".into(),
                sub: "alice".into(),
                jti: None,
                issued_at: 0,
                ends_at: u64::MAX,
            }),
        });
        // All over the same socket, because nobody writes to it.
        let handle = |_| {
            let stream = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
            let peer = Peer::new(address, Format::Json, &HeaderMap::new(), session.clone());
            shared.handle(stream.into(), peer)
        };
        let handles = (0..COUNT).map(handle).collect();
        Self { shared, handles }
    }

    fn closed(&self, reason: Disconnect) -> usize {
        let is_closed = |handle: &&ConnectionHandle| handle.close_reason() == Some(reason);
        self.handles.iter().filter(is_closed).count()
    }

    /// Takes a turn, and then all others. Returns how many connections were closed after the first one.
    async fn first_and_others(&self, reason: Disconnect) -> usize {
        let mut turns = Turns::default();
        turns.take(&self.shared).await;
        let first = self.closed(reason);
        while turns.are_left() {
            tokio::time::advance(PAUSE).await;
            turns.take(&self.shared).await;
        }
        first
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_end_together_close_few_connections_at_once_and_all_in_the_end() {
    let crowd = Crowd::new().await;
    let entries = crowd.handles.iter();
    let _entries: Vec<_> = entries
        .map(|handle| crowd.shared.connections.enter(handle))
        .collect();
    for handle in &crowd.handles {
        crowd.shared.context.access.expiry.set(handle.id, 1, true);
    }
    let reason = Disconnect::TokenExpired;
    assert_eq!(crowd.first_and_others(reason).await, LEAST);
    assert_eq!(crowd.closed(reason), COUNT);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_of_many_tokens_closes_few_connections_at_once_and_all_in_the_end() {
    let crowd = Crowd::new().await;
    let entries = crowd.handles.iter();
    let _entries: Vec<_> = entries
        .map(|handle| crowd.shared.connections.enter(handle))
        .collect();
    let revoked = Revocation::Subject("alice".into(), None);
    let access = &crowd.shared.context.access;
    access.revoke(revoked, &crowd.shared.settings()).unwrap();
    let reason = Disconnect::Revoked;
    assert_eq!(crowd.first_and_others(reason).await, LEAST);
    assert_eq!(crowd.closed(reason), COUNT);
}

#[tokio::test(start_paused = true)]
async fn turns_grow_while_many_are_left_and_begin_small_again() {
    let crowd = Crowd::new().await;
    let expiry = &crowd.shared.context.access.expiry;
    let mut turns = Turns::default();
    let due = |count: usize| (0..count as u64).for_each(|id| expiry.set(id, 1, true));
    due(100_000);
    let mut taken = 0;
    turns.take(&crowd.shared).await;
    while turns.are_left() {
        tokio::time::advance(PAUSE).await;
        turns.take(&crowd.shared).await;
        taken += 1;
    }
    // With the least number it would be 50,000 turns.
    assert!(taken < 6000, "{taken}");
    due(LEAST + 1);
    turns.take(&crowd.shared).await;
    assert!(expiry.next().is_some());
}
