//! Results of processes: the progress of each process, and the events of its slots.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{
    Event, MAX_PART_BYTES, MAX_PART_EVENTS, MAX_SLOT, Mark, Position, ReplayRejected,
    ResultsSource, SlotGap, SlotRange, SlotRejected,
};
use rustler::{Atom, Binary, Encoder, Env, Term};

use crate::atoms;
use crate::decode::{self, BeyondBudget, Budget};
use crate::encode;
use crate::engine::{ENGINE, Reason, Running};
use crate::output;
use crate::provenance::{self, BadProvenance};

/// The maximum length of a process id, in bytes.
const MAX_PROCESS_BYTES: usize = 255;

const NO_SLOT: &str = "slot must be an integer from 0 to 2^64 - 2";

/// An answer to the caller other than `ok`.
pub(crate) enum Refusal<'a> {
    /// `large`: a scheduler thread would be busy for too long.
    Large,
    /// The events were not published.
    Rejected(SlotRejected),
    /// The events were not replayed.
    NotReplayed(ReplayRejected),
    /// Answers `{dropped, fault}`.
    Panic,
    /// There is no server.
    Down(Reason),
    /// Answers `{error, {bad_origin, Key}}`.
    BadProvenance(Term<'a>),
    /// Answers `{error, {bad_argument, Text}}`.
    BadArgument(&'static str),
}

pub(crate) type Answer<'a, T = ()> = Result<T, Refusal<'a>>;

impl From<BeyondBudget> for Refusal<'_> {
    fn from(_: BeyondBudget) -> Self {
        Self::Large
    }
}

impl<'a> From<BadProvenance<'a>> for Refusal<'a> {
    fn from(error: BadProvenance<'a>) -> Self {
        match error {
            BadProvenance::BeyondBudget => Self::Large,
            BadProvenance::Bad(key) => Self::BadProvenance(key),
        }
    }
}

impl From<SlotRejected> for Refusal<'_> {
    fn from(rejected: SlotRejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<ReplayRejected> for Refusal<'_> {
    fn from(rejected: ReplayRejected) -> Self {
        Self::NotReplayed(rejected)
    }
}

impl From<Reason> for Refusal<'_> {
    fn from(reason: Reason) -> Self {
        Self::Down(reason)
    }
}

/// Returns `{ok, Slot, Part, Holes}` or `none`.
pub(crate) fn slot_mark<'a>(env: Env<'a>, process: Term<'a>) -> Term<'a> {
    match read_process(process) {
        Ok(process) => match ENGINE.slots.mark(&process) {
            Some(mark) => encode_mark(env, &mark),
            None => atoms::none().encode(env),
        },
        Err(refusal) => encode_refusal(env, refusal),
    }
}

/// Sets the mark of a process without one; returns the mark in force.
pub(crate) fn set_slot_mark<'a>(env: Env<'a>, process: Term<'a>, slot: Term<'a>) -> Term<'a> {
    let marked = read_process(process)
        .and_then(|process| Ok(ENGINE.slots.set_mark(&process, read_slot(slot)?)));
    match marked {
        Ok(mark) => encode_mark(env, &mark),
        Err(refusal) => encode_refusal(env, refusal),
    }
}

/// Returns whether a client wants the edges of a process.
pub(crate) fn wants_edges<'a>(env: Env<'a>, process: Term<'a>) -> Term<'a> {
    match read_process(process) {
        Ok(process) => ENGINE
            .server()
            .is_ok_and(|server| server.wants_edges(&process))
            .encode(env),
        Err(refusal) => encode_refusal(env, refusal),
    }
}

/// Publishes the events of a slot on a scheduler thread, with one budget for all of them. The result includes the
/// share of a time slice that this took, in percent.
pub(crate) fn publish_slot<'a>(
    env: Env<'a>,
    arguments: [Term<'a>; 4],
    is_last: Term<'a>,
) -> (Term<'a>, i32) {
    let (answer, percent) = within_budget(|read| publish(arguments, is_last, read));
    (encode_answer(env, answer), percent)
}

