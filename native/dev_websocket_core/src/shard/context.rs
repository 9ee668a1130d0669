//! The parts of a server that its shards use. A shard needs nothing else.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;

use crate::access::Authority;
use crate::cluster::state::StreamState;
use crate::log::buffer_pool::BufferPool;
use crate::log::eras::{Eras, Found};
use crate::log::publication::now;
use crate::log::publication::stream_break::StreamBreak;
use crate::log::publication_log::Log;
use crate::log::slot_marks::SlotMarks;
use crate::settings::Settings;
use crate::settings::active::ActiveSettings;
use crate::shard::command::Command;
use crate::shard::ids::Seq;
use crate::shard::interest::InterestSignal;
use crate::shard::mailbox::Mailbox;
use crate::shard::slot_replay::SlotReplays;
use crate::shard::stream_reads::StreamReads;
use crate::shard::topic_registry::TopicRegistry;
use crate::telemetry::counters::Counters;
use crate::wire::control::GapReason;
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
    /// Reads of the stream for clients whose cursor is older than the history.
    pub(crate) reads: Arc<StreamReads>,
    /// The stream that the server shares with others, if there is one.
    pub(crate) stream: Option<Arc<StreamState>>,
}

/// The place where the publications after a cursor begin.
#[derive(Debug)]
pub(crate) enum Start {
    /// In the log, after this place.
    Log(Seq),
    /// In the log, after this place. The client is told the gap first.
    Gap(Seq, StreamBreak),
    /// In the stream, after this number of the epoch. The log has forgotten what follows, or never had it.
    Stream { epoch: Arc<str>, after: u64 },
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
            reads: Arc::default(),
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

    /// Finds where the publications after a cursor begin. A client with a cursor of another epoch gets the whole history
    /// of this one.
    pub(crate) fn locate(&self, since: &Since) -> Start {
        let can_read = self.stream.as_ref().is_some_and(|stream| stream.can_read());
        let epoch = || {
            let epoch = since.epoch.as_deref().map(Arc::from);
            epoch.unwrap_or_else(|| self.eras.epoch())
        };
        // The oldest place that the log has after a place, and the first number that comes from there on.
        let oldest_after = |place: Seq| {
            let first = self.log.read(place + 1, 0).first;
            (first, self.eras.next_number(first))
        };
        let gap = |reason, after, (first, epoch), next| {
            let gap = StreamBreak {
                reason,
                after,
                next,
                epoch,
            };
            Start::Gap(first - 1, gap)
        };
        match self.eras.find(since) {
            Found::At(place) => {
                let (first, next) = oldest_after(place.min(self.log.last_seq()));
                if !can_read || first <= place + 1 || self.eras.at(first).epoch != epoch() {
                    Start::Log(place)
                } else if next <= since.seq.saturating_add(1) {
                    // Notices of this server alone are all that is missing.
                    Start::Log(first - 1)
                } else {
                    Start::Stream {
                        epoch: epoch(),
                        after: since.seq,
                    }
                }
            }
            Found::Before(_) if can_read => Start::Stream {
                epoch: epoch(),
                after: since.seq,
            },
            Found::Before(place) => {
                let (first, next) = oldest_after(place);
                gap(GapReason::Expired, since.seq, (first, None), next)
            }
            Found::OtherEpoch(place) => {
                let (first, next) = oldest_after(place);
                let epoch = self.eras.at(first).epoch;
                gap(GapReason::Epoch, 0, (first, Some(epoch)), next)
            }
        }
    }

    /// Returns the oldest place of the log in the current epoch, and the gap after a number up to there.
    pub(crate) fn rest_of(&self, after: u64) -> (Seq, Option<StreamBreak>) {
        let first = self.oldest();
        let next = self.eras.next_number(first);
        let gap = StreamBreak {
            reason: GapReason::Expired,
            after,
            next,
            epoch: None,
        };
        (first, (gap.dropped() > 0).then_some(gap))
    }

    /// Returns the first number that the log still has of an epoch; none if that is not the current one.
    pub(crate) fn oldest_number(&self, epoch: &str) -> Option<u64> {
        let is_current = *self.eras.epoch() == *epoch;
        is_current.then(|| self.eras.next_number(self.oldest()))
    }

    fn oldest(&self) -> Seq {
        let (_, beginning) = self.eras.beginning();
        self.log.read(beginning + 1, 0).first
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
