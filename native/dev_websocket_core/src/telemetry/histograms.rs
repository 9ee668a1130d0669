//! What is measured besides what is counted: how long things take, and how much is done at once.

use std::cell::Cell;
use std::time::Instant;

use crate::telemetry::histogram::Histogram;

const US: u64 = 1000;
const MS: u64 = 1000 * US;

/// One message in so many is timed while it is encoded: reading the clock twice is a noticeable part of that.
const TIMED: u32 = 16;

/// See the module's text. Times are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Histograms {
    /// Time from a cast until its shard has written the publication to all subscribers.
    pub(crate) cast_to_socket: Histogram,
    /// Time to find the topics and encode the JSON of a message, sampled one in 16.
    pub(crate) encode: Histogram,
    /// Publications in one batch of a shard.
    pub(crate) batch: Histogram,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            cast_to_socket: Histogram::new(&[
                50 * US,
                100 * US,
                250 * US,
                500 * US,
                MS,
                2 * MS + 500 * US,
                5 * MS,
                10 * MS,
                25 * MS,
                50 * MS,
                100 * MS,
                250 * MS,
                500 * MS,
                1000 * MS,
                5000 * MS,
            ]),
            encode: Histogram::new(&[
                250,
                500,
                US,
                2 * US + 500,
                5 * US,
                10 * US,
                25 * US,
                50 * US,
                100 * US,
                MS,
                10 * MS,
            ]),
            batch: Histogram::new(&[
                1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536,
            ]),
        }
    }
}

impl Histograms {
    /// Runs what encodes a message, and times it now and then.
    pub(crate) fn time_encoding<T>(&self, is_measured: bool, encode: impl FnOnce() -> T) -> T {
        thread_local! {
            static ENCODED: Cell<u32> = const { Cell::new(0) };
        }
        let encoded = ENCODED.get();
        ENCODED.set(encoded.wrapping_add(1));
        if !is_measured || !encoded.is_multiple_of(TIMED) {
            return encode();
        }
        let start = Instant::now();
        let encoded = encode();
        let nanos = start.elapsed().as_nanos();
        self.encode.record(u64::try_from(nanos).unwrap_or(u64::MAX));
        encoded
    }
}
