//! A WebSocket fan-out engine that lives inside another program, here an Erlang VM.
//!
//! A [`Server`] owns a listener, a small runtime that reads from clients, and writer shards that send to them.
//! [`Server::publish`] takes a message, finds its topics, encodes it once and appends it to the log; the shards carry
//! it to everybody who is subscribed. The path of a message, in order of the modules:
//!
//! [`message`] (what a message is, its topics, its JSON) → `publication` (encoded once) → `log` (put in order) →
//! `shard` (matched and written) → the socket.
//!
//! The way back is `listener` → `http` (the request) → `connection` (reads control messages) → `shard`.
//!
//! The other direction is `connection` → `inbound` (to the program's [`Listener`], within a bound), and
//! [`Server::send`] (in `direct`) → `shard` → the socket.
#![forbid(unsafe_code)]
#![allow(
    clippy::mutable_key_type,
    reason = "patterns are compared by their text; only the memory of their searches changes inside"
)]

mod admission;
mod automaton;
mod connection;
mod counters;
mod cursor;
mod delivery;
mod descriptors;
pub mod diagnostics;
mod direct;
mod directory;
mod disconnect;
mod error;
mod event;
mod fault;
mod fault_code;
mod filters;
mod frame;
mod handshakes;
mod histogram;
mod http;
mod inbound;
mod info;
mod inspection;
mod interest;
#[cfg(feature = "internals")]
pub mod internals;
mod listener;
mod log;
mod measures;
pub mod message;
mod metrics;
mod pattern;
mod pattern_cache;
mod pattern_index;
mod protocol;
mod publication;
mod publishing;
mod results;
mod server;
mod settings;
mod shard;
mod shared;
mod slots;
mod spares;
mod subscription;
mod sync;
mod template_index;
pub mod topic;

pub use counters::{Counter, Counters, ResultsSource};
pub use direct::{Direct, SendError};
pub use disconnect::Disconnect;
pub use error::{BadJson, Rejected, StartError};
pub use fault::panic_text;
pub use inbound::{Inbound, Listener, Listening, Payload};
pub use info::{Description, Info};
pub use inspection::ConnectionInfo;
pub use interest::{Interest, InterestSignal, InterestWatcher, ProcessId, Wanted};
pub use metrics::{Family, Sample, Samples};
pub use publication::slot_gap::{SlotGap, SlotRange};
pub use publishing::Event;
pub use results::{MAX_PART_BYTES, MAX_PART_EVENTS, SlotRejected};
pub use server::{Reconfigured, Server};
pub use settings::{ProcessIds, SettingError, SettingRow, SettingValue, Settings};
pub use slots::{MAX_HOLES, MAX_SLOT, Mark, Position, Slots};
