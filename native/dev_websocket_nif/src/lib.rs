//! NIFs of the Erlang module `hb_websocket_nif`, which convert between terms and [`dev_websocket_core`].
//!
//! No NIF blocks. `boot`, `start` and `stop` queue their work for the engine's control thread and return; the caller
//! receives the result as `{Ref, Result}`, as for `connection`. Loading the library starts nothing, so a reload after
//! a purge finds the same engine in the same statics.

mod admin;
mod atoms;
mod decode;
mod encode;
mod engine;
mod inbound;
mod integers;
mod interest;
mod logging;
mod output;
mod provenance;
mod publishing;
mod results;
mod send;
mod settings;
mod slots;
mod terms;
mod threads;
mod tokens;
mod walk;

use std::sync::Arc;

use dev_websocket_core::{Access, Settings};
use rustler::{Atom, Encoder, Env, OwnedEnv, Term};

use crate::decode::Budget;
use crate::engine::{Command, ENGINE, OTP, Outcome, Reason};
use crate::publishing::Answer;
use crate::send::SendOutcome;

rustler::init!("hb_websocket_nif", load = load);

/// Takes the release of Erlang/OTP from the module that loads the library. Older modules give another term.
fn load(_env: Env<'_>, info: Term<'_>) -> bool {
    if let Ok(release) = info.decode() {
        // The release stays the same as long as the VM runs.
        let _ = OTP.set(release);
    }
    true
}

/// The version of this interface. The device compares it with its own number in `dev_websocket_library.erl`, because a
/// running VM keeps its library while newer copies of the device are loaded. A NIF that is added, removed or changed
/// needs a new version.
const INTERFACE: u32 = 5;

/// Returns the version of this interface.
#[rustler::nif]
fn interface() -> u32 {
    INTERFACE
}

/// Starts the server if this VM never started or stopped one; otherwise returns its state.
#[rustler::nif]
fn boot<'a>(env: Env<'a>, reference: Term<'a>, settings: Term<'a>) -> Term<'a> {
    lifecycle_with(env, reference, settings, Command::Boot)
}

/// Starts the server, or applies new settings to a running one.
#[rustler::nif]
fn start<'a>(env: Env<'a>, reference: Term<'a>, settings: Term<'a>) -> Term<'a> {
    lifecycle_with(env, reference, settings, Command::Start)
}

/// Stops the server; clients get a close frame.
#[rustler::nif]
fn stop<'a>(env: Env<'a>, reference: Term<'a>) -> Term<'a> {
    lifecycle(env, reference, Command::Stop)
}

/// Stops the server because of invalid settings; this reason stays until the server is started.
#[rustler::nif]
fn shut<'a>(env: Env<'a>, reference: Term<'a>, settings: Term<'a>) -> Term<'a> {
    let misfits = settings::read(settings).map_or_else(|error| error.misfits(), |_| Vec::new());
    if misfits.is_empty() {
        return encode::bad_argument(env, "settings must be a map with an invalid value");
    }
    let reason = Reason::Settings(misfits.into());
    lifecycle(env, reference, Command::Shut(reason))
}

/// Publishes a message, or returns `large` early; the caller then calls `cast_large`.
#[rustler::nif]
fn cast<'a>(env: Env<'a>, message: Term<'a>) -> Term<'a> {
    let answer = publishing::cast(message, |_| Budget::inline(), Outcome::Large);
    spent(env, answer)
}

/// Publishes a message of any size that the settings permit.
#[rustler::nif(schedule = "DirtyCpu")]
fn cast_large<'a>(env: Env<'a>, message: Term<'a>) -> Term<'a> {
    let (answer, _) = publishing::cast(message, Budget::of_message, Outcome::TooLarge);
    answer.encode(env)
}

/// Publishes a message with its provenance, or returns `large` early.
#[rustler::nif]
fn publish<'a>(env: Env<'a>, message: Term<'a>, origin: Term<'a>) -> Term<'a> {
    let answer = publishing::publish(message, origin, |_| Budget::inline(), Outcome::Large);
    spent(env, answer)
}

/// Publishes like `publish`, for a message of any size that the settings permit.
#[rustler::nif(schedule = "DirtyCpu")]
fn publish_large<'a>(env: Env<'a>, message: Term<'a>, origin: Term<'a>) -> Term<'a> {
    let (answer, _) = publishing::publish(message, origin, Budget::of_message, Outcome::TooLarge);
    answer.encode(env)
}

