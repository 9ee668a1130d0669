//! The place where records of the stream become publications, under the numbers that the stream gave them.

use std::sync::Arc;

use thiserror::Error;

use super::events::SeenEvents;
use crate::cluster::outgoing::Name;
use crate::cluster::record::{Content, Record, Unreadable};
use crate::cluster::state::StreamState;
use crate::log::publication::Place;
use crate::log::publication::draft::Draft;
use crate::log::publication::stream_break::StreamBreak;
use crate::log::slot_marks::Position;
use crate::shared::Shared;
use crate::wire::control::GapReason;

/// A record has a number that was received already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the record has a number that was received already")]
pub struct OutOfOrder;

/// The progress of the receiver. Its lock is held while something is appended to the log.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    /// The epoch; none before the stream was first reached.
    epoch: Option<Arc<str>>,
    /// The number of the last record.
    last: u64,
    /// True if that one was not published, so that the next publication begins an era.
    is_behind: bool,
    /// Events of processes that were published.
    events: SeenEvents,
}

impl Inlet {
    pub(super) fn last(&self) -> Option<(Arc<str>, u64)> {
        Some((self.epoch.clone()?, self.last))
    }
}

impl Shared {
    pub(super) fn begin_epoch(&self, epoch: &str, next: u64) {
        let mut inlet = self.inlet.lock();
        let before = inlet.epoch.as_deref();
        if before == Some(epoch) {
            return;
        }
        let is_first = before.is_none();
        let epoch: Arc<str> = epoch.into();
        inlet.epoch = Some(epoch.clone());
        inlet.last = next - 1;
        inlet.is_behind = false;
        inlet.events.clear();
        if is_first {
            // No client has seen any number yet.
            let place = self.context.log.last_seq();
            self.context.eras.begin(&epoch, place, next - 1);
            return;
        }
        tracing::warn!(
            name: "engine_epoch", epoch = &*epoch,
            "The stream of the WebSocket server was made anew or has lost its end; its numbers begin again at {next}."
        );
        self.context.counters.engine_epochs.add(1);
        let gap = StreamBreak {
            reason: GapReason::Epoch,
            after: 0,
            next,
            epoch: Some(epoch.clone()),
        };
        self.begin_era(&epoch, Draft::of_break(gap), next - 1);
        drop(inlet);
        self.context.wake_shards();
    }

    /// Appends a publication that begins an era.
    fn begin_era(&self, epoch: &str, draft: Draft, number: u64) {
        let context = &self.context;
        context
            .eras
            .begin(epoch, context.log.last_seq() + 1, number);
        context.log.append_numbered(draft, number);
    }

    pub(super) fn receive(
        &self,
        state: &StreamState,
        number: u64,
        record: &[u8],
    ) -> Result<(), OutOfOrder> {
        let counters = &self.context.counters;
        let mut inlet = self.inlet.lock();
        let Some(epoch) = inlet.epoch.clone().filter(|_| number > inlet.last) else {
            return Err(OutOfOrder);
        };
        if number - inlet.last > 1 {
            let gap = StreamBreak {
                reason: GapReason::Expired,
                after: inlet.last,
                next: number,
                epoch: None,
            };
            counters.engine_missing.add(gap.dropped());
            inlet.is_behind = false;
            self.begin_era(&epoch, Draft::of_break(gap), number - 1);
        }
        inlet.last = number;
        let draft = match Record::read(record) {
            Ok(record) => {
                let is_repeated = record
                    .place()
                    .is_some_and(|place| !inlet.events.insert(&place));
                let draft = self.draft_of(state, record);
                if is_repeated {
                    // It has a number, and nothing is published under it: nobody misses anything.
                    inlet.is_behind = true;
                    counters.dropped_repeated.add(1);
                    state.note_repeated(number);
                    return Ok(());
                }
                draft
            }
            Err(unreadable) => self.unreadable(unreadable, number),
        };
        let without_topic = draft.is_without_topic();
        if std::mem::take(&mut inlet.is_behind) {
            self.begin_era(&epoch, draft, number);
        } else {
            self.context.log.append_numbered(draft, number);
        }
        drop(inlet);
        counters.publications.add(1);
        counters
            .publications_without_topic
            .add(u64::from(without_topic));
        self.context.wake_shards();
        Ok(())
    }

    fn draft_of(&self, state: &StreamState, record: Record<'_>) -> Draft {
        let is_own = record.sender.server == state.outgoing.server();
        if is_own {
            state.outgoing.settle(record.sender.number);
        }
        if let Content::Message { parts, is_last, .. } = &record.content
            && let Some(place) = parts.place
        {
            self.note_event(place, *is_last);
            if !is_own {
                let Position { slot, part } = place.position;
                let process = place.process;
                state.outgoing.settle_event(Name::Event {
                    process,
                    slot,
                    part,
                });
            }
        }
        record.content.draft(&self.context.buffers)
    }

    /// Moves the mark of the process, if the event is the next one: another server has published it.
    fn note_event(&self, Place { process, position }: Place, is_last: bool) {
        let mut turn = self.slots.take_turn();
        let process = std::str::from_utf8(&process).unwrap_or_default();
        if let Some(mark) = turn.mark(process)
            && mark.published_from(position) == Ok(0)
        {
            if is_last {
                mark.complete(position.slot);
            } else {
                mark.publish_until(Position {
                    part: position.part + 1,
                    ..position
                });
            }
        }
    }

    /// Returns the notice in the place of a record that cannot be read.
    fn unreadable(&self, unreadable: Unreadable, number: u64) -> Draft {
        self.context.counters.engine_unreadable.add(1);
        let reason = unreadable.to_string();
        tracing::warn!(
            name: "engine_unreadable", reason, number,
            "The WebSocket server cannot read record {number} of its stream: {reason}."
        );
        unreadable.notice(number)
    }

    /// Appends a notice that concerns this server alone, and so has no number of the stream.
    pub(crate) fn append_own(&self, draft: Draft) {
        let mut inlet = self.inlet.lock();
        inlet.is_behind = false;
        match &inlet.epoch {
            Some(epoch) => self.begin_era(epoch, draft, inlet.last),
            None => {
                self.context.log.append_numbered(draft, 0);
            }
        }
    }
}
