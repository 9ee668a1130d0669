//! NIFs of slot replays: the replays that are due, and the slots that their reader hands over.

use dev_websocket_core::{DueReplay, Position, ReplayFailure, SlotGap};
use rustler::{Encoder, Env, NewBinary, Term};

use crate::atoms;
use crate::encode;
use crate::engine::ENGINE;
use crate::interest::Watcher;
use crate::results::{
    Answer, Read, Refusal, encode_answer, guarded, of_any_size, read_events, read_part, read_range,
    within_budget,
};

/// The maximum number of replays per call.
const MAX_DUE: usize = 1000;

/// Makes the caller the reader of slot replays, which is notified when one is due or has ended.
#[rustler::nif]
fn watch_slot_replays(env: Env<'_>) -> Term<'_> {
    let watcher = Watcher::new(env.pid(), atoms::websocket_slot_replays);
    ENGINE.replays.watch(watcher);
    atoms::ok().encode(env)
}

/// Returns `{ok, [{Replay, Process, Slot, Part}], Ended}`: slot replays that are due, and those that have ended. The
/// reader is notified of further ones.
#[rustler::nif]
fn slot_replays<'a>(env: Env<'a>, max: Term<'a>) -> Term<'a> {
    let max: Result<usize, _> = max.decode();
    let Some(max) = max.ok().filter(|max| *max <= MAX_DUE) else {
        return encode::bad_argument(env, "max must be an integer from 0 to 1000");
    };
    let (due, ended) = ENGINE.replays.take_due(max);
    let due: Vec<_> = due
        .iter()
        .map(|replay| {
            let DueReplay {
                id,
                process,
                next: Position { slot, part },
                ..
            } = replay;
            let process = Term::from(NewBinary::from_slice(env, process));
            (*id, process, *slot, *part)
        })
        .collect();
    (atoms::ok(), due, ended).encode(env)
}

/// Sends the events of a slot from a part on to the client of a slot replay, or returns `large` early.
#[rustler::nif]
fn replay_slot<'a>(
    env: Env<'a>,
    id: Term<'a>,
    slot: Term<'a>,
    part: Term<'a>,
    events: Term<'a>,
    is_last: Term<'a>,
) -> Term<'a> {
    let (answer, percent) = within_budget(|read| replay([id, slot, part, events, is_last], read));
    crate::consume(env, percent);
    encode_answer(env, answer)
}

/// Sends like `replay_slot`, for events of any size.
#[rustler::nif(schedule = "DirtyCpu")]
fn replay_slot_large<'a>(
    env: Env<'a>,
    id: Term<'a>,
    slot: Term<'a>,
    part: Term<'a>,
    events: Term<'a>,
    is_last: Term<'a>,
) -> Term<'a> {
    let answer = of_any_size(|read| replay([id, slot, part, events, is_last], read));
    encode_answer(env, answer)
}

fn replay<'a>(
    [replay, slot, part, events, is_last]: [Term<'a>; 5],
    read: Read<'_, 'a>,
) -> Answer<'a> {
    let replay = read_replay(replay)?;
    let (start, is_last) = read_part(slot, part, is_last)?;
    guarded(|running| {
        let events = read_events(running, events, read)?;
        Ok(running.server.replay_part(replay, start, events, is_last)?)
    })
}

/// Tells the client of a slot replay that slots are missing.
#[rustler::nif]
fn replay_gap<'a>(
    env: Env<'a>,
    replay: Term<'a>,
    from: Term<'a>,
    to: Term<'a>,
    reason: Term<'a>,
) -> Term<'a> {
    let answer = read_replay(replay).and_then(|replay| {
        let slots = read_range(from, to)?;
        let gap = if atoms::not_cached() == reason {
            SlotGap::NotCached(slots)
        } else if atoms::withheld() == reason {
            SlotGap::Withheld(slots)
        } else if atoms::not_replayed() == reason {
            SlotGap::NotReplayed(slots)
        } else {
            let expected = "reason must be not_cached, withheld or not_replayed";
            return Err(Refusal::BadArgument(expected));
        };
        guarded(|running| Ok(running.server.replay_gap(replay, gap)?))
    });
    encode_answer(env, answer)
}

/// Lets the client of a slot replay go live, if it has all published slots.
#[rustler::nif]
fn replay_live<'a>(env: Env<'a>, replay: Term<'a>) -> Term<'a> {
    let answer = read_replay(replay)
        .and_then(|replay| guarded(|running| Ok(running.server.replay_live(replay)?)));
    encode_answer(env, answer)
}

/// Ends a slot replay that cannot go on.
#[rustler::nif]
fn replay_failed<'a>(env: Env<'a>, replay: Term<'a>, reason: Term<'a>) -> Term<'a> {
    let answer = read_replay(replay).and_then(|replay| {
        let failure = if atoms::no_node() == reason {
            ReplayFailure::NoNode
        } else if atoms::no_local_store() == reason {
            ReplayFailure::NoLocalStore
        } else if atoms::unknown_process() == reason {
            ReplayFailure::UnknownProcess
        } else if atoms::limit() == reason {
            ReplayFailure::TooManyProcesses
        } else if atoms::unreadable() == reason {
            ReplayFailure::Unreadable
        } else {
            let expected =
                "reason must be no_node, no_local_store, unknown_process, limit or unreadable";
            return Err(Refusal::BadArgument(expected));
        };
        guarded(|running| Ok(running.server.replay_failed(replay, failure)?))
    });
    encode_answer(env, answer)
}

fn read_replay(replay: Term<'_>) -> Answer<'_, u64> {
    replay
        .decode()
        .map_err(|_| Refusal::BadArgument("replay must be an unsigned integer of 64 bits"))
}
