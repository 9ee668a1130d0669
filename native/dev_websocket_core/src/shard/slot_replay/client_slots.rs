//! The part of a slot replay that belongs to its connection.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{HeldSlots, SlotPermit, SlotReplay};
use crate::log::publication::Publication;
use crate::shard::replay::Deferred;
use crate::wire::control::RequestId;
use crate::wire::slots::SlotStart;

/// Processes of earlier slot replays that a connection remembers, so that it gets no slot of theirs twice.
const MAX_EARLIER: usize = 16;

/// The slots of one process on a connection that has asked for a slot replay.
#[derive(Debug)]
pub(crate) struct ClientSlots {
    pub(crate) held: HeldSlots,
    /// Other processes whose replays have ended on this connection.
    earlier: Vec<HeldSlots>,
    /// The replay, until the connection is live.
    pub(crate) replay: Option<Replaying>,
}

/// A slot replay that has not ended.
#[derive(Debug)]
pub(crate) struct Replaying {
    pub(crate) permit: SlotPermit,
    /// None until the replay has begun, because a replay of publications comes first.
    pub(crate) begun: Option<Arc<SlotReplay>>,
    /// True while the client has to take frames before the next step.
    pub(crate) is_waiting: bool,
    pub(crate) id: RequestId,
    /// Requests that change the subscriptions. They wait until the connection is live.
    pub(crate) deferred: VecDeque<Deferred>,
}

impl ClientSlots {
    pub(crate) fn new(start: SlotStart, permit: SlotPermit, id: RequestId) -> Self {
        Self {
            held: HeldSlots::new(start),
            earlier: Vec::new(),
            replay: Some(Replaying {
                permit,
                begun: None,
                is_waiting: false,
                id,
                deferred: VecDeque::new(),
            }),
        }
    }

    /// Keeps the positions of earlier processes.
    pub(crate) fn after(mut self, before: Option<Box<Self>>) -> Self {
        if let Some(before) = before {
            let others = before.earlier.into_iter().chain([before.held]);
            let process = self.held.cursor().process;
            self.earlier = others
                .filter(|held| held.cursor().process != process)
                .collect();
            let excess = self.earlier.len().saturating_sub(MAX_EARLIER);
            self.earlier.drain(..excess);
        }
        self
    }

    /// Returns true if the connection gets a publication that matches its subscriptions.
    pub(crate) fn passes(&self, publication: &Publication) -> bool {
        self.held.passes(publication) && self.earlier.iter().all(|held| held.passes(publication))
    }
}
