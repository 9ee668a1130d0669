//! Opening and closing the connections that come and go.

use super::Client;
use crate::conn::Kind;
use std::time::Instant;

/// Connections of a storm at a time.
const MAX_CHURNING: usize = 4096;

impl Client {
    pub(super) fn churn(&mut self, now: Instant) {
        while let Some(slot) = self.storm.over(now) {
            if let Some(mut conn) = self.conns[slot].take() {
                self.count_down(&conn);
                conn.leave(conn.index);
            }
            self.free.push(slot);
        }
        while self.storm.due(now) {
            let Some(slot) = self.churn_slot() else {
                self.storm.tally.failed += 1;
                continue;
            };
            self.churned += 1;
            // Also a connection that could not be opened keeps its slot until its time is over.
            self.storm.opened(slot, now);
            if self.open(slot, Kind::Churn, self.churned).is_err() {
                self.storm.tally.failed += 1;
            }
        }
    }

    fn churn_slot(&mut self) -> Option<usize> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.conns.len();
        if slot >= self.args.conns + self.args.slow + MAX_CHURNING {
            return None;
        }
        self.conns.push(None);
        Some(slot)
    }
}
