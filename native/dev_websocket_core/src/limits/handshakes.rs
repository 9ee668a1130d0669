//! A limit on connections in the handshake. They cost memory and a descriptor before their request is known.
//!
//! Clients that connect quickly do not notice the limit: at the limit, accepting pauses until a handshake is done, and
//! a connection that has been silent for a while is evicted. A crowd that arrives at once is served in turn, and idle
//! connections cannot block others.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The time for which a connection cannot be evicted, regardless of the number of others that wait.
const GRACE: Duration = Duration::from_secs(1);

/// The open handshakes of one server; the oldest is evicted when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    waiting: Mutex<Waiting>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The handshakes in order of arrival.
    places: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// The place of one connection among the handshakes; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    lost: CancellationToken,
}

impl Handshakes {
    /// Returns the number of open handshakes.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().places.len()
    }

    /// Waits until there are fewer than `limit` handshakes. The result is true when one was evicted for it.
    pub(crate) async fn room(&self, limit: usize) -> bool {
        let mut has_yielded = false;
        loop {
            let freed = self.freed.notified();
            let patience = {
                let mut waiting = self.waiting.lock();
                let count = waiting.places.len();
                match waiting.places.first_entry() {
                    Some(oldest) if count >= limit => {
                        let patience = oldest.get().0 + GRACE;
                        if patience <= Instant::now() && has_yielded {
                            oldest.remove().1.cancel();
                            return true;
                        }
                        patience
                    }
                    _ => return false,
                }
            };
            if patience <= Instant::now() {
                // The oldest one's request may have arrived, so the server reads first before it evicts.
                has_yielded = true;
                yield_now().await;
                continue;
            }
            tokio::select! {
                () = freed => {}
                () = sleep_until(patience) => {}
            }
        }
    }

    /// Registers a connection in the handshake.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        let lost = CancellationToken::new();
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting
            .places
            .insert(number, (Instant::now(), lost.clone()));
        Place {
            handshakes: self.clone(),
            number,
            lost,
        }
    }
}

impl Place {
    /// Waits until the connection is evicted.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> {
        self.lost.cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.waiting.lock().places.remove(&self.number);
        self.handshakes.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_for_room_until_the_oldest_has_had_its_time() {
        let handshakes = Arc::<Handshakes>::default();
        let first = handshakes.enter();
        assert_eq!(handshakes.room(2).now_or_never(), Some(false));
        let second = handshakes.enter();
        assert_eq!(handshakes.room(2).now_or_never(), None);
        // A completed handshake makes room for the next without delay.
        let start = Instant::now();
        let room = tokio::spawn({
            let handshakes = handshakes.clone();
            async move { handshakes.room(2).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert!(!room.await.unwrap());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Otherwise the oldest handshake is evicted, and no other.
        let third = handshakes.enter();
        assert!(handshakes.room(2).await);
        assert_eq!(start.elapsed(), GRACE);
        assert_eq!(first.lost().now_or_never(), Some(()));
        assert_eq!(third.lost().now_or_never(), None);
        assert_eq!(handshakes.len(), 1);
        drop((first, third));
        assert_eq!(handshakes.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_about_to_be_served_keeps_its_place_when_the_server_is_late() {
        let handshakes = Arc::<Handshakes>::default();
        let served = handshakes.enter();
        let silent = handshakes.enter();
        tokio::time::advance(GRACE * 2).await;
        // Its request has arrived, but the serving task has not run yet.
        let task = tokio::spawn(async move { drop(served) });
        assert!(!handshakes.room(2).await);
        task.await.unwrap();
        assert_eq!(silent.lost().now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_smaller_limit_pushes_out_as_many_as_it_takes() {
        let handshakes = Arc::<Handshakes>::default();
        let places: Vec<_> = (0..5).map(|_| handshakes.enter()).collect();
        tokio::time::advance(GRACE).await;
        while handshakes.room(2).await {}
        assert_eq!(handshakes.len(), 1);
        let lost: Vec<_> = places
            .iter()
            .map(|place| place.lost.is_cancelled())
            .collect();
        assert_eq!(lost, [true, true, true, true, false]);
    }
}
