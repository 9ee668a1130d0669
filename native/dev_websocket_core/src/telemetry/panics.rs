//! Faults of the engine itself: a panic ends what it happened in and nothing else, and it is counted and logged.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;

use crate::telemetry::counters::Counters;

/// A place where a test can make the engine panic. Nothing in a build without the feature `faults`.
macro_rules! panic_point {
    ($name:literal) => {
        #[cfg(feature = "faults")]
        fail::fail_point!($name);
    };
}
pub(crate) use panic_point;

/// Runs something to its end. None when it panicked; what it worked on may be in any state then.
pub(crate) fn contain<T>(what: &str, counters: &Counters, run: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(run));
    result.map_err(|panic| tell(what, counters, &*panic)).ok()
}

/// As [`contain`], for a task.
///
/// Made of combinators: an `async` function or block that is given a future keeps room for it twice, once as its argument
/// and once to wait for it, and every connection has such a task.
pub(crate) fn contain_task<T>(
    what: &str,
    counters: impl Deref<Target = Counters>,
    task: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(task)
        .catch_unwind()
        .map(move |result| result.map_err(|panic| tell(what, &counters, &*panic)).ok())
}

fn tell(what: &str, counters: &Counters, panic: &(dyn Any + Send)) {
    counters.panics.add(1);
    // The hook for panics says where it was.
    tracing::debug!(
        name: "contained", what,
        "The WebSocket server contained a panic of {what}: {}.", panic_text(panic)
    );
}

/// What a panic says, without the text that it happened to: that may be a client's.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text: &str = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panic",
    };
    // So the standard library quotes what was cut at a wrong place.
    let quoted = [" of `", " when slicing `"]
        .iter()
        .filter_map(|quote| text.find(quote))
        .min();
    quoted.and_then(|quoted| text.get(..quoted)).unwrap_or(text)
}
