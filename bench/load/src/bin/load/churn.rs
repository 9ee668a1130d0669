//! Connections that come and go while others are measured.

use crate::control::Churn;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What became of the storm.
#[derive(Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    pub(crate) live: u64,
    pub(crate) failed: u64,
    /// Frames missing between the first and the last that such a connection got.
    pub(crate) lost: u64,
}

/// When to open the next one and when to close which.
#[derive(Default)]
pub(crate) struct Storm {
    gap: Duration,
    life: Duration,
    next: Option<Instant>,
    until: Option<Instant>,
    /// Slots in the order in which they end.
    ends: VecDeque<(Instant, usize)>,
    pub(crate) tally: Tally,
}

impl Storm {
    pub(crate) fn start(&mut self, order: &Churn, now: Instant) {
        self.gap = Duration::from_secs_f64(1.0 / order.rate.clamp(0.1, 10_000.0));
        self.life = Duration::from_millis(order.live_ms.min(60_000));
        self.next = Some(now);
        self.until = Some(now + Duration::from_secs_f64(order.seconds.clamp(0.0, 600.0)));
        self.tally = Tally::default();
    }

    /// Whether it is time for one more.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let Some(next) = self.next else { return false };
        if self.until.is_none_or(|until| now >= until) {
            self.next = None;
            return false;
        }
        let due = now >= next;
        if due {
            self.next = Some(next + self.gap);
        }
        due
    }

    pub(crate) fn opened(&mut self, slot: usize, now: Instant) {
        self.tally.opened += 1;
        self.ends.push_back((now + self.life, slot));
    }

    /// A slot whose time is over.
    pub(crate) fn over(&mut self, now: Instant) -> Option<usize> {
        let over = self.ends.front().is_some_and(|(end, _)| *end <= now);
        if over {
            self.ends.pop_front().map(|(_, slot)| slot)
        } else {
            None
        }
    }

    /// When to look again.
    pub(crate) fn wakes(&self) -> Option<Instant> {
        let first_end = self.ends.front().map(|(end, _)| *end);
        [self.next, first_end].into_iter().flatten().min()
    }
}
