//! Messages from clients to the program that embeds the engine.
//!
//! At most one listener receives them. A connection's task reserves room for its message before the delivery, and the
//! program releases the room after it has handled the message. A client whose message finds no room is not read from
//! meanwhile, so a slow listener delays messages but loses none.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::sync::{ArcSwapOption, Semaphore};

/// Bytes that a message costs besides its payload, so that empty messages are bounded too.
const PLACE: usize = 256;

/// The content of a client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// UTF-8 text.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

/// Receives the messages of clients.
pub trait Listener: Send + Sync {
    /// Takes a message. The messages of one connection arrive in the order in which it sent them. The method must not
    /// block, because it runs on a thread that reads from clients. `cost` is the argument for
    /// [`Listening::acknowledge`] after the message is handled.
    ///
    /// Returns false if the listener is gone; the message then reached nobody.
    fn deliver(&self, connection: u64, payload: Payload, cost: u32) -> bool;
}

/// A listener, and the room for messages on their way to it.
pub struct Listening {
    listener: Box<dyn Listener>,
    capacity: u32,
    room: Semaphore,
}

/// The route of client messages to the listener. It outlives servers, so that a listener stays when a server restarts.
#[derive(Debug, Default)]
pub struct Inbound {
    current: ArcSwapOption<Listening>,
}

impl Inbound {
    /// Replaces the listener and allows `bytes` bytes of messages on their way to it. Messages that wait for the
    /// previous listener wait for this one.
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

    /// Ends this listener. Messages that wait for it are treated as without a listener.
    pub fn unlisten(&self, listening: &Arc<Listening>) {
        let expected = Some(listening.clone());
        self.current.compare_and_swap(&expected, None);
        listening.room.close();
    }

    /// Hands a message to the listener as soon as there is room for it. Returns false if there is no listener.
    pub(crate) async fn deliver(&self, connection: u64, payload: Payload) -> bool {
        loop {
            let Some(listening) = self.current.load_full() else {
                return false;
            };
            let cost = listening.cost(&payload);
            // An error means that this listener was replaced or has ended, and is no longer the current one.
            if let Ok(room) = listening.room.acquire_many(cost).await {
                room.forget();
                return listening.listener.deliver(connection, payload, cost);
            }
        }
    }
}

impl Listening {
    /// Releases the room of handled messages. `cost` is the sum of their costs.
    pub fn acknowledge(&self, cost: u32) {
        let taken =
            self.capacity as usize - self.room.available_permits().min(self.capacity as usize);
        self.room.add_permits(taken.min(cost as usize));
    }

    /// Returns the room that a message takes. A message larger than the whole room waits until it is alone.
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

    /// Records its messages until it is gone.
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
        // There is room for the small message, but the large one came first.
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
    fn a_message_that_waits_for_a_listener_goes_to_the_next_one_or_to_none() {
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
        // Ending a replaced listener changes nothing.
        inbound.unlisten(&listening);
        assert_eq!((&mut waiting).now_or_never(), None);
        inbound.unlisten(&next);
        assert_eq!(waiting.now_or_never(), Some(false));
        assert_eq!((first.0.lock().len(), second.0.lock().len()), (1, 1));
    }
}
