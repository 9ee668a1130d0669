//! One connection as its writer shard sees it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::batch::Batch;
use super::frames::Frames;
use super::ids::{EntryIndex, Seq};
use super::outbox::{Outbox, SendCounts};
use super::replay::Replay;
use super::selection::Selection;
use crate::log::publication::Publication;
use crate::shard::connection_state::ConnectionState;
use crate::shard::context::Context;
use crate::telemetry::panics::panic_point;
use crate::wire::close::Disconnect;
use crate::wire::format::{Format, SlowPolicy};

/// A broken pipe is an error for us, not a signal for the whole program.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) state: Arc<ConnectionState>,
    pub(crate) format: Format,
    slow: SlowPolicy,
    pub(crate) selection: Selection,
    /// It gets past publications and takes no part in batches.
    pub(crate) replay: Option<Box<Replay>>,
    /// The last publication that it needs no more: everything up to here was sent, or not for it.
    pub(crate) served: Seq,
    /// Its subscriptions with publications that it has not been served yet.
    pub(crate) active: Vec<EntryIndex>,
    /// It waits for its turn.
    pub(crate) is_queued: bool,
    outbox: Outbox,
    /// What was last shown of it: bytes, and entries.
    shown: (usize, usize),
    /// No publications any more: the connection is being closed.
    is_muted: bool,
    /// The writing side ends once nothing waits.
    is_finishing: bool,
    /// The client is removed when the turn is over, see [`super::clients`].
    pub(super) is_broken: bool,
}

impl Client {
    pub(crate) fn new(
        state: Arc<ConnectionState>,
        format: Format,
        slow: SlowPolicy,
        served: Seq,
    ) -> Self {
        Self {
            state,
            format,
            slow,
            selection: Selection::default(),
            replay: None,
            served,
            active: Vec::new(),
            is_queued: false,
            outbox: Outbox::new(format),
            shown: (0, 0),
            is_muted: false,
            is_finishing: false,
            is_broken: false,
        }
    }

    /// Notes one of its subscriptions that has publications for it. It may stand there twice.
    pub(crate) fn activate(&mut self, entry: EntryIndex) {
        if self.active.last() == Some(&entry) {
            return;
        }
        // As many again are new before it is looked through once more.
        if self.active.len() > 2 * self.selection.len() {
            self.active.sort_unstable();
            self.active.dedup();
        }
        self.active.push(entry);
    }

    /// Publications that still wait for it.
    pub(crate) fn waiting_publications(&self) -> u64 {
        self.outbox.publications()
    }

    /// Sends publications; at most `limit` bytes of those that the socket does not take are kept.
    ///
    /// # Errors
    /// When the socket is broken.
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
        if self.format == Format::Events {
            seqs.iter()
                .for_each(|seq| batch.get(*seq).prepare_event(&context.epoch));
        }
        if self.outbox.is_empty() {
            let stream = &self.state.stream;
            self.outbox
                .send(batch, frames, sent, |slices| write(stream, slices))?;
            if self.outbox.is_blocked() {
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

    /// Delivers the messages alone: the raw format has no frame for what is missing. A connection that a message was lost
    /// for is closed; missing results of a process are known from their slots.
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
        // They are counted already.
        let matched = sent.matched;
        let result = self.deliver(batch, Frames::scattered(&messages), limit, sent, context);
        sent.matched = matched;
        result
    }

    /// Closes a connection that misses publications and cannot be told, or does not want to go on then.
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

    /// Shows what waits, when that has changed.
    fn show_load(&mut self) {
        let shown = (self.outbox.waiting(), self.outbox.len());
        if shown != self.shown {
            self.shown = shown;
            self.state.load.show(shown.0 as u64, shown.1 as u64);
        }
    }

    /// Takes no more publications, and forgets those that wait.
    pub(crate) fn give_up(&mut self, sent: &mut SendCounts) {
        self.mute();
        sent.dropped_disconnected += self.drop_all();
    }

    /// Has the connection closed because of a panic. False when it was asked for before: the panic may be in the closing
    /// itself, so there is no second try.
    pub(crate) fn close_after_fault(&mut self, sent: &mut SendCounts) -> bool {
        let is_first = self.state.close_reason() != Some(Disconnect::RequestError);
        if is_first {
            self.give_up(sent);
            self.state.close(Disconnect::RequestError);
        }
        is_first
    }

    fn drop_all(&mut self) -> u64 {
        let dropped = self.outbox.drop_all();
        self.state.control_sent(dropped.control_bytes);
        self.state.direct_sent(dropped.direct_bytes);
        dropped.publications
    }

    /// Sends past publications, which the caller keeps few.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn deliver_past(
        &mut self,
        mut publications: Vec<Arc<Publication>>,
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
                publication.prepare_event(&context.epoch);
            }
            self.outbox.push(publication);
        }
        self.flush(sent)
    }

    /// Whether nothing waits for its socket.
    pub(crate) fn has_taken_everything(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Puts what is not of the publications behind what waits, to be sent with what follows.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        self.outbox.push_control(bytes);
    }

    /// Sends frames of the control protocol, behind what waits.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn send_control(&mut self, frames: Bytes, sent: &mut SendCounts) -> io::Result<()> {
        self.outbox.push_control(frames);
        if self.outbox.is_blocked() {
            Ok(())
        } else {
            self.flush(sent)
        }
    }

    /// Sends a frame that is for this connection alone, behind what waits. Nothing follows a close frame.
    ///
    /// # Errors
    /// When the socket is broken.
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

    /// Sends what waits.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn flush(&mut self, sent: &mut SendCounts) -> io::Result<()> {
        let stream = &self.state.stream;
        let (control_bytes, direct_bytes) = (sent.control_bytes, sent.direct_bytes);
        self.outbox.flush(sent, |slices| write(stream, slices))?;
        self.show_load();
        let stream = &self.state.stream;
        self.state.control_sent(sent.control_bytes - control_bytes);
        self.state.direct_sent(sent.direct_bytes - direct_bytes);
        if self.outbox.is_blocked() {
            self.state.block();
        } else if self.is_finishing {
            // The client reads to the end of the stream; its task reads on until it closes its side.
            let _ = SockRef::from(stream).shutdown(Shutdown::Write);
            self.state.end();
        }
        Ok(())
    }

    /// Takes no more publications, also no past ones.
    pub(crate) fn mute(&mut self) {
        self.is_muted = true;
        self.replay = None;
    }

    /// Whether it takes no more publications.
    pub(crate) fn is_muted(&self) -> bool {
        self.is_muted
    }

    /// Takes no more publications, sends what waits and then ends the writing side.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn finish(&mut self, sent: &mut SendCounts) -> io::Result<()> {
        self.mute();
        self.is_finishing = true;
        self.flush(sent)
    }
}

/// One system call. It goes around tokio, whose bookkeeping costs a cache miss for each of thousands of sockets, except
/// when the socket is full: then tokio must know, to wait for it.
fn write(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    let result = match slices {
        [slice] => socket.send_with_flags(slice, SEND_FLAGS),
        _ => socket.send_vectored_with_flags(slices, SEND_FLAGS),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.try_write_vectored(slices)
        }
        result => result,
    }
}
