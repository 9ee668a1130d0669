//! The other direction: what clients send to the program that the engine lives in.
//!
//! One listener gets it, when there is one. A connection's task takes room for its message before it hands it over, and
//! the program gives the room back when it is done with the message. A client whose message finds no room is not read
//! from meanwhile, so a slow listener costs patience and no message.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::sync::{ArcSwapOption, Semaphore};

/// What a message takes beside its bytes, so that empty ones are bounded too.
const PLACE: usize = 256;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// UTF-8 text.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

/// Who gets the messages of clients.
pub trait Listener: Send + Sync {
    /// Takes a message. Those of one connection come in the order in which it sent them. It must not wait: it runs on a
    /// thread that reads from clients. `cost` is for [`Listening::acknowledge`] when the message is dealt with.
    ///
    /// False says that the listener is gone, and nobody has got the message.
    fn deliver(&self, connection: u64, payload: Payload, cost: u32) -> bool;
}

/// A listener, and the room for messages on their way to it.
pub struct Listening {
    listener: Box<dyn Listener>,
    capacity: u32,
    room: Semaphore,
}

/// Where the messages of clients go. It outlives servers, so that a listener keeps its place when one is restarted.
#[derive(Debug, Default)]
pub struct Inbound {
    current: ArcSwapOption<Listening>,
}

impl Inbound {
    /// Makes this the listener from now on, with so many bytes of messages on their way to it. Messages that wait for the
    /// one before wait for this one.
    pub fn listen(&self, listener: impl Listener + 'static, bytes: u64) -> Arc<Listening> {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX);
        let listening = Arc::new(Listening {
            listener: Box::new(listener),
            capacity,
            room: Semaphore::new(capacity as usize),
        });
        if let Some(before) = self.current.swap(Some(listening.clone())) {
            before.room.close();
        }
        listening
    }

    /// Ends this listener. Messages that wait for it go the way of those that nobody listens to.
    pub fn unlisten(&self, listening: &Arc<Listening>) {
        let expected = Some(listening.clone());
        self.current.compare_and_swap(&expected, None);
        listening.room.close();
    }

    /// Hands a message to the listener, as soon as there is room for it. False when nobody listens.
    pub(crate) async fn deliver(&self, connection: u64, payload: Payload) -> bool {
        loop {
            let Some(listening) = self.current.load_full() else {
                return false;
            };
            let cost = listening.cost(&payload);
            // An error means that this listener was replaced or has ended, and no longer is the current one.
            if let Ok(room) = listening.room.acquire_many(cost).await {
                room.forget();
                return listening.listener.deliver(connection, payload, cost);
            }
        }
    }
}

impl Listening {
    /// Says that messages of so much cost in all are dealt with.
    pub fn acknowledge(&self, cost: u32) {
        let taken =
            self.capacity as usize - self.room.available_permits().min(self.capacity as usize);
        self.room.add_permits(taken.min(cost as usize));
    }

    /// The room that a message takes. One that is larger than all of it waits until it is alone.
    fn cost(&self, payload: &Payload) -> u32 {
        let (Payload::Text(bytes) | Payload::Binary(bytes)) = payload;
        u32::try_from(bytes.len() + PLACE).map_or(self.capacity, |cost| cost.min(self.capacity))
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listening")
            .field("capacity", &self.capacity)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use futures::FutureExt;
    use parking_lot::Mutex;

    /// Keeps what it gets, until it is gone.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(u64, usize, u32)>>>);

    impl Listener for Heard {
        fn deliver(&self, connection: u64, payload: Payload, cost: u32) -> bool {
            let (Payload::Text(bytes) | Payload::Binary(bytes)) = payload;
            self.0.lock().push((connection, bytes.len(), cost));
            true
        }
    }

    fn text(length: usize) -> Payload {
        Payload::Text(vec![b'x'; length].into())
    }

    #[test]
    fn messages_wait_for_room_in_their_order() {
        let (inbound, heard) = (Inbound::default(), Heard::default());
        let listening = inbound.listen(heard.clone(), 1000);
        assert_eq!(inbound.deliver(1, text(100)).now_or_never(), Some(true));
        assert_eq!(inbound.deliver(1, text(100)).now_or_never(), Some(true));
        let mut large = Box::pin(inbound.deliver(2, text(100_000)));
        assert_eq!((&mut large).now_or_never(), None);
        // There is room for a small one, but the large one came first.
        let mut small = Box::pin(inbound.deliver(3, text(0)));
        assert_eq!((&mut small).now_or_never(), None);
        listening.acknowledge(2 * 356);
        assert_eq!(large.now_or_never(), Some(true));
        assert_eq!((&mut small).now_or_never(), None);
        listening.acknowledge(1000);
        assert_eq!(small.now_or_never(), Some(true));
        let expected = [
            (1, 100, 356),
            (1, 100, 356),
            (2, 100_000, 1000),
            (3, 0, 256),
        ];
        assert_eq!(*heard.0.lock(), expected);
    }

    #[test]
    fn more_than_was_taken_cannot_be_given_back() {
        let inbound = Inbound::default();
        let listening = inbound.listen(Heard::default(), 1000);
        listening.acknowledge(u32::MAX);
        assert_eq!(listening.room.available_permits(), 1000);
    }

    #[test]
    fn who_waits_for_a_listener_turns_to_the_next_one_or_to_none() {
        let (inbound, first, second) = (Inbound::default(), Heard::default(), Heard::default());
        assert_eq!(inbound.deliver(1, text(1)).now_or_never(), Some(false));
        let listening = inbound.listen(first.clone(), 300);
        assert_eq!(inbound.deliver(1, text(1)).now_or_never(), Some(true));
        let mut waiting = Box::pin(inbound.deliver(1, text(2)));
        assert_eq!((&mut waiting).now_or_never(), None);
        let next = inbound.listen(second.clone(), 300);
        assert_eq!(waiting.now_or_never(), Some(true));
        assert_eq!(second.0.lock().len(), 1);
        let mut waiting = Box::pin(inbound.deliver(1, text(3)));
        assert_eq!((&mut waiting).now_or_never(), None);
        // The end of one that is not there any more changes nothing.
        inbound.unlisten(&listening);
        assert_eq!((&mut waiting).now_or_never(), None);
        inbound.unlisten(&next);
        assert_eq!(waiting.now_or_never(), Some(false));
        assert_eq!((first.0.lock().len(), second.0.lock().len()), (1, 1));
    }
}