/// Publishes a JSON text as a message.
#[rustler::nif(schedule = "DirtyCpu")]
fn publish_json<'a>(env: Env<'a>, body: Term<'a>, origin: Term<'a>) -> Term<'a> {
    publishing::publish_json(body, origin).encode(env)
}

/// Publishes the events of a slot from a part on, or returns `large` early.
#[rustler::nif]
fn publish_slot<'a>(
    env: Env<'a>,
    process: Term<'a>,
    slot: Term<'a>,
    part: Term<'a>,
    events: Term<'a>,
    is_last: Term<'a>,
) -> Term<'a> {
    let (answer, percent) = results::publish_slot(env, [process, slot, part, events], is_last);
    consume(env, percent);
    answer
}

/// Publishes like `publish_slot`, for events of any size.
#[rustler::nif(schedule = "DirtyCpu")]
fn publish_slot_large<'a>(
    env: Env<'a>,
    process: Term<'a>,
    slot: Term<'a>,
    part: Term<'a>,
    events: Term<'a>,
    is_last: Term<'a>,
) -> Term<'a> {
    results::publish_slot_large(env, [process, slot, part, events], is_last)
}

/// Notifies the subscribers of a process that results are missing.
#[rustler::nif]
fn publish_slot_gap<'a>(
    env: Env<'a>,
    process: Term<'a>,
    from: Term<'a>,
    to: Term<'a>,
    reason: Term<'a>,
) -> Term<'a> {
    results::publish_slot_gap(env, process, (from, to), reason)
}

/// Returns the next event of a process, and the earlier slots that may still come.
#[rustler::nif]
fn slot_mark<'a>(env: Env<'a>, process: Term<'a>) -> Term<'a> {
    results::slot_mark(env, process)
}

/// Sets the first slot of a process, unless it already has a mark.
#[rustler::nif]
fn set_slot_mark<'a>(env: Env<'a>, process: Term<'a>, slot: Term<'a>) -> Term<'a> {
    results::set_slot_mark(env, process, slot)
}

/// Counts an event of the caller.
#[rustler::nif]
fn count_result<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    results::count(env, name)
}

/// Stores the number of followed processes, and of those that wait to be followed.
#[rustler::nif]
fn set_tails<'a>(env: Env<'a>, tails: Term<'a>, waiting: Term<'a>, source: Term<'a>) -> Term<'a> {
    results::set_tails(env, tails, waiting, source)
}

