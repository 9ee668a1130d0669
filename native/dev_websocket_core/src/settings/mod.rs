//! One table of all settings and limits, with name, default, unit, range, and the effect of exceeding the value.
//!
//! The table defines the [`Settings`] struct and reads settings by name from any source (Erlang terms, environment
//! variables). A check compares docs/PROTOCOL.md with the table.

mod access;
pub(crate) mod active;
mod compression;
mod engine;
mod follow;
mod hosts;
mod values;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use thiserror::Error;

pub use self::access::{Access, Topics};
pub use self::compression::Compression;
pub use self::engine::EngineUrls;
pub use self::follow::{Follow, ProcessIds};
pub use self::values::Networks;
use self::values::Setting;
use crate::message::topic_keys::TopicKeys;
use crate::message::topics::TopicRules;

/// A setting's value from an external source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// A whole number.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// A text. Numbers, booleans and lists (with commas) may also be given as text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

/// The reason why settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("unknown setting {0}")]
    Unknown(String),
    /// The value has the wrong type or is out of range.
    #[error("{name} must be {expected}")]
    Invalid {
        /// The name of the setting.
        name: &'static str,
        /// A description of the accepted values.
        expected: String,
    },
}

/// A row of the settings table.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SettingRow {
    /// The name in lower case, as in Erlang; the environment variable is `DEV_WEBSOCKET_<NAME>`.
    pub name: &'static str,
    /// The value without configuration.
    pub default: SettingValue,
    /// The unit of the number.
    pub unit: &'static str,
    /// The effect of exceeding the value by one, or of the setting itself.
    pub effect: &'static str,
    /// True if the default may admit or accept more than the operator wants. An invalid value of such a setting does
    /// not fall back to the default: the server stays closed.
    pub protects: bool,
}

