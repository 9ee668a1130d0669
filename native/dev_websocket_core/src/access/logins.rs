//! A limit on verified signatures per second, for the whole server. One RSA signature takes about 100 µs.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The signatures that were verified in the present second.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<Option<(Instant, u64)>>);

impl Logins {
    /// Counts one verification. Returns false if the limit of this second is reached.
    pub(super) fn admit(&self, limit: u64) -> bool {
        let now = Instant::now();
        let mut second = self.0.lock();
        let count = match *second {
            Some((start, count)) if now < start + Duration::from_secs(1) => count,
            _ => {
                *second = Some((now, 1));
                return limit > 0;
            }
        };
        if count >= limit {
            return false;
        }
        if let Some((_, count)) = second.as_mut() {
            *count += 1;
        }
        true
    }
}
