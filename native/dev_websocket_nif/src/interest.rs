//! The processes that have subscribers, for the Erlang process that watches them.

use dev_websocket_core::{Interest, InterestWatcher};
use rustler::{Atom, Encoder, Env, LocalPid, NewBinary, OwnedEnv, Term};

use crate::atoms;
use crate::encode;
use crate::engine::ENGINE;

/// The maximum number of ids per call.
const MAX_IDS: usize = 65_536;

/// Makes the caller the watcher that is notified of the next change.
pub(crate) fn watch(env: Env<'_>) {
    let watcher = Watcher::new(env.pid(), atoms::websocket_interest);
    ENGINE.interest.watch(watcher);
}

/// Encodes `{ok, [{Id, Since}], Total, Others}`. The watcher is notified of the first change after this call.
pub(crate) fn read<'a>(env: Env<'a>, max: Term<'a>) -> Term<'a> {
    let max: Result<usize, _> = max.decode();
    let Some(max) = max.ok().filter(|max| *max <= MAX_IDS) else {
        return encode::bad_argument(env, "max must be an integer from 0 to 65536");
    };
    ENGINE.interest.arm();
    let Interest {
        processes,
        total,
        others,
        ..
    } = ENGINE
        .server()
        .map_or_else(|_| Interest::default(), |server| server.interest(max));
    let processes: Vec<_> = processes
        .iter()
        .map(|wanted| {
            (
                Term::from(NewBinary::from_slice(env, &wanted.id)),
                wanted.since,
            )
        })
        .collect();
    (atoms::ok(), processes, total, others).encode(env)
}

/// A process that is notified by `{Subject, changed}`.
pub(crate) struct Watcher {
    process: LocalPid,
    subject: fn() -> Atom,
}

impl Watcher {
    pub(crate) fn new(process: LocalPid, subject: fn() -> Atom) -> Self {
        Self { process, subject }
    }
}

impl InterestWatcher for Watcher {
    /// The message's atoms are made here, because the device's modules may have other names.
    fn changed(&self) -> bool {
        let told = OwnedEnv::new().send_and_clear(&self.process, |env| {
            ((self.subject)(), atoms::changed()).encode(env)
        });
        told.is_ok()
    }
}
