//! Publication of process results: the events of a slot, part by part, and gaps for missing slots.
//!
//! A publisher reads the slots of a process one after the other. Marks record the next event, so that a restarted
//! reader neither repeats nor skips any.

use std::borrow::Cow;

use thiserror::Error;

use crate::cluster::outgoing::Name;
use crate::cluster::record;
use crate::error::Rejected;
use crate::log::publication::draft::Draft;
use crate::log::publication::slot_gap::{SlotGap, SlotGapNotice};
use crate::log::slot_marks::{Mark, OutOfOrder, Position, Turn};
use crate::message::topic::{Topic, Topics};
use crate::server::Server;
use crate::server::publish::Event;
use crate::settings::active::ActiveSettings;
use crate::shard::interest::Interest;
use crate::shared::Shared;

/// Limit on the events of one part of a slot.
pub const MAX_PART_EVENTS: usize = 256;

/// Limit on the bytes of their JSON; a single event may exceed it.
pub const MAX_PART_BYTES: usize = 4 * 1024 * 1024;

/// Reasons for which events of a slot, or a gap of missing ones, were not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SlotRejected {
    /// The whole slot is published already.
    #[error("the slot is already published")]
    Repeated,
    /// Publication would skip something: this event comes next.
    #[error("expected slot {}, event {}", .0.slot, .0.part)]
    Expected(Position),
    /// No mark says where the process begins.
    #[error("the process has no slot mark")]
    NoMark,
    /// The slot would end without its edge, and a client wants one: see [`Server::wants_edges`].
    #[error("a client wants the edge of the slot")]
    EdgeWanted,
    /// There is no room at present, and nothing is lost.
    #[error("the publish queue is full")]
    Overload,
    /// More than [`MAX_PART_EVENTS`] or [`MAX_PART_BYTES`].
    #[error("too many events in one call")]
    TooMuch,
}

impl Server {
    /// Returns the processes with subscribers, with at most `max` ids.
    #[must_use]
    pub fn interest(&self, max: usize) -> Interest {
        self.shared.context.topics.interest(max)
    }

    /// Returns whether a client wants the edges of a process. The edge is then the last event of each slot, see
    /// [`Provenance::is_edge`](crate::message::provenance::Provenance::is_edge).
    #[must_use]
    pub fn wants_edges(&self, process: &str) -> bool {
        let topic = Topic::of_edges(process);
        topic.is_ok_and(|topic| self.shared.context.topics.has_subscribers(&topic))
    }

