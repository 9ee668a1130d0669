//! Panics as events. The hook is the whole program's, so this test is alone.
#![cfg(test)]

mod support;

use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dev_websocket_core::diagnostics::{self, Event, Events, Value};
use dev_websocket_core::{Listener, Payload};
use support::{Raw, TEXT, TestServer, frame};

const MARKER: &str = "sécret";

#[test]
fn a_panic_of_an_engine_thread_is_an_event_without_the_text_that_it_happened_to() {
    static OTHERS: AtomicUsize = AtomicUsize::new(0);
    let of_tests = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        OTHERS.fetch_add(1, Ordering::Relaxed);
        of_tests(info);
    }));
    diagnostics::watch_panics();
    let (recorder, mut events) = diagnostics::channel(Arc::default());
    tracing::subscriber::set_global_default(recorder).unwrap();

    let text = std::hint::black_box(format!("{MARKER} and more"));
    let cut = |from: usize, to: usize| std::hint::black_box(&text[from..to]).len();
    let faults: [(&str, &(dyn Fn() -> usize + Sync)); 5] = [
        ("told as it is", &|| panic!("told as it is")),
        ("number 7", &|| panic!("number {}", std::hint::black_box(7))),
        ("char boundary", &|| cut(0, 2)),
        ("out of bounds", &|| cut(0, 1000)),
        ("begin ", &|| cut(3, 1)),
    ];
    for (expected, fault) in faults {
        let joined = thread::scope(|scope| {
            thread::Builder::new()
                .name("ws-test".into())
                .spawn_scoped(scope, fault)
                .unwrap()
                .join()
        });
        let told = events.wait().unwrap();
        let [event] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!((event.kind, event.level), ("fault", tracing::Level::ERROR));
        assert!(event.text.contains(expected), "{}", event.text);
        assert!(event.text.contains("tests/panics.rs:"), "{}", event.text);
        assert!(!format!("{event:?}").contains(MARKER), "{event:?}");
        let payload = joined.unwrap_err();
        let text = dev_websocket_core::panic_text(&*payload).to_owned();
        assert!(!text.contains(MARKER), "{text}");
        assert!(
            event.fields.contains(&("panic", Value::Text(text))),
            "{event:?}"
        );
        assert!(
            event
                .fields
                .contains(&("thread", Value::Text("ws-test".into()))),
            "{event:?}"
        );
    }
    assert_eq!(OTHERS.load(Ordering::Relaxed), 0);
    a_fault_of_a_running_server_is_told_once(&mut events);
    assert_eq!(OTHERS.load(Ordering::Relaxed), 0);

    let other = thread::Builder::new().name("scheduler".into());
    other
        .spawn(|| panic!("of somebody else"))
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(OTHERS.load(Ordering::Relaxed), 1);
}

/// The program's own code is at fault here, on a thread of the engine.
struct Faulty;

impl Listener for Faulty {
    fn deliver(&self, _: u64, payload: Payload, _: u32) -> bool {
        panic!("faulty: {}", matches!(payload, Payload::Text(_)))
    }
}

fn a_fault_of_a_running_server_is_told_once(events: &mut Events) {
    let server = TestServer::start();
    let address = server.address().to_string();
    server.inbound.listen(Faulty, 1000);
    let mut client = Raw::upgraded(&server, "?format=raw");
    client.write(frame(TEXT, MARKER.as_bytes()));
    assert_eq!(client.closed().1.0, 1011);
    server.until_stat("connections", 0);
    assert_eq!(server.counters.panics.get(), 1);
    drop(server);
    let mut told: Vec<Event> = Vec::new();
    while told.last().is_none_or(|event| event.kind != "stopped") {
        told.extend(events.wait().unwrap());
    }
    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["started", "fault", "contained", "stopped"]);
    let fields = |index: usize| &told[index].fields;
    assert!(fields(0).contains(&("address", Value::Text(address))));
    assert!(fields(1).contains(&("panic", Value::Text("faulty: true".into()))));
    assert!(fields(1).contains(&("thread", Value::Text("ws-io".into()))));
    assert!(fields(2).contains(&("what", Value::Text("a connection".into()))));
    assert!(!format!("{told:?}").contains(MARKER), "{told:?}");
}
