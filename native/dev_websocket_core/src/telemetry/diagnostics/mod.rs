//! Log events of the engine: `tracing` events as plain data for the embedding program.
//!
//! Clients cause most events, so a hostile client must not be able to fill a log or the memory. Each kind has a rate
//! limit ([`limits`]), the queue is bounded, and each event is small ([`event`]). Logging never blocks.
//!
//! Suppressed events are counted and reported in one summary event; events beyond the queue count as
//! `log_events_dropped`.

mod event;
mod limits;
mod panics;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Instant, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};

use self::limits::{Limits, WINDOW};
use crate::telemetry::counters::Counters;

pub use self::event::{Event, Value};
pub use self::limits::KINDS;
pub use self::panics::watch_panics;

/// The maximum number of queued events, of at most 2 KiB each.
const QUEUE: usize = 256;
/// The maximum number of events read at once.
const BATCH: usize = 64;

/// A `tracing` subscriber that records events of the engine and its embedder, and of no other crate.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Event>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
}

/// The receiving end of the events, for a single thread.
#[derive(Debug)]
pub struct Events {
    queue: Receiver<Event>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    /// The time of the next summary of suppressed events; none after a quiet window.
    report_at: Option<Instant>,
}

/// Makes a `tracing` subscriber and the receiver of its events.
#[must_use]
pub fn channel(counters: Arc<Counters>) -> (Recorder, Events) {
    channel_for(QUEUE, counters)
}

fn channel_for(capacity: usize, counters: Arc<Counters>) -> (Recorder, Events) {
    let (sender, receiver) = sync_channel(capacity);
    let limits = Arc::new(Limits::new(Instant::now()));
    let recorder = Recorder {
        queue: sender,
        limits: limits.clone(),
        counters: counters.clone(),
    };
    let events = Events {
        queue: receiver,
        limits,
        counters,
        report_at: None,
    };
    (recorder, events)
}