fn publish<'a>(
    [process, slot, part, events]: [Term<'a>; 4],
    is_last: Term<'a>,
    read: Read<'_, 'a>,
) -> Answer<'a> {
    let process = read_process(process)?;
    let (start, is_last) = read_part(slot, part, is_last)?;
    guarded(|running| {
        let events = read_events(running, events, read)?;
        Ok(running
            .server
            .publish_part(&process, start, events, is_last)?)
    })
}

/// Reads an event on behalf of a call.
pub(crate) type Read<'r, 'a> =
    &'r mut dyn FnMut(&Running, (Term<'a>, Term<'a>)) -> Answer<'a, Event<'a>>;

/// Runs a call on a scheduler thread, which reads its events with one budget. The result includes the share of a time
/// slice that this took, in percent.
pub(crate) fn within_budget<'a>(
    call: impl FnOnce(Read<'_, 'a>) -> Answer<'a>,
) -> (Answer<'a>, i32) {
    let whole = Budget::inline();
    let mut left = whole;
    let answer = call(&mut |running, (message, origin)| {
        left.spend_nodes(1)?;
        let origin = provenance::read(origin, &mut left)?;
        let message = read_message(running, message, &origin, &mut left)??;
        Ok(Event {
            message: Some(message),
            origin,
        })
    });
    let percent = match answer {
        Ok(()) => whole.percent_spent(left),
        Err(_) => 1,
    };
    (answer, percent)
}

/// Publishes events of a slot of any size. An event that is too large to read is published without its data.
pub(crate) fn publish_slot_large<'a>(
    env: Env<'a>,
    arguments: [Term<'a>; 4],
    is_last: Term<'a>,
) -> Term<'a> {
    let answer = of_any_size(|read| publish(arguments, is_last, read));
    encode_answer(env, answer)
}

/// Runs a call whose events have any size. An event that is too large to read is passed on without its data.
pub(crate) fn of_any_size<'a>(call: impl FnOnce(Read<'_, 'a>) -> Answer<'a>) -> Answer<'a> {
    let mut bytes = 0;
    call(&mut |running, (message, origin)| {
        let whole = Budget::of_message(running.max_message_bytes);
        let origin = match provenance::read(origin, &mut { whole }) {
            Err(BadProvenance::BeyondBudget) => return Err(too_much()),
            origin => origin?,
        };
        let mut left = whole;
        let message = read_message(running, message, &origin, &mut left)?.ok();
        if message.is_some() {
            // JSON takes at least the bytes of its text, so reading further is unnecessary.
            let is_first = bytes == 0;
            bytes += whole.text() - left.text();
            if bytes > MAX_PART_BYTES && !is_first {
                return Err(too_much());
            }
        }
        Ok(Event { message, origin })
    })
}

/// Reads the message of an event: a term, or `{json, Line}` for a line of an output.
fn read_message<'a>(
    running: &Running,
    message: Term<'a>,
    origin: &Provenance<'a>,
    left: &mut Budget,
) -> Answer<'a, Result<Value<'a>, BeyondBudget>> {
    match output::line_of(message) {
        Some(line) => output::read_line(line, origin.process.as_deref(), left),
        None => Ok(decode::value(message, left, running.commitments)),
    }
}

/// Reads the place of the first event, and whether the last one ends the slot.
pub(crate) fn read_part<'a>(
    slot: Term<'a>,
    part: Term<'a>,
    is_last: Term<'a>,
) -> Answer<'a, (Position, bool)> {
    let start = Position {
        slot: read_slot(slot)?,
        part: part
            .decode()
            .map_err(|_| Refusal::BadArgument("part must be an unsigned integer of 64 bits"))?,
    };
    let is_last: bool = is_last
        .decode()
        .map_err(|_| Refusal::BadArgument("is_last must be true or false"))?;
    Ok((start, is_last))
}

