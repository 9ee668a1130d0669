//! A reader of slots in place of a node: every slot has two events.

use std::sync::mpsc::{Receiver, Sender, channel};

use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{DueReplay, Event, InterestWatcher, Position, ReplayRejected};
use serde_json::Value as Json;

use super::{Client, PATIENCE, TestServer, message};

pub(crate) const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

pub(crate) fn at(slot: u64, part: u64) -> Position {
    Position { slot, part }
}

pub(crate) fn events<'a>(data: &[&'a str]) -> Vec<Event<'a>> {
    let event = |data: &&'a str| Event {
        message: Some(message("t", data)),
        origin: Provenance::default(),
    };
    data.iter().map(event).collect()
}

pub(crate) fn from_slot(slot: u64) -> String {
    format!("?process={ID}&from-slot={slot}")
}

/// Publishes the two events of a slot.
pub(crate) fn publish(server: &TestServer, slot: u64) {
    let text = slot.to_string();
    server
        .publish_part(ID, at(slot, 0), events(&[&text, "message"]), true)
        .unwrap();
}

/// The part of a node that reads slots.
pub(crate) struct Reader {
    pub(crate) told: Receiver<()>,
}

impl Reader {
    pub(crate) fn new(server: &TestServer) -> Self {
        struct Teller(Sender<()>);
        impl InterestWatcher for Teller {
            fn changed(&self) -> bool {
                self.0.send(()).is_ok()
            }
        }
        let (teller, told) = channel();
        server.slots.set_mark(ID, 0);
        server.replays.watch(Teller(teller));
        Self { told }
    }

    /// Waits for a replay.
    pub(crate) fn due(&self, server: &TestServer) -> DueReplay {
        loop {
            if let [due] = server.replays.take_due(1).0[..] {
                return due;
            }
            self.told.recv_timeout(PATIENCE).unwrap();
        }
    }

    /// Hands over a slot, or goes live.
    pub(crate) fn step(&self, server: &TestServer, due: DueReplay) -> Result<(), ReplayRejected> {
        let DueReplay { id, next, .. } = due;
        if next.slot >= server.slots.mark(ID).unwrap().next().slot {
            return server.replay_live(id);
        }
        let text = next.slot.to_string();
        let all = events(&[&text, "message"]);
        let rest = all.into_iter().skip(next.part as usize).collect();
        server.replay_part(id, next, rest, true)
    }

    /// Serves replays until one goes live.
    pub(crate) fn until_live(&self, server: &TestServer) {
        loop {
            let due = self.due(server);
            self.step(server, due).unwrap();
            let is_last = due.next.slot >= server.slots.mark(ID).unwrap().next().slot;
            if is_last {
                return;
            }
        }
    }
}

pub(crate) fn slots(frames: &[Json]) -> Vec<u64> {
    let of_result = |frame: &&Json| frame["data"]["data"] != "message";
    let results = frames.iter().filter(of_result);
    results
        .map(|frame| frame["slot"].as_u64().unwrap())
        .collect()
}

pub(crate) fn messages(client: &mut Client, count: usize) -> Vec<Json> {
    (0..count).map(|_| client.message()).collect()
}