impl Subscriber for Recorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("dev_websocket")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let kind = limits::kind(metadata.name());
        if !self.limits.admit(kind, *metadata.level(), Instant::now()) {
            return;
        }
        let event = Event::read(kind, SystemTime::now(), event);
        match self.queue.try_send(event) {
            Ok(()) => self.counters.log_events.add(1),
            Err(_) => self.counters.log_events_dropped.add(1),
        }
    }

    // Operators do not need spans.

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Events {
    /// Waits for the next events; returns at most 64, plus summaries of suppressed ones. None when the recorder is
    /// dropped.
    pub fn wait(&mut self) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        while events.is_empty() {
            let received = match self.report_at {
                None => self
                    .queue
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self
                    .queue
                    .recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match received {
                Ok(event) => events.push(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            events.extend(self.queue.try_iter().take(BATCH - events.len()));
            let held_back = self.held_back(!events.is_empty(), Instant::now());
            events.extend(held_back);
        }
        Some(events)
    }

    /// Returns the due summaries of suppressed events. A summary is scheduled one window after any event, because only
    /// frequent events in that window can be suppressed.
    fn held_back(&mut self, has_happened: bool, now: Instant) -> Vec<Event> {
        let is_due = self.report_at.is_some_and(|at| at <= now);
        let mut held_back = Vec::new();
        if is_due {
            self.report_at = None;
            held_back.extend(
                self.limits
                    .take_suppressed()
                    .map(|(kind, level, count)| Event::suppressed(kind, level, count)),
            );
        }
        self.counters.log_events.add(held_back.len() as u64);
        if self.report_at.is_none() && (has_happened || !held_back.is_empty()) {
            self.report_at = Some(now + WINDOW);
        }
        held_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::subscriber::with_default;

    const MARKER: &str = "s3cret";

    fn recorded(tell: impl FnOnce()) -> (Vec<Event>, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        let (recorder, mut events) = channel(counters.clone());
        with_default(recorder, tell);
        let all = std::iter::from_fn(|| events.wait()).flatten().collect();
        (all, counters)
    }

    #[test]
    fn an_event_is_read_with_its_fields() {
        let (events, _) = recorded(|| {
            let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
            tracing::info!(name: "refused_upgrade", %peer, reason = "full", connection = 7_u64, "refused {peer}");
        });
        let [event] = events.as_slice() else {
            panic!("one event was told: {events:?}");
        };
        assert_eq!(event.kind, "refused_upgrade");
        assert_eq!(event.level, tracing::Level::INFO);
        assert_eq!(event.text, "refused 127.0.0.1:80");
        assert_eq!(
            event.fields,
            [
                ("peer", Value::Text("127.0.0.1:80".into())),
                ("reason", Value::Text("full".into())),
                ("connection", Value::Number(7)),
            ]
        );
    }

    #[test]
    fn events_of_other_crates_and_details_are_not_for_operators() {
        let (events, counters) = recorded(|| {
            tracing::error!(target: "hyper", "{MARKER}");
            tracing::trace!("{MARKER}");
            let _entered = tracing::info_span!("a span").entered();
            tracing::debug!("told");
        });
        let told: Vec<_> = events
            .iter()
            .map(|event| (event.kind, &*event.text))
            .collect();
        assert_eq!(told, [("other", "told")]);
        assert_eq!(counters.log_events.get(), 1);
        assert_eq!(counters.log_events_dropped.get(), 0);
    }

    #[test]
    fn a_text_is_one_short_line() {
        let (events, _) = recorded(|| {
            let text = format!("one\r\ntwo\u{1b}[31m\u{2028}{}", "ä".repeat(10_000));
            tracing::error!(error = %text, "{text}");
        });
        let Some((_, Value::Text(error))) = events[0].fields.first() else {
            panic!("{events:?}");
        };
        for text in [error, &events[0].text] {
            assert!(text.starts_with("one  two [31m ä"), "{text}");
            assert!(text.len() <= 512, "{} bytes", text.len());
            assert!(text.ends_with("ä.."), "{text}");
        }
    }

    #[test]
    fn events_beyond_the_queue_are_counted() {
        let counters = Arc::<Counters>::default();
        let (recorder, mut events) = channel_for(3, counters.clone());
        with_default(recorder, || {
            for number in 0..limits::BURST {
                tracing::info!(name: "started", number, "again");
            }
        });
        // The queue keeps the oldest events, because they show the cause.
        let numbers: Vec<_> = std::iter::from_fn(|| events.wait())
            .flatten()
            .map(|event| event.fields)
            .collect();
        assert_eq!(
            numbers,
            [0, 1, 2].map(|number| vec![("number", Value::Number(number))])
        );
        assert_eq!(counters.log_events.get(), 3);
        assert_eq!(counters.log_events_dropped.get(), limits::BURST - 3);
    }

    #[test]
    fn suppressed_events_are_reported_a_window_later_until_there_are_none() {
        let (recorder, mut events) = channel(Arc::default());
        let begin = Instant::now();
        assert_eq!(events.held_back(true, begin), []);
        with_default(recorder, || {
            for _ in 0..100 {
                tracing::warn!(name: "failed_accept", "no");
            }
        });
        assert_eq!(events.held_back(true, begin + WINDOW / 2), []);
        let told = events.held_back(false, begin + WINDOW);
        let [event] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(
            event.text,
            "The WebSocket server suppressed 90 more log events of kind failed_accept."
        );
        assert_eq!(event.level, tracing::Level::WARN);
        assert_eq!(
            (event.kind, event.fields.as_slice()),
            (
                "suppressed",
                [
                    ("kind", Value::Kind("failed_accept")),
                    ("count", Value::Number(90)),
                ]
                .as_slice()
            )
        );
        // Events were just suppressed, so another summary is scheduled.
        assert_eq!(events.report_at, Some(begin + WINDOW * 2));
        assert_eq!(events.held_back(false, begin + WINDOW * 2), []);
        assert_eq!(events.report_at, None);
    }
}
