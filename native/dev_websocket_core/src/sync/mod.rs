//! Synchronization types. With `cfg(loom)`, which only `native/models` sets, these types explore every order of
//! events. `RUSTFLAGS` cannot set it, because tokio then has no sockets.

#[cfg(loom)]
mod modelled;
#[cfg(loom)]
mod modelled_socket;

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::OnceLock;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwapOption;
    pub(crate) use futures::task::AtomicWaker;
    pub(crate) use parking_lot::Mutex;
    pub(crate) use tokio::sync::{Notify, Semaphore};
}

#[cfg(loom)]
pub(crate) use self::modelled::*;
#[cfg(loom)]
pub(crate) use self::modelled_socket::TcpStream;
#[cfg(not(loom))]
pub(crate) use self::real::*;
