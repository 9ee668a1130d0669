//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::settings::Settings;
use crate::telemetry::counters::Counters;
use crate::wire::format::Format;

/// The count of connections. One per server.
#[derive(Debug)]
pub(crate) struct Admission {
    counters: Arc<Counters>,
    connections: AtomicU64,
    by_format: [AtomicU64; Format::ALL.len()],
    by_address: Mutex<HashMap<IpAddr, u64>>,
}

/// A counted connection; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
    format: Format,
}

/// Which limit has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// `max_connections`.
    Server,
    /// `max_connections_per_ip`.
    Address,
}

impl Admission {
    /// Nobody yet.
    pub(crate) fn new(counters: Arc<Counters>) -> Arc<Self> {
        let (connections, by_address) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self {
            counters,
            connections,
            by_format: Default::default(),
            by_address,
        })
    }

    /// How many there are.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many there are of a format.
    pub(crate) fn connections_of(&self, format: Format) -> u64 {
        self.by_format[format as usize].load(Ordering::Relaxed)
    }

    /// Counts one more, if there is room.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        format: Format,
        settings: &Settings,
    ) -> Result<Permit, Full> {
        let mut by_address = self.by_address.lock();
        if self.connections() >= settings.max_connections {
            return Err(Full::Server);
        }
        let count = by_address.entry(address).or_insert(0);
        if settings.max_connections_per_ip > 0 && *count >= settings.max_connections_per_ip {
            return Err(Full::Address);
        }
        *count += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.by_format[format as usize].fetch_add(1, Ordering::Relaxed);
        self.counters.connections_opened.add(1);
        Ok(Permit {
            admission: self.clone(),
            address,
            format,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.counters.connections_closed.add(1);
        let mut by_address = self.admission.by_address.lock();
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        self.admission.by_format[self.format as usize].fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_at_n_and_free_at_drop() {
        let admission = Admission::new(Arc::default());
        let settings = Settings {
            max_connections: 3,
            max_connections_per_ip: 2,
            ..Settings::default()
        };
        let [a, b]: [IpAddr; 2] = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        let first = admission.admit(a, Format::Json, &settings).unwrap();
        let _second = admission.admit(a, Format::Json, &settings).unwrap();
        assert_eq!(
            admission.admit(a, Format::Json, &settings).unwrap_err(),
            Full::Address
        );
        let _third = admission.admit(b, Format::Raw, &settings).unwrap();
        assert_eq!(
            admission.admit(b, Format::Raw, &settings).unwrap_err(),
            Full::Server
        );
        assert_eq!(admission.connections(), 3);
        drop(first);
        assert!(admission.admit(a, Format::Json, &settings).is_ok());
        assert_eq!(admission.connections(), 2);
    }
}
