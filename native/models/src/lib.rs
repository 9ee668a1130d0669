//! Models of the engine's concurrent parts: loom explores every order of events that their atomics and locks permit.
//!
//! The core's own files run here with `cfg(loom)`, so that its module `sync` has loom's locks and atomics. Messages
//! and commands are owned by one thread at a time, so stand-ins replace them. `build.rs` lists the files and generates
//! copies with one error each.
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

mod tls {
    pub(crate) mod socket {
        pub(crate) use crate::sync::TcpStream as Socket;
    }
}

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

/// A model of a part of the core, or of a broken copy.
pub struct Model {
    /// The name of the part.
    pub part: &'static str,
    /// The property that the model checks.
    pub claim: &'static str,
    /// A single execution.
    pub run: fn(),
}

/// Returns the error of each copy, which is empty for the part itself, and the models to run with it.
pub fn variants() -> impl Iterator<Item = (&'static str, Vec<Model>)> {
    VARIANTS.iter().map(|(part, wrong, models)| {
        let model = |&(claim, run): &(&'static str, fn())| Model { part, claim, run };
        (*wrong, models.iter().map(model).collect())
    })
}