macro_rules! settings {
    ($( $(#[$harmless:ident])? $name:ident: $kind:ty = $default:expr, $expected:literal, $check:expr, $unit:literal, $effect:literal; )*) => {
        /// The configuration of a server. The table gives defaults, units and ranges.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $( #[doc = concat!("In ", $unit, ". ", $effect)] pub $name: $kind, )*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Settings {
            /// Changes one setting.
            ///
            /// # Errors
            /// The call returns [`SettingError`] with the name of the setting when it does not exist or refuses the
            /// value.
            pub fn set(&mut self, name: &str, value: SettingValue) -> Result<(), SettingError> {
                match name {
                    $( stringify!($name) => {
                        let check: fn(&$kind) -> bool = $check;
                        self.$name = <$kind as Setting>::read(value).filter(check).ok_or_else(|| SettingError::Invalid {
                            name: stringify!($name),
                            expected: $expected.to_owned(),
                        })?;
                    } )*
                    _ => return Err(SettingError::Unknown(name.to_owned())),
                }
                Ok(())
            }

            /// Returns every setting with its current value.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, SettingValue)> {
                vec![$( (stringify!($name), Setting::show(&self.$name)), )*]
            }

            /// Returns the names of the settings that differ from `other`.
            pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if self.$name != other.$name {
                    names.push(stringify!($name));
                } )*
                names
            }

            /// Returns the rows of the table.
            #[must_use]
            pub fn table() -> Vec<SettingRow> {
                let defaults = Self::default();
                vec![$( SettingRow {
                    name: stringify!($name),
                    default: Setting::show(&defaults.$name),
                    unit: $unit,
                    effect: $effect,
                    protects: {
                        const HARMLESS: &[&str] = &[$( stringify!($harmless) )?];
                        HARMLESS.is_empty()
                    },
                }, )*]
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

// A row protects unless it is marked as harmless.
settings! {
    host: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED), "an IP address to listen on without a port, such as 127.0.0.1 or ::1; 0.0.0.0 for all interfaces", |_| true,
        "address", "The address the listener is bound to; 0.0.0.0 is every IPv4 interface.";
    port: u64 = 8735, "a port from 0 to 65535", |port| *port <= 65_535,
        "TCP port", "The port of the listener; 0 lets the system choose one.";
    #[harmless]
    public_host: String = String::new(), "a host without scheme, port or path, such as node.example, 192.0.2.1 or [2001:db8::1]; letters beyond ASCII as xn--..", |host| host.is_empty() || hosts::is_host(host),
        "host name", "The server's name in `uri`; when empty, the address it is bound to, or `localhost` for all interfaces.";
    #[harmless]
    public_uri: String = String::new(), "a WebSocket URL without a query: ws:// or wss://, a host, and optionally a port and a path, such as wss://node.example/ws", |uri| uri.is_empty() || hosts::is_public_uri(uri),
        "URL", "The whole `uri`, with scheme, port and path; it takes precedence over `public_host`.";
    trusted_proxies: Networks = Networks::default(), "a list of at most 1000 IP addresses and networks, such as 127.0.0.1, 10.0.0.0/8 or 2001:db8::/32, without bits beyond the prefix", |networks| networks.len() <= 1000,
        "addresses and networks of proxies", "Only these may state a client's address: in `X-Forwarded-For`, `Forwarded` or the PROXY protocol.";
    proxy_protocol: bool = false, "true or false", |_| true,
        "switch", "A connection that does not begin with a PROXY protocol header is closed.";
    operator_host: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), "an IP address to listen on without a port, such as 127.0.0.1 or ::1; 0.0.0.0 for all interfaces", |_| true,
        "address", "The address the operator's listener is bound to.";
    operator_port: u64 = 0, "a port from 0 to 65535", |port| *port <= 65_535,
        "TCP port, 0 for none", "The port of a second listener with the same paths, for the operator.";
    control: bool = true, "true or false", |_| true,
        "switch", "When off, requests over the socket other than `ping` are refused with an error frame, `forbidden`.";
    max_connections: u64 = 100_000, "a number from 1 to 10000000", |n| (1..=10_000_000).contains(n),
        "connections", "One more is refused with HTTP 503 `full`.";
    max_connections_per_ip: u64 = 0, "a number from 0 to 10000000", |n| *n <= 10_000_000,
        "connections of one address, 0 for no limit", "One more is refused with HTTP 429 `too_many_connections`.";
    max_handshakes: u64 = 4096, "a number from 1 to 10000000", |n| (1..=10_000_000).contains(n),
        "connections in the handshake", "When full, the oldest handshake older than 1 s is evicted; otherwise the new connection waits.";
    origins: Vec<String> = Vec::new(), "a list of origins as browsers send them: scheme and host, and the port if it is not the scheme's own, such as https://app.example or http://*.example:8080", |origins| origins.iter().all(|origin| hosts::is_origin(origin)),
        "origins of browsers, empty for all, `*` for any run of characters", "A page of another origin is refused with HTTP 403 `bad_origin`. Programs send no `Origin` and are served.";
    endpoints: Vec<String> = default_endpoints(), "a list of page, client, info, health, metrics, events, connections and cast", |names| names.iter().all(|name| ENDPOINTS.contains(&name.as_str())),
        "endpoints beside `/ws`", "Other endpoints answer HTTP 404. Without `metrics`, histograms are off.";
    access: Access = Access::Open, "open or token", |_| true,
        "switch", "With `token`, a subscription needs a token or a public topic: HTTP 401 `unauthorized` or 403 `forbidden`, or an error frame.";
    public_topics: Topics = Topics::default(), "a list of topics and globs, or * for everything", Topics::are_valid,
        "topics and globs that need no token with `access=token`", "Other subscriptions without a token are refused: `unauthorized`.";
    token_keys: String = String::new(), "a path to a JSON Web Key Set", |_| true,
        "file of the keys that verify tokens", "A changed file is read again. A broken one is logged, and the old keys stay in force.";
    token_revocations: String = String::new(), "a path to a JSON file", |_| true,
        "file of revoked tokens", "A changed file is read again. Connections with a revoked token are closed with 3003.";
    token_cookie: String = String::new(), "a cookie name, such as session", |name| access::is_cookie_name(name),
        "cookie that may hold a token, empty for none", "Has an effect only while `origins` is not empty.";
    token_max_life: Duration = Duration::from_secs(24 * 3600), "a number of milliseconds from 1000 to 31622400000", |time| (1000..=31_622_400_000).contains(&time.as_millis()),
        "milliseconds until a token ends", "A token with a later `exp` is refused with `unauthorized`.";
    max_token_bytes: u64 = 4 * KIB, "a number of bytes from 256 to 16384", |n| (256..=16 * KIB).contains(n),
        "bytes of a token", "A longer token is refused with `unauthorized`.";
    max_logins: u64 = 1000, "a number from 1 to 1000000", |n| (1..=1_000_000).contains(n),
        "signatures of tokens that the server verifies in a second", "One more token is refused: HTTP 503 or an error frame, `busy`.";
    behind_proxy: bool = false, "true or false", |_| true,
        "switch", "Accepts tokens over plain `ws` and `http` from other machines, because a proxy encrypts them.";
    max_topics_per_connection: u64 = 128, "a number from 1 to 100000", |n| (1..=100_000).contains(n),
        "topics", "A subscription to one more is refused as a whole: HTTP 400 or an error frame, `too_many_topics`.";
    max_regexes_per_connection: u64 = 8, "a number from 0 to 1000", |n| *n <= 1000,
        "regular expressions", "A subscription to one more is refused as a whole: HTTP 400 or an error frame, `too_many_matches`.";
    max_regexes: u64 = 4096, "a number from 0 to 1000000", |n| *n <= 1_000_000,
        "distinct regular expressions of all connections", "A subscription to one more is refused as a whole: HTTP 503 or an error frame, `too_many_expressions`.";
    max_templates_per_connection: u64 = 16, "a number from 0 to 1000", |n| *n <= 1000,
        "templates", "A subscription to one more is refused as a whole: HTTP 400 or an error frame, `too_many_templates`.";
    max_globs: u64 = 65_536, "a number from 0 to 10000000", |n| *n <= 10_000_000,
        "distinct globs of all connections", "A subscription to one more is refused as a whole: HTTP 503 or an error frame, `too_many_globs`.";
    max_templates: u64 = 16_384, "a number from 0 to 1000000", |n| *n <= 1_000_000,
        "distinct templates of all connections", "A subscription to one more is refused as a whole: HTTP 503 or an error frame, `too_many_distinct_templates`.";
    max_unindexed_patterns: u64 = 1024, "a number from 0 to 1000000", |n| *n <= 1_000_000,
        "distinct globs, regular expressions and templates without an indexed literal, of all connections", "A subscription to one more is refused as a whole: HTTP 503 or an error frame, `too_many_unindexed_patterns`.";
    max_last: u64 = 1000, "a number from 0 to 1000000", |n| *n <= 1_000_000,
        "past publications that `last` may ask for", "A larger number is refused: HTTP 400, `bad_last`.";
    max_topics_per_message: u64 = 64, "a number from 1 to 10000", |n| (1..=10_000).contains(n),
        "topics", "Further topics of the message are dropped and counted.";
    max_inbound_bytes: u64 = 64 * KIB, "a number of bytes from 125 to 67108864", |n| (125..=64 * MIB).contains(n),
        "bytes of a client's message", "A larger one closes the connection with 1009.";
    max_inbound_rate: u64 = 50, "a number from 0 to 1000000", |n| *n <= 1_000_000,
        "messages of one client in a second, 0 for no limit", "One more closes the connection with 1008.";
    inbound_queue_bytes: u64 = MIB, "a number of bytes from 1024 to 1073741824", |n| (KIB..=KIB * MIB).contains(n),
        "bytes of client messages queued for the listener", "The server stops reading from a client whose next message does not fit. A change applies from the next `listen` on.";
    max_message_bytes: u64 = MIB, "a number of bytes from 1 to 67108864", |n| (1..=64 * MIB).contains(n),
        "bytes of a cast message as JSON", "A larger message is dropped and counted as `too_large`.";
    max_data_bytes: u64 = 256 * KIB, "a number of bytes from 1 to 67108864", |n| (1..=64 * MIB).contains(n),
        "bytes of one value in an event of a process", "A larger value is replaced by its size and its path.";
    max_output_events: u64 = 100, "a number from 0 to 10000", |n| *n <= 10_000,
        "events of one slot from lines of its output, 0 for none", "Further lines make no event; the result counts them as `events-omitted`.";
    publish_queue_bytes: u64 = 64 * MIB, "a number of bytes from 65536 to 17179869184", |n| (64 * KIB..=16 * KIB * MIB).contains(n),
        "bytes queued for the writer shards", "A further cast is dropped and counted as `overload`.";
    send_buffer_bytes: u64 = MIB, "a number of bytes from 1024 to 1073741824", |n| (KIB..=KIB * MIB).contains(n),
        "bytes in the send buffer of one connection", "Its oldest publications are dropped; a `gap` frame takes their place.";
    history_bytes: u64 = 16 * MIB, "a number of bytes from 0 to 17179869184", |n| *n <= 16 * KIB * MIB,
        "bytes of past publications", "The oldest publications are dropped; 0 keeps none.";
    #[harmless]
    compression: Compression = Compression::Off, "off or shared", |_| true,
        "mode of compression", "With `shared`, each publication is compressed once, for all clients that accept it: permessage-deflate, or gzip for events.";
    #[harmless]
    compression_min_bytes: u64 = 256, "a number of bytes from 64 to 1048576", |n| (64..=MIB).contains(n),
        "bytes of a message frame without its header", "A smaller frame is sent without compression.";
    max_known_topics: u64 = 10_000, "a number from 1 to 10000000", |n| (1..=10_000_000).contains(n),
        "topics that `info` lists", "The least recently published topic is dropped; topics with subscribers stay.";
    tail: ProcessIds = ProcessIds::default(), "a list of at most 1000 process ids of 43 characters", ProcessIds::are_valid,
        "process ids", "Results of these processes are published even without subscribers.";
    tail_interval: Duration = Duration::from_millis(250), "a number of milliseconds from 20 to 60000", |time| (20..=60_000).contains(&time.as_millis()),
        "milliseconds between two probes of the node's cache", "The device finds a slot after this time. Processes without slots for 15 seconds get one probe a second, and at most 100 together. A hint makes it quicker.";
    max_tails: u64 = 1000, "a number from 0 to 100000", |n| *n <= 100_000,
        "processes whose results are followed at once", "Subscribers of one more get a `gap` frame of reason `limit`.";
    follow: Follow = Follow::Cached, "off, cached or compute", |_| true,
        "mode of followed processes", "`off` publishes no results; `compute` also lets the node compute the slots of `follow_processes` for subscribers.";
    follow_processes: ProcessIds = ProcessIds::default(), "a list of at most 1000 process ids of 43 characters, or all", ProcessIds::are_valid_or_all,
        "process ids, or `all`", "With `follow=compute`, subscribers of these processes make the node compute their scheduled messages.";
    follow_share: u64 = 25, "a number from 1 to 100", |n| (1..=100).contains(n),
        "per cent of the time that the node computes a process for its subscribers", "The next slots of that process wait.";
    max_slot_replays: u64 = 64, "a number from 0 to 10000", |n| *n <= 10_000,
        "slot replays at once, 0 for none", "One more is refused: HTTP 503 or an error frame, `too_many_slot_replays`.";
    max_replay_slots: u64 = 10_000, "a number from 1 to 1000000000", |n| (1..=1_000_000_000).contains(n),
        "slots of one slot replay", "The oldest slots are left out; a `gap` frame of reason `not_replayed` takes their place.";
    tls_cert: String = String::new(), "the path of a PEM file, or empty", |_| true,
        "path of a PEM file with the certificate chain", "With `tls_key` the port speaks only TLS: `https` and `wss`. A changed file is read again.";
    tls_key: String = String::new(), "the path of a PEM file, or empty", |_| true,
        "path of a PEM file with the private key", "The key of `tls_cert`, not encrypted.";
    engine: EngineUrls = EngineUrls::default(), "a list of at most 16 URLs of one NATS cluster, such as nats://127.0.0.1:4222 or tls://nats.example, without user or password", EngineUrls::are_valid,
        "URLs of NATS servers, empty for none", "The server publishes into the stream that other servers share, and delivers what comes back.";
    engine_stream: String = "dev_websocket".to_owned(), "a name of at most 64 letters, digits, - and _", |name| engine::is_stream_name(name),
        "name of the stream", "Servers with the same stream have the same publications under the same numbers.";
    engine_create: bool = false, "true or false", |_| true,
        "switch", "The server makes the stream if it does not exist.";
    engine_credentials: String = String::new(), "the path of a credentials file, or empty", |_| true,
        "path of a NATS credentials file", "A file that cannot be read keeps the server from its stream.";
    engine_ca: String = String::new(), "the path of a PEM file, or empty", |_| true,
        "path of a PEM file with certificate authorities", "With it the connection to the engine uses TLS, and the engine's certificate must come from one of them.";
    engine_cert: String = String::new(), "the path of a PEM file, or empty", |_| true,
        "path of a PEM file with a client certificate", "The server shows it to the engine, with `engine_key`.";
    engine_key: String = String::new(), "the path of a PEM file, or empty", |_| true,
        "path of a PEM file with its private key", "The key of `engine_cert`.";
    engine_bytes: u64 = 64 * MIB, "a number of bytes from 65536 to 17179869184", |n| (64 * KIB..=16 * KIB * MIB).contains(n),
        "bytes queued for the stream", "A further cast is dropped and counted as `overload`; all clients are told.";
    engine_timeout: Duration = Duration::from_secs(5), "a number of milliseconds from 500 to 600000", |time| (500..=600_000).contains(&time.as_millis()),
        "milliseconds until a silent stream is away", "`/health` answers 503, and clients get a `stale` frame.";
    handshake_timeout: Duration = Duration::from_secs(10), "a number of milliseconds from 100 to 600000", |time| (100..=600_000).contains(&time.as_millis()),
        "milliseconds for a client's request", "The connection is closed.";
    ping_interval: Duration = Duration::from_secs(25), "a number of milliseconds from 50 to 3600000", |time| (50..=3_600_000).contains(&time.as_millis()),
        "milliseconds between server pings", "A client silent for two pings is closed with 1008.";
    excluded_topic_keys: Vec<String> = default_excluded_topic_keys(), "a list of tag keys", |_| true,
        "tag keys, a leading * matches any start", "A tag of that key makes no topic.";
    #[harmless]
    commitments: bool = false, "true or false", |_| true,
        "switch", "Sends the `commitments` of messages to clients.";
    #[harmless]
    shards: u64 = 0, "a number from 0 to 256", |n| *n <= 256,
        "writer threads, 0 for one per four cores", "More writers send to different connections at the same time.";
    #[harmless]
    workers: u64 = 0, "a number from 0 to 256", |n| *n <= 256,
        "threads that read from connections, and as many that serve requests, 0 for one per four cores", "More workers read and accept at the same time.";
}