/// Reads the events of a list, up to the maximum number of events per call.
pub(crate) fn read_events<'a>(
    running: &Running,
    events: Term<'a>,
    read: Read<'_, 'a>,
) -> Answer<'a, Vec<Event<'a>>> {
    let no_events = || Refusal::BadArgument("events must be a list of {Message, Origin}");
    let mut gathered = Vec::new();
    let mut rest = events;
    while let Ok((event, tail)) = rest.list_get_cell() {
        if gathered.len() == MAX_PART_EVENTS {
            return Err(too_much());
        }
        let event = event.decode().map_err(|_| no_events())?;
        gathered.push(read(running, event)?);
        rest = tail;
    }
    rest.is_empty_list()
        .then_some(gathered)
        .ok_or_else(no_events)
}

fn too_much<'a>() -> Refusal<'a> {
    ENGINE.counters.dropped_malformed.add(1);
    SlotRejected::TooMuch.into()
}

/// Notifies the subscribers of a process that results are missing.
pub(crate) fn publish_slot_gap<'a>(
    env: Env<'a>,
    process: Term<'a>,
    slots: (Term<'a>, Term<'a>),
    reason: Term<'a>,
) -> Term<'a> {
    let answer = read_process(process).and_then(|process| {
        let gap = read_gap(slots, reason)?;
        guarded(|running| Ok(running.server.publish_slot_gap(&process, gap)?))
    });
    encode_answer(env, answer)
}

fn read_gap<'a>((from, to): (Term<'a>, Term<'a>), reason: Term<'a>) -> Answer<'a, SlotGap> {
    let slots = || read_range(from, to);
    if atoms::not_cached() == reason {
        Ok(SlotGap::NotCached(slots()?))
    } else if atoms::withheld() == reason {
        Ok(SlotGap::Withheld(slots()?))
    } else if atoms::not_followed() == reason {
        Ok(SlotGap::NotFollowed(slots()?))
    } else if atoms::limit() != reason {
        Err(Refusal::BadArgument(
            "reason must be not_cached, withheld, not_followed or limit",
        ))
    } else if atoms::undefined() == from && atoms::undefined() == to {
        Ok(SlotGap::Limit)
    } else {
        Err(Refusal::BadArgument(
            "the slots of a gap with reason limit must be undefined",
        ))
    }
}

/// Reads a range of slots.
pub(crate) fn read_range<'a>(from: Term<'a>, to: Term<'a>) -> Answer<'a, SlotRange> {
    SlotRange::new(read_slot(from)?, read_slot(to)?)
        .ok_or(Refusal::BadArgument("to must not be less than from"))
}

/// Counts an event of the process that reads the cache.
pub(crate) fn count<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let counters = &ENGINE.counters;
    let counter = if atoms::hints() == name {
        &counters.hints
    } else if atoms::hints_dropped() == name {
        &counters.hints_dropped
    } else if atoms::exceptions() == name {
        &counters.exceptions
    } else if atoms::tail_probes() == name {
        &counters.tail_probes
    } else if atoms::tail_read_failures() == name {
        &counters.tail_read_failures
    } else if atoms::withheld() == name {
        &counters.withheld
    } else if atoms::follow_slots() == name {
        &counters.follow_slots
    } else if atoms::follow_failures() == name {
        &counters.follow_failures
    } else {
        let expected = "name must be exceptions, follow_failures, follow_slots, hints, hints_dropped, tail_probes, tail_read_failures or withheld";
        return encode::bad_argument(env, expected);
    };
    counter.add(1);
    atoms::ok().encode(env)
}

