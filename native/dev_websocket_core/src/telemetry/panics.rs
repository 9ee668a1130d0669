//! Containment of panics in the engine: a panic ends only its own task, and it is counted and logged.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use futures::FutureExt;

use crate::telemetry::counters::Counters;

/// Marks a place where tests can inject a panic. The macro is empty without the feature `faults`.
macro_rules! panic_point {
    ($name:literal) => {
        #[cfg(feature = "faults")]
        fail::fail_point!($name);
    };
}
pub(crate) use panic_point;

/// Runs a function and contains its panic. After a panic the result is none and its data may be in any state.
pub(crate) fn contain<T>(what: &str, counters: &Counters, run: impl FnOnce() -> T) -> Option<T> {
    contained(what, counters, catch_unwind(AssertUnwindSafe(run)))
}

/// Counts and logs the panic that a run ended with, if any.
pub(crate) fn contained<T>(
    what: &str,
    counters: &Counters,
    result: thread::Result<T>,
) -> Option<T> {
    result.map_err(|panic| tell(what, counters, &*panic)).ok()
}

/// Contains a panic of a task like [`contain`].
///
/// The implementation uses combinators, because an `async` function or block stores its future twice, as an argument
/// and as the awaited value. Every connection has such a task.
pub(crate) fn contain_task<T>(
    what: &str,
    counters: impl Deref<Target = Counters>,
    task: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(task)
        .catch_unwind()
        .map(move |result| contained(what, &counters, result))
}

fn tell(what: &str, counters: &Counters, panic: &(dyn Any + Send)) {
    counters.panics.add(1);
    // The panic hook reports the position.
    tracing::debug!(
        name: "contained", what,
        "The WebSocket server contained a panic of {what}: {}.", panic_text(panic)
    );
}

/// Returns the text of a panic without quoted data, which may come from a client.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text: &str = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panic",
    };
    // The standard library quotes a text in this form when a slice splits a character.
    let quoted = [" of `", " when slicing `"]
        .iter()
        .filter_map(|quote| text.find(quote))
        .min();
    quoted.and_then(|quoted| text.get(..quoted)).unwrap_or(text)
}