fn default_excluded_topic_keys() -> Vec<String> {
    [
        "data",
        "body",
        "commitments",
        "signature",
        "anchor",
        "nonce",
        "reference",
        "random-seed",
        "results-id",
        "state-id",
        "outbox-count",
        "event-count",
        "events-omitted",
        "*timestamp",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The endpoints that the listener can serve besides the WebSocket endpoint.
const ENDPOINTS: [&str; 8] = [
    "page",
    "client",
    "info",
    "health",
    "metrics",
    "events",
    "connections",
    "cast",
];

fn default_endpoints() -> Vec<String> {
    ENDPOINTS.map(str::to_owned).to_vec()
}

impl Settings {
    /// Returns the settings that determine a message's topics.
    #[must_use]
    pub fn topic_rules(&self) -> TopicRules {
        TopicRules {
            keys: TopicKeys::new(self.excluded_topic_keys.iter().map(String::as_str)),
            max_topics: usize::try_from(self.max_topics_per_message).unwrap_or(usize::MAX),
        }
    }

    /// Returns the number of writer threads to run.
    pub(crate) fn shard_count(&self) -> usize {
        thread_count(self.shards)
    }

    /// Returns the smallest frame that is compressed, in bytes; 0 compresses none.
    pub(crate) fn compression_min(&self) -> usize {
        match self.compression {
            Compression::Off => 0,
            Compression::Shared => size(self.compression_min_bytes),
        }
    }

    /// Returns the number of reader threads to run.
    pub(crate) fn worker_count(&self) -> usize {
        thread_count(self.workers)
    }
}

/// Returns the number of threads. By default it is a quarter of the cores and at least one, because the node's
/// schedulers need the rest.
fn thread_count(setting: u64) -> usize {
    match usize::try_from(setting).unwrap_or(1) {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4)),
        count => count,
    }
}

/// Converts a limit in bytes or items to `usize`; the ranges of the table fit.
pub(crate) fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
