//! Log events of the engine on their way to Erlang's `logger`.
//!
//! A reader process requests events in batches, so its mailbox holds at most one batch. The reader is stored here,
//! where copies of the device find it. Without a reader, events wait in the bounded queue for the next one.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use dev_websocket_core::Counters;
use dev_websocket_core::diagnostics::{self, Event, Events, Value};
use parking_lot::{Condvar, Mutex};
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};
use tracing::Level;

use crate::atoms;
use crate::terms::{map, text};

/// The time that a stop waits for its own log line.
const SETTLED: Duration = Duration::from_secs(1);

static READER: Mutex<Option<Reader>> = Mutex::new(None);
/// Signals that the reader requests events and has logged the previous ones.
static ASKED: Condvar = Condvar::new();
/// The number of events that readers have received and handled.
static READ: AtomicU64 = AtomicU64::new(0);

struct Reader {
    process: LocalPid,
    /// The number of events sent to the reader and not yet acknowledged; at 0 the reader has requested some.
    unread: u64,
    /// True if the previous reader exited with events in its mailbox.
    follows_a_loss: bool,
}

/// Starts to record the engine's events. Both `tracing` and the panic hook belong to this library alone: another
/// library in the VM has its own.
pub(crate) fn begin(counters: &Arc<Counters>) {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let (recorder, events) = diagnostics::channel(counters.clone());
        let thread = thread::Builder::new().name("ws-log".to_owned());
        // Without this thread no events would be read, so panics then keep their previous hook.
        let counters = counters.clone();
        if thread.spawn(move || pass_on(events, &counters)).is_ok()
            && tracing::subscriber::set_global_default(recorder).is_ok()
        {
            diagnostics::watch_panics();
        }
    });
}

/// Makes the caller the reader.
///
/// # Errors
/// The call returns the current reader.
pub(crate) fn read(env: Env<'_>) -> Result<(), LocalPid> {
    let process = env.pid();
    let mut reader = READER.lock();
    let follows_a_loss = match &*reader {
        Some(other) if env.is_process_alive(other.process) => return Err(other.process),
        Some(other) => other.follows_a_loss || other.unread > 0,
        None => false,
    };
    *reader = Some(Reader {
        process,
        unread: 0,
        follows_a_loss,
    });
    ASKED.notify_all();
    Ok(())
}

/// Returns whether there is a reader.
pub(crate) fn is_read(env: Env<'_>) -> bool {
    READER
        .lock()
        .as_ref()
        .is_some_and(|reader| env.is_process_alive(reader.process))
}

/// Reports that the reader has logged its events.
pub(crate) fn acknowledge(process: LocalPid) {
    if let Some(reader) = &mut *READER.lock()
        && reader.process == process
    {
        READ.fetch_add(mem::take(&mut reader.unread), Ordering::Relaxed);
        ASKED.notify_all();
    }
}

/// Waits until all events are logged, because the VM may be about to end. Scheduler threads must not call this.
pub(crate) fn settle(counters: &Counters) {
    let deadline = Instant::now() + SETTLED;
    let mut reader = READER.lock();
    while reader.is_some()
        && READ.load(Ordering::Relaxed) < counters.log_events.get()
        && !ASKED.wait_until(&mut reader, deadline).timed_out()
    {}
}

fn pass_on(mut events: Events, counters: &Counters) {
    let mut mail = OwnedEnv::new();
    let mut sent = 0;
    while let Some(batch) = events.wait() {
        let count = batch.len() as u64;
        loop {
            let (process, follows_a_loss) = next_reader(count);
            if follows_a_loss {
                counters.log_events_dropped.add(sent);
                READ.fetch_add(sent, Ordering::Relaxed);
            }
            sent = 0;
            let result = mail.send_and_clear(&process, |env| {
                let events: Vec<_> = batch.iter().map(|event| encode(env, event)).collect();
                (atoms::log(), events).encode(env)
            });
            if result.is_ok() {
                sent = count;
                break;
            }
            READER.lock().take_if(|reader| reader.process == process);
        }
    }
}

/// Waits until a reader requests events, and assigns `count` events to it. The flag is true if the last events sent
/// are lost.
fn next_reader(count: u64) -> (LocalPid, bool) {
    let mut reader = READER.lock();
    loop {
        if let Some(reader) = &mut *reader
            && reader.unread == 0
        {
            reader.unread = count;
            return (reader.process, mem::take(&mut reader.follows_a_loss));
        }
        ASKED.wait(&mut reader);
    }
}

/// Encodes `{Level, Text, Metadata}`.
fn encode<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    let level = match event.level {
        Level::ERROR => atoms::error(),
        Level::WARN => atoms::warning(),
        Level::INFO => atoms::info(),
        Level::DEBUG | Level::TRACE => atoms::debug(),
    };
    let microseconds = event
        .time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_micros() as u64);
    let name = |name| Some(Atom::from_str(env, name).ok()?.encode(env));
    let details = event.fields.iter().filter_map(|(key, value)| {
        let value = match value {
            Value::Number(number) => number.encode(env),
            Value::Text(value) => text(env, value),
            Value::Kind(kind) => name(kind)?,
        };
        Some((Atom::from_str(env, key).ok()?, value))
    });
    let kind = name(event.kind).map(|kind| (atoms::event(), kind));
    let common = [
        (atoms::application(), atoms::dev_websocket().encode(env)),
        // Log levels of modules apply to this one (`logger:set_module_level/2`).
        (
            atoms::mfa(),
            (atoms::dev_websocket(), atoms::start(), 1).encode(env),
        ),
        (atoms::time(), microseconds.encode(env)),
    ];
    let metadata = map(env, details.chain(kind).chain(common));
    (level, text(env, &event.text), metadata).encode(env)
}
