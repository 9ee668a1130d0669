//! A panic of the engine's own threads is an event, not a text on the standard error of the program.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::thread;

/// Tells panics of the engine's threads as events of the kind `fault`. Others go to the hook that was there before.
pub fn watch_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_of_engine(&thread::current()) {
            tell(info);
        } else {
            before(info);
        }
    }));
}

/// What a panic said, without the text that it happened to: that may be a client's.
#[must_use]
pub fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text: &str = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panic",
    };
    without_quoted(text)
}

fn is_of_engine(thread: &thread::Thread) -> bool {
    thread.name().is_some_and(|name| name.starts_with("ws-"))
}

fn tell(info: &PanicHookInfo<'_>) {
    let text = without_quoted(info.payload_as_str().unwrap_or("panic"));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let current = thread::current();
    let thread = current.name().unwrap_or_default();
    tracing::error!(
        name: "fault", thread, panic = text, place,
        "The WebSocket server has a fault: {text}, at {place} in {thread}."
    );
}

/// The standard library quotes text that was cut at a wrong place.
fn without_quoted(text: &str) -> &str {
    let quoted = [" of `", " when slicing `"]
        .iter()
        .filter_map(|quote| text.find(quote))
        .min();
    quoted.and_then(|quoted| text.get(..quoted)).unwrap_or(text)
}
