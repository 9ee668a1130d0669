//! A panic of the engine's own threads is an event, not a text on the standard error of the program.

use std::panic::{self, PanicHookInfo};
use std::thread;

use crate::telemetry::panics::panic_text;

/// Tells panics of the engine's threads as events of the kind `fault`. Others go to the hook that was there before.
pub fn watch_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        match thread.name().filter(|name| name.starts_with("ws-")) {
            Some(thread) => tell(thread, info),
            None => before(info),
        }
    }));
}

fn tell(thread: &str, info: &PanicHookInfo<'_>) {
    let text = panic_text(info.payload());
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        name: "fault", thread, panic = text, place,
        "The WebSocket server panicked: {text}, at {place} in thread {thread}."
    );
}
