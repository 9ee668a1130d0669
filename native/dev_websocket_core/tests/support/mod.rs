//! Support for all tests: a server per test, a client that speaks WebSocket and one that speaks bytes.
//!
//! All calls block, so that a test reads as a list of events. Tests wait for events, never for time to pass, and no
//! longer than [`PATIENCE`].
#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses a part of this"
)]

mod client;
mod connection;
mod raw;
pub(crate) mod slot_reader;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dev_websocket_core::message::Value;
use dev_websocket_core::{
    Counters, Disconnect, Inbound, InterestSignal, Server, Settings, SlotMarks, SlotReplays,
};

pub(crate) use self::client::{Client, seqs};
pub(crate) use self::connection::{Connection, FORMATS, connect};
pub(crate) use self::raw::{
    BINARY, CLOSE, PING, PONG, Raw, Response, TEXT, frame, upgrade_request,
};

/// Time that a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with its test.
pub(crate) struct TestServer {
    server: Server,
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) slots: Arc<SlotMarks>,
    pub(crate) interest: Arc<InterestSignal>,
    pub(crate) replays: Arc<SlotReplays>,
}

impl TestServer {
    /// Starts a server with the default limits, on a port of its own.
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    /// Starts a server with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self::over(
            settings,
            Arc::default(),
            Arc::default(),
            Arc::default(),
            (Arc::default(), Arc::default()),
        )
    }

    /// Starts the server that follows this one in the same program.
    pub(crate) fn next(&self) -> Self {
        let Self {
            counters,
            inbound,
            slots,
            interest,
            replays,
            ..
        } = self;
        Self::over(
            settings(),
            counters.clone(),
            inbound.clone(),
            slots.clone(),
            (interest.clone(), replays.clone()),
        )
    }

    fn over(
        settings: Settings,
        counters: Arc<Counters>,
        inbound: Arc<Inbound>,
        slots: Arc<SlotMarks>,
        (interest, replays): (Arc<InterestSignal>, Arc<SlotReplays>),
    ) -> Self {
        let server = Server::builder(settings)
            .counters(counters.clone())
            .inbound(inbound.clone())
            .slot_marks(slots.clone())
            .interest(interest.clone())
            .slot_replays(replays.clone())
            .start();
        Self {
            server: server.unwrap(),
            counters,
            inbound,
            slots,
            interest,
            replays,
        }
    }

    /// Returns the listener's address.
    pub(crate) fn address(&self) -> SocketAddr {
        let uri = self.info().uri;
        let address = uri
            .strip_prefix("ws://")
            .and_then(|rest| rest.strip_suffix("/ws"));
        address.unwrap().parse().unwrap()
    }

    /// Publishes text to topics, which are separated by commas.
    pub(crate) fn send(&self, topics: &str, data: &str) -> u64 {
        self.publish(&message(topics, data)).unwrap()
    }

    /// Returns a gauge or count by name.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        let (_, value) = stats.iter().find(|(known, _)| *known == name).unwrap();
        *value
    }

    /// Waits until a gauge or count has a value.
    pub(crate) fn until_stat(&self, name: &str, value: u64) {
        until(&format!("{name} = {value}"), || self.stat(name) == value);
    }

    /// Waits until `info` lists exactly these topics.
    pub(crate) fn until_topics(&self, topics: &[&str]) {
        until(&format!("topics {topics:?}"), || {
            self.info().topics == topics
        });
    }

    /// Waits until the shards have handled every publication.
    pub(crate) fn until_delivered(&self) {
        self.until_stat("publish_queued_bytes", 0);
    }

    /// Shuts the server down with close frames. Other threads must serve the clients meanwhile.
    pub(crate) fn stop(&self, reason: Disconnect) {
        self.shutdown(reason, PATIENCE);
    }
}

impl Deref for TestServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for TestServer {
    /// Checks after every test that the counts of expected deliveries add up.
    fn drop(&mut self) {
        self.shutdown(Disconnect::Stopping, Duration::ZERO);
        let Counters {
            deliveries_expected,
            deliveries,
            dropped_slow,
            dropped_disconnected,
            ..
        } = &*self.counters;
        let accounted = deliveries.get() + dropped_slow.get() + dropped_disconnected.get();
        if !thread::panicking() {
            assert_eq!(
                deliveries_expected.get(),
                accounted,
                "publications are not accounted for"
            );
        }
    }
}

/// Returns the settings of a test: the defaults on a port of its own, without a rate limit.
pub(crate) fn settings() -> Settings {
    Settings {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        max_inbound_rate: 0,
        ..Settings::default()
    }
}

/// Creates a message with topics, separated by commas, and text.
pub(crate) fn message<'a>(topics: &'a str, data: &'a str) -> Value<'a> {
    Value::Map(vec![
        ("topic".into(), Value::Text(topics.into())),
        ("data".into(), Value::Text(data.into())),
    ])
}

/// Waits until a condition holds that sends no notification.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a server with a limit of three, which tests try with two, three and four.
pub(crate) fn three(change: impl FnOnce(&mut Settings, u64)) -> TestServer {
    TestServer::with(|settings| change(settings, 3))
}

/// Returns the status of a request, and the code of its refusal.
pub(crate) fn asked(server: &TestServer, query: &str) -> (u16, String) {
    let response = Raw::ask(server, upgrade_request(query));
    let code = match response.status {
        101 => String::new(),
        _ => response.refusal().0,
    };
    (response.status, code)
}

/// Returns the result of [`asked`] for a request that becomes a connection.
pub(crate) fn upgraded() -> (u16, String) {
    (101, String::new())
}
