//! The client of a connection as its writer shard sees it: send buffer, subscriptions and replay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::batch::Batch;
use super::frames::Frames;
use super::ids::{EntryIndex, Seq};
use super::outbox::{Outbox, SendCounts};
use super::replay::Replay;
use super::selection::Selection;
use super::slot_replay::ClientSlots;
use crate::log::eras::{Eras, Shown};
use crate::log::publication::Publication;
use crate::log::slot_marks::Position;
use crate::shard::connection_state::ConnectionState;
use crate::shard::context::Context;
use crate::telemetry::panics::panic_point;
use crate::wire::close::Disconnect;
use crate::wire::format::{Form, Format, SlowPolicy};
use crate::wire::gzip;
use crate::wire::sse;

/// A client of the shard: its connection, its subscriptions and the frames queued for it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) state: Arc<ConnectionState>,
    pub(crate) format: Format,
    /// True if publications go out compressed.
    pub(crate) is_compressed: bool,
    slow: SlowPolicy,
    pub(crate) selection: Selection,
    /// The replay in progress. Until it ends, the client takes no part in batches.
    pub(crate) replay: Option<Box<Replay>>,
    /// The slots of a process that the client gets from a slot replay. Most clients have none.
    pub(crate) slots: Option<Box<ClientSlots>>,
    /// Everything up to this sequence number was handled: sent, queued, dropped or not matched.
    pub(crate) served: Seq,
    /// Subscriptions with publications that were not sent to the client yet.
    pub(crate) active: Vec<EntryIndex>,
    /// True while the client stands in the shard's queue.
    pub(crate) is_queued: bool,
    outbox: Outbox,
    /// The load last published for operators: queued bytes and queued frames.
    shown: (usize, usize),
    /// True while the connection is being closed: it gets no more publications.
    is_muted: bool,
    /// True if the writing side ends as soon as the send buffer is empty.
    is_finishing: bool,
    /// True if the client is removed at the end of the turn, see [`super::clients`].
    pub(super) is_broken: bool,
}

impl Client {
    pub(crate) fn new(
        state: Arc<ConnectionState>,
        format: Format,
        slow: SlowPolicy,
        served: Seq,
    ) -> Self {
        let form = Form {
            format,
            is_compressed: state.peer.form.is_compressed,
        };
        Self {
            state,
            format,
            is_compressed: form.is_compressed,
            slow,
            selection: Selection::default(),
            replay: None,
            slots: None,
            served,
            active: Vec::new(),
            is_queued: false,
            outbox: Outbox::new(form),
            shown: (0, 0),
            is_muted: false,
            is_finishing: false,
            is_broken: false,
        }
    }

    /// Notes that one of its subscriptions has publications for it. The list may contain a subscription twice.
    pub(crate) fn activate(&mut self, entry: EntryIndex) {
        if self.active.last() == Some(&entry) {
            return;
        }
        // The list is cleaned only after it has doubled, so that each call costs constant time on average.
        if self.active.len() > 2 * self.selection.len() {
            self.active.sort_unstable();
            self.active.dedup();
        }
        self.active.push(entry);
    }

    /// Returns the number of publications in the send buffer.
    pub(crate) fn waiting_publications(&self) -> u64 {
        self.outbox.publications()
    }

