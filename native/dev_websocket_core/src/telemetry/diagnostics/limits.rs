//! Rate limit of log events: the first ten of a kind in five seconds pass, as in the kernel's log.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Level;

/// Every kind of event. The name of an event is its kind, as in `tracing::info!(name: "started", ..)`; other names
/// count as the last kind.
pub const KINDS: [&str; 26] = [
    "started",
    "stopped",
    "moved",
    "changed_settings",
    "failed_accept",
    "lost_address",
    "operator_port",
    "operator_request",
    "token_file",
    "refused_proxy_header",
    "refused_upgrade",
    "failed_tls",
    "renewed_certificate",
    "refused_certificate",
    "closed_connection",
    "lost_listener",
    "engine_present",
    "engine_away",
    "engine_epoch",
    "engine_limit",
    "engine_refused",
    "engine_unreadable",
    "engine_left",
    "fault",
    "contained",
    "other",
];

/// The number of events of a kind that pass in one window.
pub(super) const BURST: u64 = 10;
/// The length of a window.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// The levels; their index fits an atomic.
const LEVELS: [Level; 5] = [
    Level::TRACE,
    Level::DEBUG,
    Level::INFO,
    Level::WARN,
    Level::ERROR,
];

/// Returns the kind of an event name.
pub(super) fn kind(name: &str) -> &'static str {
    KINDS[index(name)]
}

fn index(name: &str) -> usize {
    KINDS
        .iter()
        .position(|kind| *kind == name)
        .unwrap_or(KINDS.len() - 1)
}

/// Counts the events of each kind. All counts are atomic, so logging never blocks.
#[derive(Debug)]
pub(super) struct Limits {
    begin: Instant,
    limits: [Limit; KINDS.len()],
}

#[derive(Debug, Default)]
struct Limit {
    /// The start of the window in milliseconds; the lowest byte counts the events that have passed in it.
    window: AtomicU64,
    suppressed: AtomicU64,
    /// The level of the suppressed events.
    level: AtomicU8,
}

impl Limits {
    pub(super) fn new(begin: Instant) -> Self {
        Self {
            begin,
            limits: Default::default(),
        }
    }

    /// Returns whether an event passes. An event that does not pass is counted as suppressed.
    pub(super) fn admit(&self, kind: &str, level: Level, now: Instant) -> bool {
        let limit = &self.limits[index(kind)];
        let now = milliseconds(now.saturating_duration_since(self.begin));
        let admitted = limit
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let (begin, passed) = (window >> 8, window & 0xff);
                if passed == 0 || now.saturating_sub(begin) >= milliseconds(WINDOW) {
                    Some(now << 8 | 1)
                } else {
                    (passed < BURST).then_some(window + 1)
                }
            });
        if admitted.is_err() {
            let level = LEVELS.iter().position(|other| *other == level);
            limit
                .level
                .store(level.unwrap_or_default() as u8, Ordering::Relaxed);
            limit.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admitted.is_ok()
    }

    /// Returns the number of suppressed events of each kind since the last call.
    pub(super) fn take_suppressed(&self) -> impl Iterator<Item = (&'static str, Level, u64)> {
        KINDS
            .into_iter()
            .zip(&self.limits)
            .filter_map(|(kind, limit)| {
                let suppressed = limit.suppressed.swap(0, Ordering::Relaxed);
                let level = usize::from(limit.level.load(Ordering::Relaxed));
                (suppressed > 0).then_some((kind, LEVELS[level], suppressed))
            })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn limits() -> (Limits, Instant) {
        let begin = Instant::now();
        (Limits::new(begin), begin)
    }

    fn admitted(limits: &Limits, kind: &str, count: u64, now: Instant) -> u64 {
        (0..count)
            .filter(|_| limits.admit(kind, Level::INFO, now))
            .count() as u64
    }

    #[test]
    fn the_first_ones_of_a_window_pass_and_the_others_are_counted() {
        let (limits, begin) = limits();
        assert_eq!(admitted(&limits, "fault", 1000, begin), BURST);
        let late = begin + WINDOW - Duration::from_millis(1);
        assert_eq!(admitted(&limits, "fault", 7, late), 0);
        assert_eq!(
            limits.take_suppressed().collect::<Vec<_>>(),
            [("fault", Level::INFO, 1000 - BURST + 7)]
        );
        assert_eq!(limits.take_suppressed().count(), 0);
        // A new window begins with the first event after the old one, and no earlier.
        let next = begin + WINDOW;
        assert_eq!(admitted(&limits, "fault", 1, next), 1);
        let within = next + WINDOW - Duration::from_millis(1);
        assert_eq!(admitted(&limits, "fault", 1000, within), BURST - 1);
        assert_eq!(admitted(&limits, "fault", 1000, next + WINDOW * 100), BURST);
    }

    #[test]
    fn kinds_do_not_hold_each_other_back() {
        let (limits, begin) = limits();
        for kind in KINDS {
            assert_eq!(admitted(&limits, kind, 11, begin), BURST, "{kind}");
        }
        let suppressed: Vec<_> = limits
            .take_suppressed()
            .map(|(kind, _, count)| (kind, count))
            .collect();
        assert_eq!(suppressed, KINDS.map(|kind| (kind, 1)));
    }

    #[test]
    fn a_clock_that_was_read_late_does_no_harm() {
        let (limits, begin) = limits();
        let later = begin + Duration::from_millis(3);
        assert_eq!(admitted(&limits, "fault", 5, later), 5);
        assert_eq!(admitted(&limits, "fault", 100, begin), BURST - 5);
    }

    #[test]
    fn threads_lose_no_count() {
        let (limits, begin) = limits();
        let passed: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..10_000_u32)
                            .map(|step| {
                                let now = begin + Duration::from_millis(step.into());
                                admitted(&limits, "refused_upgrade", 1, now)
                            })
                            .sum::<u64>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        let suppressed: u64 = limits.take_suppressed().map(|(_, _, count)| count).sum();
        assert_eq!(passed + suppressed, 40_000);
        assert!((BURST..=4 * BURST).contains(&passed), "{passed} passed");
    }
}
