//! Records on their way to the stream: a queue with a bound in bytes, and the window of those that are sent.
//!
//! A record leaves when the stream has it: its acknowledgement came, or it came back from the stream. With a new
//! connection everything that is left is sent again, in order and with the same names. The stream drops what it has
//! already, so it has every record once and in the order of the queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::{Sender, encode_lost, set_sender};
use crate::error::Rejected;
use crate::message::process_id::ProcessId;

/// The memory of a waiting record besides its bytes.
const PLACE: u64 = (size_of::<Waiting>() + 2 * size_of::<(Name, u64)>()) as u64;

/// The records of one server that the stream does not have yet.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The server's own number among all servers of the stream.
    server: u64,
    queue: Mutex<Queue>,
    /// Told when there is something to send.
    added: Notify,
    /// Told when the stream has everything.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The numbers of the events of processes among them.
    events: HashMap<Name, u64>,
    /// The number of the first of them; the first record of a server has number 1.
    first: u64,
    /// The records that are sent over the present connection.
    sent: usize,
    bytes: u64,
    /// Messages that found no room since the last one that did.
    lost: u64,
}

#[derive(Debug)]
struct Waiting {
    name: Name,
    record: Bytes,
    /// The messages that the record stands for, if it is lost.
    messages: u64,
    /// True if the stream has the event from another server. The record is not sent then.
    is_settled: bool,
}

/// The name under which the stream recognizes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// The sender gives it: its server and its number.
    Sender,
    /// An event of a process, which several servers may send.
    Event {
        process: ProcessId,
        slot: u64,
        part: u64,
    },
}

/// A record to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// The number of the record among those of this server.
    pub number: u64,
    /// The name of the record: the same whenever and by whoever it is sent.
    pub name: String,
    /// The process whose result it is.
    pub process: Option<String>,
    /// The encoded record.
    pub bytes: Bytes,
}

impl Outgoing {
    /// Makes an empty queue. The number must differ from that of every other server of the stream.
    pub(crate) fn new(server: u64) -> Arc<Self> {
        let queue = Queue {
            first: 1,
            ..Queue::default()
        };
        Arc::new(Self {
            server,
            queue: Mutex::new(queue),
            added: Notify::new(),
            emptied: Notify::new(),
        })
    }

    /// Returns the server's own number.
    pub(crate) fn server(&self) -> u64 {
        self.server
    }

    /// Adds an encoded record. The call never waits.
    ///
    /// # Errors
    /// [`Rejected::Overload`] if more than `limit` bytes would wait. A record in the place of lost messages tells of
    /// them, as soon as there is room.
    pub(crate) fn push(&self, name: Name, record: Vec<u8>, limit: u64) -> Result<(), Rejected> {
        self.push_all(vec![(name, record)], limit).inspect_err(|_| {
            self.queue.lock().lost += 1;
        })
    }

    /// Adds encoded records without others between them, or none.
    ///
    /// # Errors
    /// [`Rejected::Overload`] if something waits and more than `limit` bytes would. Nothing is lost.
    pub(crate) fn push_all(
        &self,
        records: Vec<(Name, Vec<u8>)>,
        limit: u64,
    ) -> Result<(), Rejected> {
        let mut queue = self.queue.lock();
        let sizes = records
            .iter()
            .map(|(_, record)| record.len() as u64 + PLACE);
        if !queue.waiting.is_empty() && queue.bytes + sizes.sum::<u64>() > limit {
            return Err(Rejected::Overload);
        }
        queue.tell_losses(self.server);
        for (name, record) in records {
            queue.add(self.server, name, record, 1);
        }
        drop(queue);
        self.added.notify_one();
        Ok(())
    }

