//! The connections in the handshake: they cost memory and a descriptor, and nobody knows what they want.
//!
//! Their number is bounded without a word to those who connect quickly: when there are too many, accepting pauses until
//! one is done, and one that has been silent for a while loses its place. So a crowd that comes at once is served in
//! turn, and one that holds its places for nothing is pushed out of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a connection keeps its place however many others wait.
const GRACE: Duration = Duration::from_secs(1);

/// See the module's text. One per server.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    waiting: Mutex<Waiting>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// In order of their coming.
    places: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    lost: CancellationToken,
}

impl Handshakes {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().places.len()
    }

    /// Waits until there are less than `limit`. True when somebody lost his place for it.
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
                // Its request may be there, and it is us who have not read it yet.
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

    /// Gives a connection its place.
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
    /// Waits until it is lost to somebody else.
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
    async fn who_comes_waits_for_room_until_the_oldest_has_had_its_time() {
        let handshakes = Arc::<Handshakes>::default();
        let first = handshakes.enter();
        assert_eq!(handshakes.room(2).now_or_never(), Some(false));
        let second = handshakes.enter();
        assert_eq!(handshakes.room(2).now_or_never(), None);
        // One that is done makes room for the next without delay.
        let start = Instant::now();
        let room = tokio::spawn({
            let handshakes = handshakes.clone();
            async move { handshakes.room(2).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert!(!room.await.unwrap());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Else the one that came first has to go, and no other.
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
    async fn who_is_about_to_be_served_keeps_its_place_when_it_is_the_server_that_is_late() {
        let handshakes = Arc::<Handshakes>::default();
        let served = handshakes.enter();
        let silent = handshakes.enter();
        tokio::time::advance(GRACE * 2).await;
        // Its request has come, and what serves it has not had its turn yet.
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
