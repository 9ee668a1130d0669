//! The parts of a server that its shards use. A shard needs nothing else.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;

use crate::access::Authority;
use crate::cluster::state::StreamState;
use crate::log::buffer_pool::BufferPool;
use crate::log::eras::Eras;
use crate::log::publication::now;
use crate::log::publication_log::Log;
use crate::log::slot_marks::SlotMarks;
use crate::settings::Settings;
use crate::settings::active::ActiveSettings;
use crate::shard::command::Command;
use crate::shard::interest::InterestSignal;
use crate::shard::mailbox::Mailbox;
use crate::shard::slot_replay::SlotReplays;
use crate::shard::topic_registry::TopicRegistry;
use crate::telemetry::counters::Counters;
use crate::wire::cursor::{CursorError, Since};

/// The numbers that another server of a stream may be ahead of this one.
const MAX_AHEAD: u64 = 1 << 20;

/// The settings, the log, the topics and the mailboxes of a server.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) active: ArcSwap<ActiveSettings>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access: Authority,
    pub(crate) topics: TopicRegistry,
    /// The numbers that clients see. The epoch differs between servers, so that a client notices when numbers begin
    /// again.
    pub(crate) eras: Eras,
    pub(crate) log: Log,
    pub(crate) mailboxes: Box<[Arc<Mailbox<Command>>]>,
    pub(crate) gauges: Box<[ShardGauges]>,
    pub(crate) buffers: BufferPool,
    /// Publishing progress of each process.
    pub(crate) slots: Arc<SlotMarks>,
    pub(crate) replays: Arc<SlotReplays>,
    /// The stream that the server shares with others, if there is one.
    pub(crate) stream: Option<Arc<StreamState>>,
}

/// Gauges that one shard writes.
#[derive(Debug, Default)]
pub(crate) struct ShardGauges {
    /// Subscriptions of the shard's connections.
    pub(crate) subscriptions: AtomicU64,
}

impl Context {
    /// Creates the context of a server with a number of shards.
    pub(crate) fn new(
        settings: Settings,
        shards: usize,
        log: Log,
        counters: Arc<Counters>,
        access: Authority,
        interest: Arc<InterestSignal>,
        (slots, replays): (Arc<SlotMarks>, Arc<SlotReplays>),
    ) -> Arc<Self> {
        let stream = settings.has_engine().then(|| StreamState::new(random()));
        log.keep(settings.history_bytes);
        let buffers = BufferPool::default();
        buffers.compression.set(settings.compression_min());
        Arc::new(Self {
            active: ArcSwap::new(ActiveSettings::new(settings)),
            counters,
            access,
            topics: TopicRegistry::new(interest),
            eras: Eras::new(&new_epoch()),
            log,
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            gauges: (0..shards).map(|_| ShardGauges::default()).collect(),
            buffers,
            slots,
            replays,
            stream,
        })
    }

    /// Returns the settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.active.load().settings.clone()
    }

    /// Refuses a cursor that no publication has had. Another server of a stream may be ahead of this one, so a client
    /// that comes from there waits until this one has caught up.
    pub(crate) fn check_cursor(&self, since: &Since) -> Result<(), CursorError> {
        let slack = if self.stream.is_some() { MAX_AHEAD } else { 0 };
        self.eras.check(since, self.log.last_seq(), slack)
    }

    /// Gives every shard a command.
    pub(crate) fn tell_shards(&self, command: impl Fn() -> Command) {
        self.mailboxes
            .iter()
            .for_each(|mailbox| mailbox.send(command()));
    }

    /// Wakes sleeping shards after an append to the log.
    pub(crate) fn wake_shards(&self) {
        let appended = self.log.appended_bytes();
        self.mailboxes
            .iter()
            .for_each(|mailbox| mailbox.wake(appended));
    }
}

/// Creates a number that differs from that of every other server, on this machine and at any time.
fn random() -> u64 {
    RandomState::new().hash_one((now(), std::process::id()))
}

/// Creates six characters that differ from the epoch of every other server, on this machine and at any time.
fn new_epoch() -> String {
    let mut number = random();
    let mut epoch = String::new();
    for _ in 0..6 {
        epoch.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
    }
    epoch
}