/// Stores the numbers of followed and of waiting processes, and the source of results.
pub(crate) fn set_tails<'a>(
    env: Env<'a>,
    tails: Term<'a>,
    waiting: Term<'a>,
    source: Term<'a>,
) -> Term<'a> {
    let source = if atoms::cache() == source {
        ResultsSource::Cache
    } else if atoms::no_local_store() == source {
        ResultsSource::NoLocalStore
    } else if atoms::no_node() == source {
        ResultsSource::NoNode
    } else if atoms::off() == source {
        ResultsSource::Off
    } else {
        return encode::bad_argument(env, "source must be cache, no_local_store, no_node or off");
    };
    match (tails.decode(), waiting.decode()) {
        (Ok(tails), Ok(waiting)) => {
            ENGINE.counters.set_tails(tails, waiting, source);
            atoms::ok().encode(env)
        }
        _ => encode::bad_argument(
            env,
            "tails and waiting must be unsigned integers of 64 bits",
        ),
    }
}

fn read_process<'a>(process: Term<'a>) -> Answer<'a, Cow<'a, str>> {
    Binary::from_term(process)
        .ok()
        .filter(|process| (1..=MAX_PROCESS_BYTES).contains(&process.len()))
        .map(|process| provenance::text_of(process.as_slice()))
        .ok_or(Refusal::BadArgument(
            "process must be a binary of 1 to 255 bytes",
        ))
}

fn read_slot<'a>(slot: Term<'a>) -> Answer<'a, u64> {
    let slot: Result<u64, _> = slot.decode();
    slot.ok()
        .filter(|slot| *slot <= MAX_SLOT)
        .ok_or(Refusal::BadArgument(NO_SLOT))
}

/// Runs a function with the server, if there is one, and contains its panic.
pub(crate) fn guarded<'a>(run: impl FnOnce(&Running) -> Answer<'a>) -> Answer<'a> {
    let ran = ENGINE.with_server(|running| catch_unwind(AssertUnwindSafe(|| run(running))))?;
    ran.unwrap_or_else(|panic| {
        ENGINE.contained(&*panic);
        Err(Refusal::Panic)
    })
}

fn encode_mark<'a>(env: Env<'a>, mark: &Mark) -> Term<'a> {
    let Position { slot, part } = mark.next();
    let holes: Vec<_> = mark.holes().collect();
    (atoms::ok(), slot, part, holes).encode(env)
}

pub(crate) fn encode_answer<'a>(env: Env<'a>, answer: Answer<'a>) -> Term<'a> {
    match answer {
        Ok(()) => atoms::ok().encode(env),
        Err(refusal) => encode_refusal(env, refusal),
    }
}

fn encode_refusal<'a>(env: Env<'a>, refusal: Refusal<'a>) -> Term<'a> {
    let dropped = |reason: Atom| (atoms::dropped(), reason).encode(env);
    match refusal {
        Refusal::Large => atoms::large().encode(env),
        Refusal::Rejected(SlotRejected::Repeated) => dropped(atoms::repeated()),
        Refusal::Rejected(SlotRejected::Overload) => dropped(atoms::overload()),
        Refusal::Rejected(SlotRejected::TooMuch) => dropped(atoms::malformed()),
        Refusal::Rejected(SlotRejected::EdgeWanted) => {
            (atoms::error(), atoms::edge_wanted()).encode(env)
        }
        Refusal::Rejected(SlotRejected::NoMark) => (atoms::error(), atoms::no_mark()).encode(env),
        Refusal::Rejected(SlotRejected::Expected(Position { slot, part })) => {
            (atoms::error(), (atoms::expected(), slot, part)).encode(env)
        }
        Refusal::NotReplayed(ReplayRejected::Ended) => (atoms::error(), atoms::ended()).encode(env),
        Refusal::NotReplayed(ReplayRejected::TooMuch) => dropped(atoms::malformed()),
        Refusal::NotReplayed(ReplayRejected::Expected(Position { slot, part })) => {
            (atoms::error(), (atoms::expected(), slot, part)).encode(env)
        }
        Refusal::Panic => dropped(atoms::fault()),
        Refusal::Down(reason) => encode::error(env, &reason),
        Refusal::BadProvenance(key) => (atoms::error(), (atoms::bad_origin(), key)).encode(env),
        Refusal::BadArgument(expected) => encode::bad_argument(env, expected),
    }
}
