//! Whether messages come in the order in which they were cast, and none is missing without a word. Needs no ledger: every
//! topic is cast by one source, and both count their messages.

use crate::choice::{Selection, TOPICS, Table};
use crate::frames::Message;

/// Topic `n` is cast by source `n % SOURCES`.
pub(crate) const SOURCES: usize = 4;

#[derive(Debug)]
pub(crate) struct Order {
    /// The last message of each topic, 0 before the first.
    topics: Box<[u64; TOPICS]>,
    sources: [u64; SOURCES],
    /// Topics of which every message is chosen.
    whole: Box<[bool; TOPICS]>,
    /// Messages that are missing by the count of their topic.
    missing: u64,
    /// Messages that are missing by what the server told.
    told: u64,
}

impl Order {
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            topics: Box::new([0; TOPICS]),
            sources: [0; SOURCES],
            whole: Box::new(std::array::from_fn(|topic| table.has_whole(topic))),
            missing: 0,
            told: 0,
        }
    }

    /// As [`Self::new`] for a replay of what is new: what the connection has had is missing in it.
    pub(crate) fn of_replay() -> Self {
        Self::new(&Selection::default().table())
    }

    /// What was before is not compared with what comes.
    pub(crate) fn begin(&mut self) {
        *self.topics = [0; TOPICS];
        self.sources = [0; SOURCES];
    }

    pub(crate) fn told(&mut self, messages: u64) {
        self.told += messages;
    }

    pub(crate) fn message(&mut self, message: Message) -> Result<(), String> {
        let Some(topic) = message.class.topic() else {
            return Ok(());
        };
        let last = std::mem::replace(&mut self.topics[topic], message.of_topic);
        if message.of_topic <= last {
            let number = message.of_topic;
            return Err(format!("message {number} of topic {topic} after {last}"));
        }
        if last > 0 && self.whole[topic] {
            self.missing += message.of_topic - last - 1;
        }
        let source = topic % SOURCES;
        let last = std::mem::replace(&mut self.sources[source], message.of_source);
        if message.of_source <= last {
            let number = message.of_source;
            return Err(format!("message {number} of source {source} after {last}"));
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.missing > self.told {
            let Self { missing, told, .. } = self;
            return Err(format!(
                "{missing} messages are missing, {told} of them told"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Choice, Class};

    fn order(choices: &[Choice]) -> Order {
        Order::new(&Selection::of(choices.iter().copied()).table())
    }

    fn message(topic: usize, of_topic: u64, of_source: u64) -> Message {
        Message {
            class: Class::new(topic, 0),
            of_topic,
            of_source,
        }
    }

    #[test]
    fn each_topic_and_each_source_keeps_its_order() {
        let mut order = order(&[Choice::Everything]);
        order.message(message(1, 1, 10)).unwrap();
        order.message(message(5, 7, 11)).unwrap();
        order.message(message(2, 1, 1)).unwrap();
        assert!(order.message(message(1, 1, 12)).is_err());
        assert!(order.message(message(5, 8, 11)).is_err());
    }

    #[test]
    fn what_is_missing_of_a_whole_topic_must_be_told() {
        let mut order = order(&[Choice::Topic(1)]);
        order.message(message(1, 5, 5)).unwrap();
        order.message(message(1, 8, 8)).unwrap();
        assert!(order.check().is_err());
        order.told(2);
        order.check().unwrap();
        order.begin();
        order.message(message(1, 80, 80)).unwrap();
        order.check().unwrap();
    }

    #[test]
    fn of_a_topic_that_is_chosen_in_part_nobody_knows() {
        let mut order = order(&[Choice::Topic(1), Choice::Template(0)]);
        order.message(message(1, 5, 5)).unwrap();
        order.message(message(1, 8, 8)).unwrap();
        order.check().unwrap();
    }
}
