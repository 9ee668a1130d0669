//! A WebSocket fan-out engine that runs inside another program, here an Erlang VM.
//!
//! A [`Server`] owns a listener, a small runtime that reads from clients, and writer shards that send to them.
//! [`Server::publish`] takes a message, derives its topics, encodes it once and appends it to the log. The shards
//! deliver it to every matching subscription.
//!
//! A message passes through the modules in this order: [`message`] (message, topics, JSON) → `publication` (encoded
//! once) → `log` (ordered) → `shard` (matched and written) → the socket.
//!
//! A client's request passes through `listener` → `http` (the request) → `connection` (reads control messages) →
//! `shard`.
//!
//! A client's message to the program passes through `connection` → `inbound` (a bounded queue to the program's
//! [`Listener`]). A direct message of the program passes through [`Server::send`] (in `direct`) → `shard` → the
//! socket.
//!
//! ```
//! use std::time::Duration;
//!
//! use dev_websocket_core::message::Value;
//! use dev_websocket_core::{Disconnect, Server, Settings};
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let server = Server::builder(Settings::default()).listener(listener).start()?;
//! // Clients that connect to this URI with `?topic=prices` receive the message.
//! assert!(server.info().uri.starts_with("ws://"));
//! let message = Value::Map(vec![("topic".into(), Value::Text("prices".into()))]);
//! assert_eq!(server.publish(&message)?, 1);
//! server.shutdown(Disconnect::Stopping, Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::mutable_key_type,
    reason = "patterns are compared by their text; only the memory of their searches changes inside"
)]

mod access;
mod cluster;
mod connection;
mod error;
mod error_code;
mod file_version;
mod http;
#[cfg(feature = "internals")]
pub mod internals;
mod limits;
mod log;
pub mod message;
mod server;
mod settings;
mod shard;
mod shared;
mod subscription;
mod sync;
mod telemetry;
mod tls;
mod wire;

pub use access::{IssueError, NewToken, Revocation, RevokeError, TokenState};
pub use cluster::outgoing::OutgoingRecord;
pub use error::{BadJson, Rejected, StartError, Unpublished};
pub use log::publication::slot_gap::{SlotGap, SlotRange};
pub use log::slot_marks::{MAX_HOLES, MAX_SLOT, Mark, Position, SlotMarks};
pub use message::process_id::ProcessId;
pub use server::publish::Event;
pub use server::results::{MAX_PART_BYTES, MAX_PART_EVENTS, SlotRejected};
pub use server::send::{Direct, SendError};
pub use server::slots::{ReplayFailure, ReplayRejected};
pub use server::{Builder, Reconfigured, Server};
pub use settings::{
    Access, Compression, EngineUrls, Follow, Networks, ProcessIds, SettingError, SettingRow,
    SettingValue, Settings, Topics,
};
pub use shard::interest::{Interest, InterestSignal, InterestWatcher, Wanted};
pub use shard::slot_replay::{DueReplay, SlotReplays};
pub use shared::connection_info::ConnectionInfo;
pub use shared::exposition::{Family, Sample, Samples};
pub use shared::inbound::{Inbound, Listener, Listening, Payload};
pub use shared::info::{Description, Info};
pub use shared::publishing::Unwritten;
pub use shared::stream::{OutOfOrder, Stream, StreamEngine, StreamRead};
pub use telemetry::counters::{Counter, Counters, ResultsSource};
pub use telemetry::diagnostics;
pub use telemetry::panics::panic_text;
pub use wire::close::Disconnect;
