//! Single steps of the engine, for the micro-benchmarks in `benches/` and the fuzz targets in `native/fuzz`. These
//! items are not part of the API.

pub mod inflating;
pub mod peers;
pub mod reading;
pub mod tokens;

use std::sync::Arc;

use crate::error::Rejected;
use crate::log::buffer_pool::BufferPool;
use crate::log::publication::Publication;
use crate::log::publication::draft::Draft;
use crate::message::Value;
use crate::message::json::TooLong;
use crate::message::provenance::{Provenance, UNKNOWN};
use crate::message::topic::Topics;
use crate::message::topics::{TopicRules, TopicSet};
use crate::message::writer::{MessageWriter, Trees};
use crate::server::Server;
use crate::settings::Settings;
use crate::shard::command::{Answer, Command};
use crate::shard::ids::ConnectionIndex;
use crate::shard::registry::Registry;
use crate::shard::topic_registry::TopicRegistry;
use crate::subscription::Subscription;
use crate::subscription::filters::Filters;
use crate::subscription::template::Template;
use crate::wire::control::regex;

/// Writes a message value by value, as the embedder does. Returns its JSON and its topics.
///
/// # Errors
/// The call returns [`TooLong`] when the JSON is longer than the limit.
pub fn walked(
    message: &Value<'_>,
    rules: &TopicRules,
    origin: &Provenance<'_>,
    limit: usize,
    commitments: bool,
) -> Result<(Vec<u8>, TopicSet), TooLong> {
    let (trees, mut json) = (Trees::default(), Vec::new());
    let mut writer = MessageWriter::new(&mut json, limit, commitments, rules, &trees);
    writer.walk(message)?;
    let set = rules.select(&writer.into_candidates(), origin);
    Ok((json, set))
}

/// Runs a function on the shard thread of a connection, if that connection is alive.
pub fn on_shard(server: &Server, connection: u64, act: impl FnOnce() + Send + 'static) {
    if let Some(handle) = server.shared.connections.find(connection) {
        let answer = Answer::new(move |_| act());
        handle.tell(Command::Topics { connection, answer });
    }
}

/// A message frame as it is written to sockets.
#[derive(Debug)]
pub struct Frame(Arc<Publication>);

impl Frame {
    /// Encodes and numbers a message.
    ///
    /// # Panics
    /// The call panics when the message is larger than 1 MiB of JSON.
    #[must_use]
    pub fn assemble(topics: Topics, message: &Value<'_>, seq: u64) -> Self {
        #[allow(clippy::expect_used, reason = "a benchmark's own messages are small")]
        let draft = Draft::encode(
            &BufferPool::default(),
            topics,
            message,
            &UNKNOWN,
            1 << 20,
            false,
        )
        .expect("small enough");
        Self(draft.number(seq, seq))
    }

    /// Encodes and numbers a message with the options that settings can select.
    ///
    /// # Errors
    /// The call returns [`Rejected::TooLarge`] when the message's JSON is longer than the limit.
    pub fn encode(
        topics: Topics,
        message: &Value<'_>,
        origin: &Provenance<'_>,
        limit: usize,
        commitments: bool,
        seq: u64,
    ) -> Result<Self, Rejected> {
        let draft = Draft::encode(
            &BufferPool::default(),
            topics,
            message,
            origin,
            limit,
            commitments,
        )?;
        Ok(Self(draft.number(seq, seq)))
    }

    /// Returns the bytes of the frame in the JSON format.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.json_frame()
    }

    /// Returns the bytes of the frame in the raw format.
    #[must_use]
    pub fn raw_bytes(&self) -> Vec<u8> {
        let (header, data) = self.0.raw_frame();
        [header, data].concat()
    }

    /// Returns the message in the form that templates match.
    #[must_use]
    pub fn message(&self) -> Option<serde_json::Value> {
        self.0.message()
    }
}

/// The subject of a subscription.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'c> {
    /// A topic or a glob.
    Topic(&'c str),
    /// A regular expression.
    Match(&'c str),
    /// A template.
    Template(&'c str),
}

impl Choice<'_> {
    fn read(self) -> Subscription {
        let subscription = match self {
            Self::Topic(name) => Subscription::parse(name).ok(),
            Self::Match(text) => regex(text).ok(),
            Self::Template(text) => Template::parse(text).ok().map(Subscription::Template),
        };
        #[allow(clippy::expect_used, reason = "a benchmark's own choices are valid")]
        subscription.expect("a subscription")
    }
}

/// The subscriptions of one shard.
#[derive(Debug)]
pub struct Matcher(Registry, TopicRegistry, Filters);

impl Default for Matcher {
    fn default() -> Self {
        Self(
            Registry::new(),
            TopicRegistry::default(),
            Filters::default(),
        )
    }
}

impl Matcher {
    /// Adds a subscription of a connection.
    ///
    /// # Panics
    /// The call panics when the choice is invalid or exceeds a limit that all connections share.
    pub fn subscribe(&mut self, connection: usize, choice: Choice<'_>) {
        let mut subscription = [choice.read()];
        let Self(registry, topics, filters) = self;
        #[allow(clippy::expect_used, reason = "a benchmark keeps within the limits")]
        filters
            .hold(&mut subscription, &Settings::default())
            .expect("room");
        let [subscription] = subscription;
        registry.subscribe(subscription, connection as ConnectionIndex, topics);
    }

    /// Ends a subscription of a connection.
    ///
    /// # Panics
    /// The call panics when the choice is invalid.
    pub fn unsubscribe(&mut self, connection: usize, choice: Choice<'_>) {
        let Self(registry, topics, _) = self;
        if let Some(entry) = registry.find(&choice.read()) {
            registry.unsubscribe(entry, connection as ConnectionIndex, topics);
        }
    }

    /// Returns the number of comparisons of patterns with topics, and of templates with messages.
    #[must_use]
    pub fn compared(&self) -> (u64, u64) {
        self.0.compared()
    }

    /// Returns the number of connections that match a batch.
    pub fn matches<'f>(&mut self, batch: impl Iterator<Item = &'f Frame>) -> usize {
        batch.for_each(|frame| self.0.list(&frame.0));
        let mut told = 0;
        let tell = |_, _| {
            told += 1;
            None
        };
        self.0.tell_touched(tell, |_, _| {});
        self.0.end_batch();
        told
    }
}
