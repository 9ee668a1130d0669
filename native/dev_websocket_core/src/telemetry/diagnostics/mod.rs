//! What the engine tells its operator: events of `tracing` as plain data for the program that the engine lives in.
//!
//! Clients make most events, so a hostile one must not be able to fill a log, or memory: only some of each kind pass in
//! a while ([`limits`]), they wait in a queue with a bound, and each is small ([`event`]). Whoever tells something never
//! waits. What is held back is counted and told as one event, what finds no place as `log_events_dropped`.

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

/// Events that may wait to be read, of at most 2 KiB.
const QUEUE: usize = 256;
/// Events that are read together.
const BATCH: usize = 64;

/// Takes the events of the engine and of whoever embeds it, and no other crate's.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Event>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
}

/// The events, for one thread to read.
#[derive(Debug)]
pub struct Events {
    queue: Receiver<Event>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    /// When to tell what was held back; none while nothing has happened for a while.
    report_at: Option<Instant>,
}

/// A subscriber for `tracing`, and what it hears.
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

    // Spans are not for operators.

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Events {
    /// Waits for the next events and gives them, at most 64 and what was held back. None when there is no recorder any more.
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

    /// What was held back since the last time, if it is time. Whenever something happened, it is looked for a window
    /// later: only what has happened often in that window can be held back.
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
    fn what_finds_no_place_is_counted() {
        let counters = Arc::<Counters>::default();
        let (recorder, mut events) = channel_for(3, counters.clone());
        with_default(recorder, || {
            for number in 0..limits::BURST {
                tracing::info!(name: "started", number, "again");
            }
        });
        // The oldest stay: they tell how it began.
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
    fn what_is_held_back_is_told_a_window_later_until_nothing_is() {
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
        // Something was held back just now, so it is looked for once more.
        assert_eq!(events.report_at, Some(begin + WINDOW * 2));
        assert_eq!(events.held_back(false, begin + WINDOW * 2), []);
        assert_eq!(events.report_at, None);
    }
}