/// Makes the caller the watcher that is notified, once, when other processes have subscribers.
#[rustler::nif]
fn watch_interest(env: Env<'_>) -> Term<'_> {
    interest::watch(env);
    atoms::ok().encode(env)
}

/// Returns the processes that have subscribers. The NIF is dirty because there can be many.
#[rustler::nif(name = "interest", schedule = "DirtyCpu")]
fn read_interest<'a>(env: Env<'a>, max: Term<'a>) -> Term<'a> {
    interest::read(env, max)
}

/// Returns whether a client wants the edges of a process.
#[rustler::nif]
fn wants_edges<'a>(env: Env<'a>, process: Term<'a>) -> Term<'a> {
    results::wants_edges(env, process)
}

/// Returns whether any client could receive a message.
#[rustler::nif]
fn has_audience() -> bool {
    ENGINE.server().is_ok_and(|server| server.is_heard())
}

/// Counts a message that the caller drops.
#[rustler::nif]
fn count_dropped<'a>(env: Env<'a>, reason: Term<'a>) -> Term<'a> {
    let counters = &ENGINE.counters;
    let counter = if atoms::refused() == reason {
        &counters.dropped_refused
    } else if atoms::malformed() == reason {
        &counters.dropped_malformed
    } else if atoms::repeated() == reason {
        &counters.dropped_repeated
    } else {
        return encode::bad_argument(env, "reason must be refused, malformed or repeated");
    };
    counter.add(1);
    atoms::ok().encode(env)
}

/// Returns the server's address and the known topics. The NIF is dirty because there can be many topics.
#[rustler::nif(schedule = "DirtyCpu")]
fn info(env: Env<'_>) -> Term<'_> {
    match ENGINE.server() {
        Ok(server) => encode::info(env, &server.describe().info),
        Err(reason) => encode::error(env, &reason),
    }
}

/// Returns the information for clients, as terms and as a JSON document.
#[rustler::nif(schedule = "DirtyCpu")]
fn describe(env: Env<'_>) -> Term<'_> {
    match ENGINE.server() {
        Ok(server) => {
            let described = server.describe();
            // Strangers may call the device's key, so it tells no more than the server's own port.
            let (json, document) = match server.settings().access {
                Access::Open => (described.json.clone(), described.document.clone()),
                Access::Token => described.without_topics(),
            };
            let document = encode::bytes(env, &document);
            (atoms::ok(), encode::json(env, &json), document).encode(env)
        }
        Err(reason) => encode::error(env, &reason),
    }
}

/// Returns the settings in force, or the defaults when there is no server.
#[rustler::nif]
fn settings(env: Env<'_>) -> Term<'_> {
    let settings = ENGINE
        .server()
        .map_or_else(|_| Arc::default(), |server| server.settings());
    encode::settings(env, &settings)
}

/// Returns every counter and gauge by name; without a server only the counters.
#[rustler::nif(schedule = "DirtyCpu")]
fn stats(env: Env<'_>) -> Term<'_> {
    let stats = ENGINE
        .server()
        .map_or_else(|_| ENGINE.counters.list(), |server| server.stats());
    encode::stats(env, stats)
}

/// Returns the values of `stats` and the histograms, by their Prometheus names.
#[rustler::nif(schedule = "DirtyCpu")]
fn metrics(env: Env<'_>) -> Term<'_> {
    match ENGINE.server() {
        Ok(server) => (atoms::ok(), encode::metrics(env, server.metrics())).encode(env),
        Err(reason) => encode::error(env, &reason),
    }
}

/// Makes the caller the proxy that receives clients' messages for a listener. The NIF is dirty because it notifies
/// each connection that waits for the previous listener.
#[rustler::nif(schedule = "DirtyCpu")]
fn listen<'a>(env: Env<'a>, listener: Term<'a>) -> Term<'a> {
    let Ok(listener) = listener.decode() else {
        return encode::bad_argument(env, "listener must be a local process");
    };
    match inbound::listen(env, listener) {
        Ok(()) => atoms::ok().encode(env),
        Err((other, proxy)) => {
            (atoms::error(), (atoms::already_listening(), other, proxy)).encode(env)
        }
    }
}

/// Ends the listener and returns its proxy. The NIF is dirty because it notifies each connection that waits for the
/// listener.
#[rustler::nif(schedule = "DirtyCpu")]
fn unlisten<'a>(env: Env<'a>, listener: Term<'a>) -> Term<'a> {
    match listener.decode().map(inbound::unlisten) {
        Ok(Some(proxy)) => (atoms::ok(), proxy).encode(env),
        Ok(None) => (atoms::error(), atoms::not_listening()).encode(env),
        Err(_) => encode::bad_argument(env, "listener must be a local process"),
    }
}

/// Reports that the listener has taken messages of this cost.
#[rustler::nif]
fn acknowledge<'a>(env: Env<'a>, cost: Term<'a>) -> Term<'a> {
    match cost.decode() {
        Ok(cost) => {
            inbound::acknowledge(env.pid(), cost);
            atoms::ok().encode(env)
        }
        Err(_) => encode::bad_argument(env, "cost must be an integer of 32 bits"),
    }
}

/// Sends to one connection, or returns `large` early; the caller then calls `send_large`.
#[rustler::nif]
fn send<'a>(env: Env<'a>, connection: Term<'a>, payload: Term<'a>) -> Term<'a> {
    let (sent, percent) = send::send(
        connection,
        payload,
        |_| Budget::inline(),
        SendOutcome::Large,
    );
    consume(env, percent);
    encode::sent(env, &sent)
}

/// Sends a payload of any size that the settings permit.
#[rustler::nif(schedule = "DirtyCpu")]
fn send_large<'a>(env: Env<'a>, connection: Term<'a>, payload: Term<'a>) -> Term<'a> {
    let (sent, _) = send::send(
        connection,
        payload,
        Budget::of_message,
        SendOutcome::TooLarge,
    );
    encode::sent(env, &sent)
}

/// Sends the details of a connection to the caller, as `{Ref, Result}`.
#[rustler::nif]
fn connection<'a>(env: Env<'a>, reference: Term<'a>, number: Term<'a>) -> Term<'a> {
    let caller = env.pid();
    let mut mail = OwnedEnv::new();
    let reference = mail.save(reference);
    let asked = admin::connection(number, move |known| {
        // The caller may have exited, and then no process needs the result.
        let _ = mail.send_and_clear(&caller, |env| {
            (reference.load(env), encode::connection(env, known)).encode(env)
        });
    });
    encode::sent(env, &asked)
}