    /// Sends publications. Of those that the socket does not take, at most `limit` bytes are queued.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn deliver(
        &mut self,
        batch: &Batch,
        frames: Frames<'_>,
        limit: usize,
        sent: &mut SendCounts,
        context: &Context,
    ) -> io::Result<()> {
        let seqs = frames.seqs;
        let matched = batch.messages(seqs);
        sent.matched += matched;
        panic_point!("client::deliver");
        if self.is_muted {
            sent.dropped_disconnected += matched;
            return Ok(());
        }
        if self.format == Format::Raw && matched < seqs.len() as u64 {
            return self.deliver_raw_messages(batch, seqs, limit, sent, context);
        }
        let is_marked = self.format == Format::Events && self.slots.is_some();
        if self.format == Format::Events && !is_marked {
            for publication in seqs.iter().map(|seq| batch.get(*seq)) {
                self.prepare_event(publication, &context.eras);
            }
        }
        if is_marked {
            for seq in seqs {
                let publication = batch.get(*seq);
                let shown = context.eras.at(publication.seq());
                self.push_marked(publication.clone(), &shown);
            }
            if !self.outbox.is_blocked() {
                self.flush(sent)?;
            }
        } else if self.outbox.is_empty() {
            let socket = &self.state.socket;
            self.outbox
                .send(batch, frames, sent, |slices| socket.write(slices))?;
            if self.outbox.is_blocked() || socket.has_pending() {
                self.state.block();
            }
        } else {
            seqs.iter()
                .for_each(|seq| self.outbox.push(batch.get(*seq).clone()));
        }
        if self.outbox.is_over(limit) {
            match self.slow {
                SlowPolicy::Gap => {
                    let dropped = self.outbox.drop_oldest(limit);
                    self.count_dropped(dropped, sent);
                }
                SlowPolicy::Latest => {
                    let dropped = self.outbox.drop_for_latest(limit);
                    self.count_dropped(dropped, sent);
                }
                SlowPolicy::Close => self.disconnect_slow(sent),
            }
        }
        self.show_load();
        Ok(())
    }

    /// Delivers only messages, because the raw format has no frame for missing results. A lost message closes the
    /// connection; missing results of a process can be seen from their slots.
    fn deliver_raw_messages(
        &mut self,
        batch: &Batch,
        seqs: &[Seq],
        limit: usize,
        sent: &mut SendCounts,
        context: &Context,
    ) -> io::Result<()> {
        let messages: Vec<Seq> = seqs
            .iter()
            .copied()
            .filter(|seq| batch.get(*seq).is_message())
            .collect();
        if seqs.iter().any(|seq| batch.get(*seq).is_loss()) {
            self.disconnect_slow(sent);
            sent.dropped_disconnected += messages.len() as u64;
            return Ok(());
        }
        if messages.is_empty() {
            return Ok(());
        }
        // The caller has counted these publications already.
        let matched = sent.matched;
        let result = self.deliver(batch, Frames::scattered(&messages), limit, sent, context);
        sent.matched = matched;
        result
    }

    /// Closes a slow connection that misses publications and cannot be told so, or that chose to be closed then.
    pub(crate) fn disconnect_slow(&mut self, sent: &mut SendCounts) {
        self.mute();
        self.state.close(Disconnect::Slow);
        let dropped = self.drop_all();
        self.count_dropped(dropped, sent);
    }

    fn count_dropped(&self, dropped: u64, sent: &mut SendCounts) {
        sent.dropped_slow += dropped;
        self.state
            .load
            .dropped
            .fetch_add(dropped, Ordering::Relaxed);
    }

    /// Publishes the load for operators if it has changed.
    fn show_load(&mut self) {
        let shown = (self.outbox.waiting(), self.outbox.len());
        if shown != self.shown {
            self.shown = shown;
            self.state.load.show(shown.0 as u64, shown.1 as u64);
        }
    }

    fn prepare_event(&self, publication: &Publication, eras: &Eras) {
        if self.is_compressed {
            publication.prepare_gzip_event(eras);
        } else {
            publication.prepare_event(eras);
        }
    }

    /// Returns the form of the client's frames.
    pub(crate) fn form(&self) -> Form {
        Form {
            format: self.format,
            is_compressed: self.is_compressed,
        }
    }

    /// Stops publications to the client and drops the queued ones.
    pub(crate) fn give_up(&mut self, sent: &mut SendCounts) {
        self.mute();
        sent.dropped_disconnected += self.drop_all();
    }

    /// Closes the connection because of a panic. Returns false if that was tried before: closing itself may panic, so
    /// there is no second try.
    pub(crate) fn close_after_fault(&mut self, sent: &mut SendCounts) -> bool {
        let is_first = self.state.close_reason() != Some(Disconnect::Panic);
        if is_first {
            self.give_up(sent);
            self.state.close(Disconnect::Panic);
        }
        is_first
    }

    fn drop_all(&mut self) -> u64 {
        let dropped = self.outbox.drop_all();
        self.state.control_sent(dropped.control_bytes);
        self.state.direct_sent(dropped.direct_bytes);
        dropped.publications
    }

    /// Sends replayed publications. The caller bounds their number. Those of the stream have no place in the log, so
    /// the caller names the epoch of their numbers.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn deliver_past(
        &mut self,
        mut publications: Vec<Arc<Publication>>,
        epoch: Option<&Arc<str>>,
        sent: &mut SendCounts,
        context: &Context,
    ) -> io::Result<()> {
        let is_message = |publication: &&Arc<Publication>| publication.is_message();
        let matched = publications.iter().filter(is_message).count() as u64;
        sent.matched += matched;
        if self.is_muted {
            sent.dropped_disconnected += matched;
            return Ok(());
        }
        if self.format == Format::Raw && matched < publications.len() as u64 {
            if publications.iter().any(|publication| publication.is_loss()) {
                self.disconnect_slow(sent);
                sent.dropped_disconnected += matched;
                return Ok(());
            }
            publications.retain(|publication| publication.is_message());
        }
        for publication in publications {
            if self.format == Format::Events {
                let shown = match epoch {
                    Some(epoch) => Shown {
                        epoch: epoch.clone(),
                        number: publication.shown_number(),
                    },
                    None => context.eras.at(publication.seq()),
                };
                if self.slots.is_some() {
                    self.push_marked(publication, &shown);
                    continue;
                }
                if self.is_compressed {
                    publication.prepare_gzip_event_at(&shown);
                } else {
                    publication.prepare_event_at(&shown);
                }
            }
            self.outbox.push(publication);
        }
        self.flush(sent)
    }

    /// Queues a publication as a server-sent event whose cursor carries the next slot as well.
    fn push_marked(&mut self, publication: Arc<Publication>, shown: &Shown) {
        if let Some(slots) = &mut self.slots {
            slots.held.note(&publication);
        }
        let end = gzip::end_of(&self.event_end(shown), self.is_compressed).into();
        self.outbox.push_with(publication, Some(end));
    }

    /// Returns the end of a server-sent event at a number.
    pub(crate) fn event_end(&self, shown: &Shown) -> String {
        let slots = self.slots.as_ref();
        let suffix = slots.map_or_else(String::new, |slots| slots.held.cursor().suffix());
        sse::end_at(&shown.epoch, shown.number, &suffix)
    }

    /// Queues a frame of a slot replay, and notes the event after it.
    pub(crate) fn push_replayed(&mut self, frame: &Bytes, next: Position, shown: &Shown) {
        if let Some(slots) = &mut self.slots {
            slots.held.move_to(next);
        }
        let frame = match self.format {
            Format::Events => {
                let event = sse::of(frame, self.event_end(shown).as_bytes());
                gzip::of(event, self.is_compressed)
            }
            Format::Json | Format::Raw | Format::Edges => frame.clone(),
        };
        self.outbox.push_replayed(frame);
    }

    /// Returns true if frames of a slot replay are queued.
    pub(crate) fn has_replayed_frames(&self) -> bool {
        self.outbox.has_replayed()
    }

    /// Returns true if the socket takes nothing at present.
    pub(crate) fn is_blocked(&self) -> bool {
        self.outbox.is_blocked()
    }

    /// Returns true if the send buffer is empty.
    pub(crate) fn has_taken_everything(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Queues a frame that is no publication; the next write sends it.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        self.outbox.push_control(bytes);
    }

    /// Sends frames of the control protocol behind the queued frames.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn send_control(&mut self, frames: Bytes, sent: &mut SendCounts) -> io::Result<()> {
        self.outbox.push_control(frames);
        if self.outbox.is_blocked() {
            Ok(())
        } else {
            self.flush(sent)
        }
    }

    /// Sends a frame for this connection alone behind the queued frames. Nothing follows a close frame.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn send_direct(&mut self, frame: Bytes, sent: &mut SendCounts) -> io::Result<()> {
        if self.is_muted {
            return Ok(());
        }
        self.outbox.push_direct(frame);
        if self.outbox.is_blocked() {
            Ok(())
        } else {
            self.flush(sent)
        }
    }

    /// Sends the queued frames.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn flush(&mut self, sent: &mut SendCounts) -> io::Result<()> {
        let socket = &self.state.socket;
        let (control_bytes, direct_bytes) = (sent.control_bytes, sent.direct_bytes);
        self.outbox.flush(sent, |slices| socket.write(slices))?;
        self.show_load();
        self.state.control_sent(sent.control_bytes - control_bytes);
        self.state.direct_sent(sent.direct_bytes - direct_bytes);
        let socket = &self.state.socket;
        let is_written = !self.outbox.is_blocked()
            && if self.is_finishing {
                // The client reads to the end of the stream; its task reads on until the client closes its side.
                socket.finish()?
            } else {
                socket.flush()?
            };
        if !is_written {
            self.state.block();
        } else if self.is_finishing {
            self.state.end();
        }
        Ok(())
    }

    /// Stops live and replayed publications to the client.
    pub(crate) fn mute(&mut self) {
        self.is_muted = true;
        self.replay = None;
        if let Some(slots) = &mut self.slots {
            slots.replay = None;
        }
    }

    /// Returns true if the client gets no more publications.
    pub(crate) fn is_muted(&self) -> bool {
        self.is_muted
    }

    /// Stops publications, sends the queued frames and then ends the writing side.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn finish(&mut self, sent: &mut SendCounts) -> io::Result<()> {
        self.mute();
        self.is_finishing = true;
        self.flush(sent)
    }
}
