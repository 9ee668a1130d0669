//! The one clock of a benchmark run.
//!
//! Publisher and client are different processes in different languages, so the time in a payload is CLOCK_REALTIME:
//! the only clock that Erlang, C++ and Rust all read directly and whose epoch they agree on.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    // A clock before 1970 or past 2554 is a broken machine; zero makes that visible in every latency.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
