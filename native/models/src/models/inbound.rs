//! Messages of clients in the queue of a listener, which may be replaced or end at the same time.

use std::sync::Arc;

use bytes::Bytes;
use loom::future::block_on;
use loom::sync::Notify;
use loom::thread;

use super::inbound::{Inbound, Listener, Payload};
use crate::sync::Mutex;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("every message gets its room in time, and the room is never more than all of it", room),
    ("who waits for a listener turns to the next one", replaced),
    ("who waits for a listener hears that there is none", ended),
];

/// The model's queue holds one empty message and no more.
const ROOM: u32 = 300;
const COST: u32 = 256;

#[derive(Default)]
struct Heard {
    costs: Mutex<Vec<u32>>,
    any: Notify,
}

#[derive(Clone, Default)]
struct Ears(Arc<Heard>);

impl Listener for Ears {
    fn deliver(&self, _: u64, _: Payload, cost: u32) -> bool {
        self.0.costs.lock().push(cost);
        self.0.any.notify();
        true
    }
}

fn deliver(inbound: &Arc<Inbound>, connection: u64) -> thread::JoinHandle<bool> {
    let inbound = inbound.clone();
    thread::spawn(move || block_on(inbound.deliver(connection, Payload::Text(Bytes::new()))))
}

fn room() {
    let (inbound, ears) = (Arc::new(Inbound::default()), Ears::default());
    let listening = inbound.listen(ears.clone(), ROOM.into());
    let clients = [1, 2].map(|connection| deliver(&inbound, connection));
    let mut acknowledged = 0;
    while acknowledged < 2 {
        let cost = ears.0.costs.lock().pop();
        match cost {
            Some(cost) => {
                assert_eq!(cost, COST);
                listening.acknowledge(cost);
                acknowledged += 1;
            }
            None => ears.0.any.wait(),
        }
    }
    clients.into_iter().for_each(|client| assert!(client.join().unwrap()));
    // All messages are acknowledged, so a further acknowledgement must change nothing.
    listening.acknowledge(COST);
    let full = format!("{listening:?}");
    assert!(full.contains(&format!("free: {ROOM}")), "{full}");
}

fn replaced() {
    let (inbound, first, second) = (Arc::new(Inbound::default()), Ears::default(), Ears::default());
    inbound.listen(first.clone(), ROOM.into());
    let clients = [1, 2].map(|connection| deliver(&inbound, connection));
    inbound.listen(second.clone(), (2 * ROOM).into());
    clients.into_iter().for_each(|client| assert!(client.join().unwrap()));
    let [first, second] = [first, second].map(|ears| ears.0.costs.lock().len());
    assert_eq!(first + second, 2);
    assert!(first <= 1, "it had room for one");
}

fn ended() {
    let (inbound, ears) = (Arc::new(Inbound::default()), Ears::default());
    let listening = inbound.listen(ears.clone(), ROOM.into());
    let clients = [1, 2].map(|connection| deliver(&inbound, connection));
    inbound.unlisten(&listening);
    let heard = clients.map(|client| client.join().unwrap());
    let delivered = heard.iter().filter(|is_heard| **is_heard).count();
    assert_eq!(ears.0.costs.lock().len(), delivered);
    assert!(delivered <= 1, "it had room for one");
}
