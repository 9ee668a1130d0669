//! Which processes have subscribers, for the Erlang process that watches it.

use dev_websocket_core::{Interest, InterestWatcher};
use rustler::{Encoder, Env, LocalPid, NewBinary, OwnedEnv, Term};

use crate::atoms;
use crate::encode;
use crate::engine::ENGINE;

/// Ids that one call gives at the most.
const MAX_IDS: usize = 65_536;

/// Makes the caller the one that is told of the next change.
pub(crate) fn watch(env: Env<'_>) {
    ENGINE.interest.watch(Watcher(env.pid()));
}

/// `{ok, [{Id, Since}], Total, Others}`. The watcher is told of the first change from now on.
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

/// The process that is told.
struct Watcher(LocalPid);

impl InterestWatcher for Watcher {
    /// The message's atoms are made here because the device's modules may have other names.
    fn changed(&self) -> bool {
        let told = OwnedEnv::new().send_and_clear(&self.0, |env| {
            (atoms::websocket_interest(), atoms::changed()).encode(env)
        });
        told.is_ok()
    }
}