    /// Publishes events of one slot of a process in order, all of them or none. `start` is the position of the first
    /// one. Events that are published already are skipped.
    ///
    /// An event whose data is too large is published with a stub that says where to GET it.
    ///
    /// # Errors
    /// [`SlotRejected`]; nothing was published then.
    pub fn publish_part<'a>(
        &self,
        process: &'a str,
        start: Position,
        events: Vec<Event<'a>>,
        is_last: bool,
    ) -> Result<(), SlotRejected> {
        let shared = &*self.shared;
        let published = self.published_from(process, start)?;
        if events.len() > MAX_PART_EVENTS {
            return Err(self.too_much());
        }
        let end = Position {
            part: start.part.saturating_add(events.len() as u64),
            ..start
        };
        let active = shared.context.active.load();
        let skipped = usize::try_from(published).unwrap_or(usize::MAX);
        let drafts = self.draft_part(&active, process, start, events, skipped)?;
        let mut turn = shared.slots.take_turn();
        let mark = next_mark(&mut turn, process)?;
        if mark.published_from(start) != Ok(published) {
            // Another publisher has published some of it meanwhile.
            drop(turn);
            self.published_from(process, start)?;
            return Err(SlotRejected::Overload);
        }
        // Asked under the lock: a client that subscribes later is live from a later slot on.
        if is_last && !drafts.iter().any(Draft::is_edge) && self.wants_edges(process) {
            return Err(SlotRejected::EdgeWanted);
        }
        let without_topic = drafts.iter().filter(|draft| draft.is_without_topic());
        let (count, without_topic) = (drafts.len() as u64, without_topic.count() as u64);
        match &shared.context.stream {
            None => {
                let limit = active.settings.publish_queue_bytes;
                shared.context.log.append_or_none(drafts, limit)?;
            }
            Some(stream) => {
                let records = records_of(&drafts, is_last);
                let limit = active.settings.engine_bytes;
                stream.outgoing.push_all(records, limit)?;
            }
        }
        if is_last {
            mark.complete(start.slot);
        } else {
            mark.publish_until(end);
        }
        drop(turn);
        let counters = &shared.context.counters;
        if count > 0 && shared.context.stream.is_none() {
            shared.context.wake_shards();
            counters.publications.add(count);
            counters.publications_without_topic.add(without_topic);
        }
        counters.results_published.add(u64::from(is_last));
        Ok(())
    }

    /// Encodes events of a slot that begin at a position, except those skipped. All events of processes are made here,
    /// new and replayed ones.
    pub(super) fn draft_part<'a>(
        &self,
        active: &ActiveSettings,
        process: &'a str,
        start: Position,
        events: Vec<Event<'a>>,
        skipped: usize,
    ) -> Result<Vec<Draft>, SlotRejected> {
        let mut bytes = 0;
        let mut drafts = Vec::with_capacity(events.len());
        for (mut event, part) in events.into_iter().zip(start.part..).skip(skipped) {
            let origin = &mut event.origin;
            origin.process.get_or_insert(Cow::Borrowed(process));
            origin.slot.get_or_insert(start.slot);
            let draft = self.draft_event(active, &event)?;
            bytes += draft.data_bytes();
            if bytes > MAX_PART_BYTES && !drafts.is_empty() {
                return Err(self.too_much());
            }
            drafts.push(draft.at(process, Position { part, ..start }));
        }
        Ok(drafts)
    }

    /// Tells the subscribers of a process that results are missing, and moves its mark behind them.
    ///
    /// # Errors
    /// [`SlotRejected`]; nothing was published then. Missing slots must begin with the next one.
    pub fn publish_slot_gap(&self, process: &str, gap: SlotGap) -> Result<(), SlotRejected> {
        let shared = &*self.shared;
        let limit = shared.context.active.load().settings.publish_queue_bytes;
        let mut turn = shared.slots.take_turn();
        let mut topics = topics_of(process);
        if self.wants_edges(process) {
            topics.extend(Topic::of_edges(process));
        }
        let draft = Draft::of_slot_gap(
            topics,
            SlotGapNotice {
                process: process.into(),
                gap,
            },
        );
        match gap.slots() {
            Some(slots) => {
                let mark = next_mark(&mut turn, process)?;
                if slots.from() != mark.next().slot {
                    return Err(SlotRejected::Expected(mark.next()));
                }
                shared.append_slot_gap(draft, limit)?;
                let may_come = !matches!(gap, SlotGap::NotFollowed(_) | SlotGap::NotReplayed(_));
                mark.skip_to(slots.to(), may_come);
            }
            None => shared.append_slot_gap(draft, limit)?,
        }
        drop(turn);
        shared.context.wake_shards();
        let counters = &shared.context.counters;
        match gap {
            SlotGap::NotCached(slots) => counters.slot_gaps_not_cached.add(slots.count()),
            SlotGap::Withheld(slots) => counters.slot_gaps_withheld.add(slots.count()),
            SlotGap::NotFollowed(slots) => counters.slot_gaps_not_followed.add(slots.count()),
            // Only a slot replay has such a gap, and it counts them.
            SlotGap::NotReplayed(_) => {}
            SlotGap::Limit => counters.tails_limit.add(1),
        }
        Ok(())
    }

    fn published_from(&self, process: &str, start: Position) -> Result<u64, SlotRejected> {
        let slots = &self.shared.slots;
        slots
            .published_from(process, start)
            .ok_or(SlotRejected::NoMark)?
            .map_err(|reason| match reason {
                OutOfOrder::Past => {
                    self.shared.context.counters.dropped_repeated.add(1);
                    SlotRejected::Repeated
                }
                OutOfOrder::Ahead(next) => SlotRejected::Expected(next),
            })
    }

    pub(super) fn too_much(&self) -> SlotRejected {
        self.shared.context.counters.dropped_malformed.add(1);
        SlotRejected::TooMuch
    }
}

/// Returns the records of the events of a slot. All servers that publish the slot name them alike.
fn records_of(drafts: &[Draft], is_last: bool) -> Vec<(Name, Vec<u8>)> {
    let last = drafts.len().saturating_sub(1);
    let parts = drafts.iter().filter_map(Draft::parts).enumerate();
    parts
        .map(|(index, parts)| {
            let name = parts.place.map_or(Name::Sender, |place| Name::Event {
                process: place.process,
                slot: place.position.slot,
                part: place.position.part,
            });
            (name, record::encode(&parts, is_last && index == last))
        })
        .collect()
}

impl Shared {
    /// Appends a notice about missing slots. It is about this server's cache, so other servers do not get it.
    fn append_slot_gap(&self, draft: Draft, queue_limit: u64) -> Result<(), Rejected> {
        match &self.context.stream {
            None => self.context.log.append_or_none(vec![draft], queue_limit),
            Some(_) => {
                self.append_own(draft);
                Ok(())
            }
        }
    }
}

impl From<Rejected> for SlotRejected {
    fn from(_: Rejected) -> Self {
        // Neither a draft with a stub in place of its data nor the log has another reason.
        Self::Overload
    }
}

fn next_mark<'t>(turn: &'t mut Turn<'_>, process: &str) -> Result<&'t mut Mark, SlotRejected> {
    turn.mark(process).ok_or(SlotRejected::NoMark)
}

/// Returns the topics of the events of a process; none if its name makes no topic.
fn topics_of(process: &str) -> Topics {
    ["process", "from"]
        .iter()
        .filter_map(|key| Topic::of_tag(key, process).ok())
        .collect()
}

#[cfg(test)]
mod tests;
