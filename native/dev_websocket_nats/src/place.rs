//! The stream, and the place in it where a session begins.

use async_nats::jetstream::context::{Context, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream as Jetstream,
};
use dev_websocket_core::{Settings, Stream};
use sha2::{Digest, Sha256};
use std::time::Duration;

use crate::error::Ended;
use crate::generation::{self, Generations};
use crate::options::chain;

/// How long and how much a stream keeps that a server makes itself.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
const MAX_BYTES: i64 = 1024 * 1024 * 1024;

/// The time in which the stream recognizes a record that was sent before.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The beginning of a session.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) epoch: String,
    /// The number of the first record to receive.
    pub(crate) from: u64,
    /// The last number that the stream had then.
    pub(crate) end: u64,
}

/// The subject of results of a process, or of everything else.
pub(crate) fn subject(stream: &str, process: Option<&str>) -> String {
    match process {
        Some(process) => format!("{stream}.p.{process}"),
        None => format!("{stream}.m"),
    }
}

/// Finds the stream, or makes it if the settings say so.
pub(crate) async fn open(context: &Context, settings: &Settings) -> Result<Jetstream, Ended> {
    let name = &settings.engine_stream;
    match context.get_stream(name).await {
        Ok(stream) => check(stream, name),
        Err(error) if settings.engine_create && is_missing(&error.kind()) => {
            let made = context.create_stream(config(name)).await;
            made.map_err(|error| Ended::at("cannot make the stream", chain(&error)))
        }
        Err(error) if is_missing(&error.kind()) => Err(Ended::Setting {
            setting: "engine_stream",
            reason: format!("there is no stream {name}, and engine_create is off"),
        }),
        Err(error) => Err(Ended::at("cannot find the stream", chain(&error))),
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    const STREAM_NOT_FOUND: u64 = 10_059;
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code().0 == STREAM_NOT_FOUND)
}

fn config(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject(name, None), subject(name, Some("*"))],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: MAX_AGE,
        max_bytes: MAX_BYTES,
        duplicate_window: DUPLICATE_WINDOW,
        description: Some("Messages of dev_websocket, shared by its nodes.".to_owned()),
        ..Config::default()
    }
}

/// Refuses a stream that cannot serve: it lacks our subjects, or forgets what was read.
fn check(stream: Jetstream, name: &str) -> Result<Jetstream, Ended> {
    let config = &stream.cached_info().config;
    let unfit = |reason: &str| {
        Err(Ended::Setting {
            setting: "engine_stream",
            reason: format!("the stream {name} does not fit: {reason}"),
        })
    };
    let has = |wanted: String| {
        let all = [">".to_owned(), format!("{name}.>"), wanted];
        config.subjects.iter().any(|subject| all.contains(subject))
    };
    if !has(subject(name, None)) || !has(subject(name, Some("*"))) {
        return unfit("its subjects must be <name>.m and <name>.p.*");
    }
    if config.retention != RetentionPolicy::Limits {
        return unfit("its retention must be limits");
    }
    if config.no_ack || config.sealed {
        return unfit("it must acknowledge and be open");
    }
    Ok(stream)
}

/// Returns the largest record that the stream takes, in bytes. `of_server` is the limit of the server.
pub(crate) fn max_payload(jetstream: &Jetstream, of_server: usize) -> u64 {
    let of_stream = u64::try_from(jetstream.cached_info().config.max_message_size);
    let of_stream = of_stream
        .ok()
        .filter(|bytes| *bytes > 0)
        .unwrap_or(u64::MAX);
    of_stream.min(of_server as u64)
}

/// Finds where a session begins. `last_stored` is the number and the server time of the last record that was received.
pub(crate) async fn begin(
    server: &Stream,
    jetstream: &Jetstream,
    generations: &Generations,
    last_stored: Option<(u64, i128)>,
) -> Result<Beginning, Ended> {
    let info = jetstream.cached_info();
    let state = &info.state;
    let end = state.last_sequence;
    let mut generation = generations.current().await?;
    let mut epoch = epoch_of(info, generation);
    let Some((before, last)) = server.last() else {
        let from = first_of_history(&server.settings(), info);
        return Ok(Beginning { epoch, from, end });
    };
    if *before != *epoch {
        // A stream that was made anew is read from its beginning. One that lost its end goes on behind what is left.
        let is_same_stream = generation::is_of_same_stream(&before, &prefix_of(info));
        let from = match is_same_stream {
            true => last.min(end) + 1,
            false => state.first_sequence.max(1),
        };
        return Ok(Beginning { epoch, from, end });
    }
    if has_lost_end(jetstream, last, last_stored).await? {
        generation = generations.raise(generation).await?;
        epoch = epoch_of(info, generation);
        let from = last.min(end) + 1;
        return Ok(Beginning { epoch, from, end });
    }
    Ok(Beginning {
        epoch,
        from: last + 1,
        end,
    })
}

/// Returns whether the stream lacks the last record that was received, or has another one in its place.
async fn has_lost_end(
    jetstream: &Jetstream,
    last: u64,
    last_stored: Option<(u64, i128)>,
) -> Result<bool, Ended> {
    let state = &jetstream.cached_info().state;
    if state.last_sequence < last {
        return Ok(true);
    }
    let Some((_, stored)) =
        last_stored.filter(|(number, _)| *number == last && *number >= state.first_sequence)
    else {
        // It was forgotten in the normal way, or nothing was received yet.
        return Ok(false);
    };
    match jetstream.get_raw_message(last).await {
        Ok(message) => Ok(message.time.unix_timestamp_nanos() != stored),
        // It may have been forgotten just now, or somebody has deleted it alone.
        Err(error)
            if error.kind()
                == async_nats::jetstream::stream::RawMessageErrorKind::NoMessageFound =>
        {
            Ok(false)
        }
        Err(error) => Err(Ended::at("cannot read the stream", chain(&error))),
    }
}

/// Returns the first number that is read at the start: as much as the history of the server holds.
fn first_of_history(settings: &Settings, info: &Info) -> u64 {
    let state = &info.state;
    let size = (state.bytes / state.messages.max(1)).max(1);
    let count = settings.history_bytes / size;
    let oldest = (state.last_sequence + 1).saturating_sub(count);
    oldest.max(state.first_sequence).max(1)
}

/// The epoch of a stream: of its name, its creation and the generation of its end.
fn epoch_of(info: &Info, generation: u64) -> String {
    format!("{}{}", prefix_of(info), generation::text(generation))
}

/// The part of the epoch that stands for the stream.
fn prefix_of(info: &Info) -> String {
    let created = info.created.unix_timestamp_nanos();
    let hash = Sha256::digest(format!("{} {created}", info.config.name));
    let mut number = hash
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mut text = String::new();
    for _ in 0..10 {
        text.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
    }
    text
}