    /// Returns the next record to send, if fewer than `window` are sent and not acknowledged.
    pub(crate) fn next(&self, window: usize) -> Option<OutgoingRecord> {
        let mut queue = self.queue.lock();
        queue.skip_settled();
        if queue.sent >= window {
            return None;
        }
        let waiting = queue.waiting.get(queue.sent)?;
        let number = queue.first + queue.sent as u64;
        let server = self.server;
        let (name, process) = match &waiting.name {
            Name::Sender => (format!("{server:016x}:{number}"), None),
            Name::Event {
                process,
                slot,
                part,
            } => {
                let process = String::from_utf8_lossy(process).into_owned();
                (format!("{process}:{slot}:{part}"), Some(process))
            }
        };
        let record = OutgoingRecord {
            number,
            name,
            process,
            bytes: waiting.record.clone(),
        };
        queue.sent += 1;
        Some(record)
    }

    /// Waits until a record was added; one that was added since the last call counts.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    /// Waits until the stream has everything.
    pub(crate) async fn emptied(&self) {
        while !self.queue.lock().waiting.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Records that the stream has everything up to a number.
    pub(crate) fn settle(&self, number: u64) {
        let mut queue = self.queue.lock();
        let before = queue.waiting.len();
        while queue.first <= number && !queue.waiting.is_empty() {
            queue.remove_first();
        }
        self.after_removal(&mut queue, before);
    }

    /// Goes on after records have left the queue, which had `before` of them.
    fn after_removal(&self, queue: &mut Queue, before: usize) {
        queue.skip_settled();
        // Nobody may publish again, so the losses are told as soon as there is room. A number from before makes none.
        if queue.waiting.len() < before && queue.tell_losses(self.server) {
            self.added.notify_one();
        }
        if queue.waiting.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// Records that the stream never takes the first record. Returns the number of messages that are lost with it.
    pub(crate) fn refuse(&self, number: u64) -> u64 {
        let mut queue = self.queue.lock();
        if queue.first != number || queue.waiting.is_empty() {
            return 0;
        }
        let messages = queue.remove_first().map_or(0, |waiting| waiting.messages);
        queue.skip_settled();
        queue.lost += messages;
        if queue.tell_losses(self.server) {
            self.added.notify_one();
        }
        messages
    }

    /// Records that the stream has an event of a process from another server. If it was not sent yet, it never is: the
    /// stream itself recognizes it for a while only.
    pub(crate) fn settle_event(&self, event: Name) {
        let mut queue = self.queue.lock();
        let place = queue.events.get(&event).map(|number| number - queue.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(place) = place.filter(|place| *place >= queue.sent)
            && let Some(waiting) = queue.waiting.get_mut(place)
        {
            waiting.is_settled = true;
        }
        let before = queue.waiting.len();
        self.after_removal(&mut queue, before);
    }

    /// Begins again with the first record, because the connection is a new one.
    pub(crate) fn send_again(&self) {
        self.queue.lock().sent = 0;
        self.added.notify_one();
    }

    /// Returns the bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.queue.lock().bytes
    }

    /// Returns the number of records that wait, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

impl Queue {
    fn add(&mut self, server: u64, name: Name, mut record: Vec<u8>, messages: u64) {
        let number = self.first + self.waiting.len() as u64;
        set_sender(&mut record, Sender { server, number });
        self.bytes += record.len() as u64 + PLACE;
        if let Name::Event { .. } = name {
            self.events.insert(name, number);
        }
        self.waiting.push_back(Waiting {
            name,
            record: record.into(),
            messages,
            is_settled: false,
        });
    }

    /// Passes over records that are not sent because the stream has them from another server. Those after others keep
    /// their place, because the numbers of records are their places.
    fn skip_settled(&mut self) {
        while self.waiting.front().is_some_and(|first| first.is_settled) {
            self.remove_first();
        }
        while self
            .waiting
            .get(self.sent)
            .is_some_and(|next| next.is_settled)
        {
            self.sent += 1;
        }
    }

    /// Adds a record about lost messages, if there are any. It may exceed the limit.
    fn tell_losses(&mut self, server: u64) -> bool {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            self.add(server, Name::Sender, encode_lost(lost), lost);
        }
        lost > 0
    }

    fn remove_first(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        if self.events.get(&waiting.name) == Some(&self.first) {
            self.events.remove(&waiting.name);
        }
        self.first += 1;
        self.sent = self.sent.saturating_sub(1);
        self.bytes -= waiting.record.len() as u64 + PLACE;
        Some(waiting)
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
