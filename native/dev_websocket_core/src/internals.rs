//! Steps of the path of a message, each alone, for the micro-benchmarks in `benches/`. Not part of the API.

use std::sync::Arc;

use crate::directory::Directory;
use crate::message::Value;
use crate::publication::{Draft, Publication};
use crate::shard::registry::{ConnectionIndex, Registry};
use crate::subscription::Subscription;
use crate::topic::Topics;

/// A frame as the sockets get it.
#[derive(Debug)]
pub struct Frame(Arc<Publication>);

impl Frame {
    /// Encodes and numbers a message.
    ///
    /// # Panics
    /// When the message is larger than 1 MiB of JSON.
    #[must_use]
    pub fn assemble(topics: Topics, message: &Value<'_>, seq: u64) -> Self {
        #[allow(clippy::expect_used, reason = "a benchmark's own messages are small")]
        let draft = Draft::encode(topics, message, 1 << 20, false).expect("small enough");
        Self(draft.number(seq))
    }

    /// The bytes of its frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.json_frame()
    }
}

/// The subscriptions of one shard.
#[derive(Debug)]
pub struct Matcher(Registry);

impl Matcher {
    /// One subscription for each name, each of a connection of its own.
    ///
    /// # Panics
    /// When a name is no topic.
    #[must_use]
    pub fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let directory = Directory::default();
        let mut registry = Registry::new();
        for (connection, name) in names.enumerate() {
            #[allow(clippy::expect_used, reason = "a benchmark's own names are valid")]
            let subscription = Subscription::parse(name).expect("a topic");
            registry.subscribe(subscription, connection as ConnectionIndex, &directory);
        }
        Self(registry)
    }

    /// How many connections are told of a batch.
    pub fn matches<'f>(&mut self, batch: impl Iterator<Item = &'f Frame>) -> usize {
        batch.for_each(|frame| self.0.list(&frame.0));
        let mut told = 0;
        self.0.tell_touched(|_, _| told += 1);
        self.0.end_batch();
        told
    }
}