/// Makes the caller the reader of log events, which arrive as `{log, [{Level, Text, Metadata}]}`.
#[rustler::nif]
fn read_log(env: Env<'_>) -> Term<'_> {
    match logging::read(env) {
        Ok(()) => atoms::ok().encode(env),
        Err(reader) => (atoms::error(), (atoms::already_read(), reader)).encode(env),
    }
}

/// Reports that the caller has logged its events and wants more.
#[rustler::nif]
fn acknowledge_log(env: Env<'_>) -> Term<'_> {
    logging::acknowledge(env.pid());
    atoms::ok().encode(env)
}

/// Returns whether a process reads log events.
#[rustler::nif]
fn is_log_read(env: Env<'_>) -> bool {
    logging::is_read(env)
}

/// Sends a page of connections to the caller, as `{Ref, Result}`. The NIF is dirty because there can be many
/// connections.
#[rustler::nif(schedule = "DirtyCpu")]
fn connections<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    after: Term<'a>,
    limit: Term<'a>,
) -> Term<'a> {
    let caller = env.pid();
    let mut mail = OwnedEnv::new();
    let reference = mail.save(reference);
    let asked = admin::connections(after, limit, move |found| {
        // The caller may have exited, and then no process needs the result.
        let _ = mail.send_and_clear(&caller, |env| {
            (reference.load(env), encode::connections(env, found)).encode(env)
        });
    });
    encode::sent(env, &asked)
}

/// Closes a connection.
#[rustler::nif]
fn disconnect<'a>(env: Env<'a>, connection: Term<'a>) -> Term<'a> {
    encode::sent(env, &admin::disconnect(connection))
}

/// Signs a token. The NIF is dirty because the list of topics has any length.
#[rustler::nif(schedule = "DirtyCpu")]
fn token<'a>(
    env: Env<'a>,
    subject: Term<'a>,
    topics: Term<'a>,
    send: Term<'a>,
    seconds: Term<'a>,
) -> Term<'a> {
    tokens::token(env, [subject, topics, send, seconds])
}

/// Revokes a token by its id.
#[rustler::nif]
fn revoke_token<'a>(env: Env<'a>, id: Term<'a>) -> Term<'a> {
    tokens::revoke_token(env, id)
}

/// Revokes the tokens of a subject.
#[rustler::nif]
fn revoke_subject<'a>(env: Env<'a>, subject: Term<'a>, until: Term<'a>) -> Term<'a> {
    tokens::revoke_subject(env, subject, until)
}

/// Returns the names of the settings whose default may admit unwanted clients or data. The server stays closed while
/// such a setting is invalid.
#[rustler::nif]
fn protective(env: Env<'_>) -> Term<'_> {
    let rows = Settings::table().into_iter().filter(|row| row.protects);
    let names: Vec<_> = rows
        .filter_map(|row| Atom::from_str(env, row.name).ok())
        .collect();
    names.encode(env)
}

/// Returns whether the settings are valid.
#[rustler::nif]
fn validate<'a>(env: Env<'a>, settings: Term<'a>) -> Term<'a> {
    match settings::read(settings) {
        Ok(_) => atoms::ok().encode(env),
        Err(error) => encode::bad_settings(env, &error),
    }
}

/// Reports the time of a call to the scheduler, in percent of a time slice.
fn spent<'a>(env: Env<'a>, (answer, percent): (Answer<'a>, i32)) -> Term<'a> {
    consume(env, percent);
    answer.encode(env)
}

fn consume(env: Env<'_>, percent: i32) {
    if percent > 0 {
        rustler::schedule::consume_timeslice(env, percent);
    }
}

fn lifecycle_with<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    settings: Term<'a>,
    command: fn(Box<Settings>) -> Command,
) -> Term<'a> {
    match settings::read(settings) {
        Ok(settings) => lifecycle(env, reference, command(Box::new(settings))),
        Err(error) => {
            let misfits = error.misfits();
            if !misfits.is_empty() {
                ENGINE.refuse(&Reason::Settings(misfits.into()));
            }
            encode::bad_settings(env, &error)
        }
    }
}

/// Queues a command for the control thread, which sends `{Ref, Result}` when it is done.
fn lifecycle<'a>(env: Env<'a>, reference: Term<'a>, command: Command) -> Term<'a> {
    let caller = env.pid();
    let mut mail = OwnedEnv::new();
    let reference = mail.save(reference);
    let reply = move |result: engine::Result<()>| {
        // The caller may have exited, and then no process needs the result.
        let _ = mail.send_and_clear(&caller, |env| {
            (reference.load(env), encode::done(env, &result)).encode(env)
        });
    };
    match ENGINE.submit(command, Box::new(reply)) {
        Ok(()) => atoms::ok().encode(env),
        Err(reason) => encode::error(env, &reason),
    }
}
