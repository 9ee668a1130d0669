//! Reporting of panics of the engine's own threads as events, instead of texts on the program's standard error.

use std::panic::{self, PanicHookInfo};
use std::thread;

use crate::telemetry::panics::panic_text;

/// Reports panics of the engine's threads as events of the kind `fault`. The previous hook gets all others.
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
