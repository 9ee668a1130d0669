//! The engine's concurrent parts under every order of events that their atomics and locks allow, by loom.
//!
//! The core's own files run here, with `cfg(loom)`: its module `sync` then has loom's locks and atomics. Messages and
//! commands, which one thread at a time has, are stand-ins. `build.rs` names the files, and makes copies of them that are
//! wrong in one place each.
#![forbid(unsafe_code)]
#![allow(missing_docs, dead_code, unreachable_pub, reason = "parts of the core")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arc_with_non_send_sync,
    reason = "a model is a test, and loom's types stay on one thread"
)]

#[path = "../../dev_websocket_core/src/sync/mod.rs"]
mod sync;

#[path = "../../dev_websocket_core/src/shard/ids.rs"]
mod ids;

#[path = "../../dev_websocket_core/src/error.rs"]
mod error;

mod wire {
    pub(crate) mod close {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Disconnect {
            Slow,
        }
    }
}

mod shard {
    pub(crate) use crate::ids;

    pub(crate) mod peer {
        #[derive(Debug)]
        pub(crate) struct Peer;
    }

    pub(crate) mod command {
        use bytes::Bytes;

        use super::ids::ConnectionId;

        #[derive(Debug)]
        pub(crate) enum Command {
            Control {
                connection: ConnectionId,
                bytes: Bytes,
            },
            Direct {
                connection: ConnectionId,
                after: u64,
                frame: Bytes,
            },
            Writable {
                connection: ConnectionId,
            },
        }
    }

    pub(crate) use crate::variants::mailbox_0::mailbox;
}

mod log {
    pub(crate) mod publication;

    pub(crate) use crate::variants::log_0::log as publication_log;
}

type Variant = (&'static str, &'static str, &'static [(&'static str, fn())]);

include!(concat!(env!("OUT_DIR"), "/variants.rs"));

/// A model of a part of the core, or of a copy that is wrong.
pub struct Model {
    /// The part.
    pub part: &'static str,
    /// What holds.
    pub claim: &'static str,
    /// One order of events.
    pub run: fn(),
}

/// What is wrong with a part's copy, empty for the part itself, and the models to run it with.
pub fn variants() -> impl Iterator<Item = (&'static str, Vec<Model>)> {
    VARIANTS.iter().map(|(part, wrong, models)| {
        let model = |&(claim, run): &(&'static str, fn())| Model { part, claim, run };
        (*wrong, models.iter().map(model).collect())
    })
}
