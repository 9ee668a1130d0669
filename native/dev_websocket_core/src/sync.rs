//! What threads share and wait with. The models in `native/models` take the code that uses this as it is, and put types
//! in place of these that try out every order of events.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic;
pub(crate) use std::thread;

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use futures::task::AtomicWaker;
pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::{Notify, Semaphore};
