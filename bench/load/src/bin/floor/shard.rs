//! A writer thread and its sockets.

use crate::{
    Mode,
    outbox::{Gone, Outbox},
    queue::{Item, Queue},
};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

const WAKE: Token = Token(usize::MAX);
/// Topics are numbers up to this.
const MAX_TOPICS: usize = 1 << 20;

/// Starts a shard; it ends with the process.
pub(crate) fn start(mode: Mode) -> io::Result<Arc<Queue>> {
    let poll = Poll::new()?;
    let queue = Arc::new(Queue::new(Waker::new(poll.registry(), WAKE)?));
    let shard = Shard {
        poll,
        queue: Arc::clone(&queue),
        outboxes: Vec::new(),
        topics: Vec::new(),
        batches: Vec::new(),
        touched: Vec::new(),
        gone: Vec::new(),
    };
    std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || {
            if let Err(error) = shard.run(mode) {
                eprintln!("floor: writer: {error}");
                std::process::exit(1);
            }
        })?;
    Ok(queue)
}

struct Shard {
    poll: Poll,
    queue: Arc<Queue>,
    /// By number of the connection; numbers are not used again.
    outboxes: Vec<Option<Outbox>>,
    /// Connections at each topic.
    topics: Vec<Vec<u32>>,
    /// What each connection gets of the batch at hand, as positions in it; only with several topics.
    batches: Vec<Vec<u32>>,
    /// Connections with a batch.
    touched: Vec<u32>,
    gone: Vec<u32>,
}

type Message = (usize, Arc<[u8]>);

impl Shard {
    fn run(mut self, mode: Mode) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let (mut items, mut messages) = (Vec::new(), Vec::<Message>::new());
        loop {
            self.queue.take(&mut items);
            // Something to do: only look whether sockets have room again. Nothing to do: sleep.
            let wait = if items.is_empty() {
                None
            } else {
                Some(Duration::ZERO)
            };
            self.poll(&mut events, wait)?;
            for item in items.drain(..) {
                match item {
                    Item::Send { topic, frame } => messages.push((topic, frame)),
                    Item::Join { stream, topics } => {
                        self.send(mode, &messages);
                        messages.clear();
                        self.join(stream, &topics)?;
                    }
                }
            }
            self.send(mode, &messages);
            messages.clear();
            self.forget_gone();
        }
    }

    fn poll(&mut self, events: &mut Events, wait: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            let number = event.token().0;
            let Some(outbox) = self.outboxes.get_mut(number).and_then(Option::as_mut) else {
                continue;
            };
            // Nothing that clients send is read, but their going must be seen, or their sockets would stay.
            if event.is_read_closed() || outbox.flush().is_err() {
                self.gone.push(number as u32);
            }
        }
        self.forget_gone();
        Ok(())
    }

    fn join(&mut self, stream: std::net::TcpStream, topics: &[usize]) -> io::Result<()> {
        let number = self.outboxes.len();
        let mut outbox = Outbox::new(TcpStream::from_std(stream));
        // Edge-triggered: the kernel speaks up only after a write that did not fit, or when the other side closed.
        self.poll.registry().register(
            outbox.stream(),
            Token(number),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.outboxes.push(Some(outbox));
        self.batches.push(Vec::new());
        for topic in topics.iter().copied().filter(|topic| *topic < MAX_TOPICS) {
            if self.topics.len() <= topic {
                self.topics.resize_with(topic + 1, Vec::new);
            }
            self.topics[topic].push(number as u32);
        }
        Ok(())
    }

    fn send(&mut self, mode: Mode, messages: &[Message]) {
        match (mode, messages) {
            (_, []) => {}
            (Mode::Write, messages) => self.send_each(messages),
            (Mode::Coalesce, [(first, _), rest @ ..])
                if rest.iter().all(|(topic, _)| topic == first) =>
            {
                self.send_same(*first, messages)
            }
            (Mode::Coalesce, messages) => self.send_grouped(messages),
        }
    }

    fn send_each(&mut self, messages: &[Message]) {
        for (topic, frame) in messages {
            for number in self.topics.get(*topic).into_iter().flatten() {
                let sent = self.outboxes[*number as usize]
                    .as_mut()
                    .map_or(Ok(()), |outbox| outbox.send(frame));
                note(sent, *number, &mut self.gone);
            }
        }
    }

    /// One topic: the same vector for every socket.
    fn send_same(&mut self, topic: usize, messages: &[Message]) {
        let slices: Vec<_> = messages
            .iter()
            .map(|(_, frame)| IoSlice::new(frame))
            .collect();
        for number in self.topics.get(topic).into_iter().flatten() {
            let sent = self.outboxes[*number as usize]
                .as_mut()
                .map_or(Ok(()), |outbox| {
                    outbox.send_all(&slices, |i| &messages[i].1)
                });
            note(sent, *number, &mut self.gone);
        }
    }

    /// Several topics: each socket its own vector.
    fn send_grouped(&mut self, messages: &[Message]) {
        for (position, (topic, _)) in messages.iter().enumerate() {
            for number in self.topics.get(*topic).into_iter().flatten() {
                let batch = &mut self.batches[*number as usize];
                if batch.is_empty() {
                    self.touched.push(*number);
                }
                batch.push(position as u32);
            }
        }
        let mut slices = Vec::new();
        for number in self.touched.drain(..) {
            let batch = &mut self.batches[number as usize];
            if let Some(outbox) = &mut self.outboxes[number as usize] {
                slices.clear();
                slices.extend(
                    batch
                        .iter()
                        .map(|position| IoSlice::new(&messages[*position as usize].1)),
                );
                let sent = outbox.send_all(&slices, |i| &messages[batch[i] as usize].1);
                note(sent, number, &mut self.gone);
            }
            batch.clear();
        }
    }

    fn forget_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        for number in self.gone.drain(..) {
            self.outboxes[number as usize] = None;
        }
        let outboxes = &self.outboxes;
        for topic in &mut self.topics {
            topic.retain(|number| outboxes[*number as usize].is_some());
        }
    }
}

fn note(sent: Result<(), Gone>, number: u32, gone: &mut Vec<u32>) {
    if sent.is_err() {
        gone.push(number);
    }
}
