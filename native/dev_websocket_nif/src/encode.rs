//! Conversion of core types to terms.

use std::borrow::Cow;

use dev_websocket_core::{
    ConnectionInfo, Family, Info, Sample, Samples, SettingError, SettingValue, Settings, StartError,
};
use rustler::{Atom, Encoder, Env, NewBinary, Term};

use crate::atoms;
use crate::engine::{self, Outcome, Reason};
use crate::publishing::Answer;
use crate::send::SendOutcome;
use crate::settings::BadSettings;
use crate::terms::{map, text};

impl Encoder for Answer<'_> {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::Outcome(outcome) => outcome.encode(env),
            Self::BadProvenance(key) => (atoms::error(), (atoms::bad_origin(), key)).encode(env),
            Self::BadJson(reason) => {
                (atoms::error(), (atoms::bad_json(), text(env, reason))).encode(env)
            }
            Self::BadArgument(expected) => bad_argument(env, expected),
        }
    }
}

impl Encoder for Outcome {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let reason = match self {
            Self::Published => return atoms::ok().encode(env),
            Self::Large => return atoms::large().encode(env),
            Self::TooLarge => atoms::too_large(),
            Self::Overload => atoms::overload(),
            Self::NoAudience => atoms::no_audience(),
            Self::NotStarted => atoms::not_started(),
            Self::NotRunning => atoms::not_running(),
            Self::Panic => atoms::fault(),
        };
        (atoms::dropped(), reason).encode(env)
    }
}

/// Encodes `ok` or `{error, Reason}`.
pub(crate) fn done<'a>(env: Env<'a>, result: &engine::Result<()>) -> Term<'a> {
    match result {
        Ok(()) => atoms::ok().encode(env),
        Err(reason) => error(env, reason),
    }
}

/// Encodes `{error, Reason}`.
pub(crate) fn error<'a>(env: Env<'a>, reason: &Reason) -> Term<'a> {
    let reason = match reason {
        Reason::NotStarted => atoms::not_started().encode(env),
        Reason::Restarting => atoms::restarting().encode(env),
        Reason::Stopped => atoms::stopped().encode(env),
        Reason::Settings(misfits) => {
            let misfit = |(name, expected): &(&str, String)| {
                Some((Atom::from_str(env, name).ok()?, text(env, expected)))
            };
            let misfits = map(env, misfits.iter().filter_map(misfit));
            (atoms::settings(), misfits).encode(env)
        }
        Reason::Start(error) => start_error(env, error),
        Reason::ControlThread(error) => (atoms::threads(), system_error(env, error)).encode(env),
        Reason::Panic(fault) => (atoms::fault(), text(env, fault)).encode(env),
    };
    (atoms::error(), reason).encode(env)
}

fn start_error<'a>(env: Env<'a>, error: &StartError) -> Term<'a> {
    match error {
        StartError::Listen { address, source } => {
            let details = [
                (atoms::address(), text(env, &address.to_string())),
                (atoms::reason(), system_error(env, source)),
            ];
            (atoms::listen(), map(env, details)).encode(env)
        }
        StartError::ListenOperator { address, source } => {
            let details = [
                (atoms::address(), text(env, &address.to_string())),
                (atoms::reason(), system_error(env, source)),
                (atoms::setting(), atoms::operator_port().encode(env)),
            ];
            (atoms::listen(), map(env, details)).encode(env)
        }
        StartError::Threads(source) => (atoms::threads(), system_error(env, source)).encode(env),
        StartError::Certificate { setting, reason } | StartError::Engine { setting, reason } => {
            let misfit = Atom::from_str(env, setting).ok();
            let misfits = map(env, misfit.map(|name| (name, text(env, reason))));
            (atoms::settings(), misfits).encode(env)
        }
    }
}

/// Encodes Erlang's name of a system error (`eaddrinuse`), or its text.
fn system_error<'a>(env: Env<'a>, error: &std::io::Error) -> Term<'a> {
    use std::io::ErrorKind;
    // These numbers are the same on every Unix; the error kinds of the two are not stable yet.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::AddrInUse, _) => atoms::eaddrinuse().encode(env),
        (ErrorKind::AddrNotAvailable, _) => atoms::eaddrnotavail().encode(env),
        (ErrorKind::PermissionDenied, _) => atoms::eacces().encode(env),
        (_, Some(EMFILE)) => atoms::emfile().encode(env),
        (_, Some(ENFILE)) => atoms::enfile().encode(env),
        _ => text(env, &error.to_string()),
    }
}

/// Encodes `{error, Reason}` for refused settings.
pub(crate) fn bad_settings<'a>(env: Env<'a>, error: &BadSettings<'a>) -> Term<'a> {
    let reason = match error {
        BadSettings::NotAMap => atoms::settings_not_a_map().encode(env),
        BadSettings::UnknownName(name) => (atoms::unknown_setting(), name).encode(env),
        // The first refused setting suffices for the caller to continue.
        BadSettings::Refused(refused) => match refused.first() {
            Some((name, SettingError::Invalid { expected, .. })) => {
                (atoms::invalid_setting(), name, text(env, expected)).encode(env)
            }
            Some((name, SettingError::Unknown(_))) => (atoms::unknown_setting(), name).encode(env),
            None => atoms::settings().encode(env),
        },
    };
    (atoms::error(), reason).encode(env)
}

/// Encodes `ok`, `large`, or `{error, Reason}`.
pub(crate) fn sent<'a>(env: Env<'a>, sent: &SendOutcome) -> Term<'a> {
    let reason = match sent {
        SendOutcome::Done => return atoms::ok().encode(env),
        SendOutcome::Large => return atoms::large().encode(env),
        SendOutcome::Down(reason) => return error(env, reason),
        SendOutcome::BadArgument(expected) => return bad_argument(env, expected),
        SendOutcome::NoConnection => atoms::no_connection(),
        SendOutcome::Busy => atoms::busy(),
        SendOutcome::TooLarge => atoms::too_large(),
        SendOutcome::Panic => atoms::fault(),
    };
    (atoms::error(), reason).encode(env)
}

/// Encodes `{error, {bad_argument, Expected}}`.
pub(crate) fn bad_argument<'a>(env: Env<'a>, expected: &str) -> Term<'a> {
    (atoms::error(), (atoms::bad_argument(), text(env, expected))).encode(env)
}

/// Encodes bytes as a binary.
pub(crate) fn bytes<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// Encodes `{ok, Map}`, or `{error, no_connection}`.
pub(crate) fn connection(env: Env<'_>, known: Option<ConnectionInfo>) -> Term<'_> {
    let Some(known) = known else {
        return sent(env, &SendOutcome::NoConnection);
    };
    let headers = known
        .headers
        .iter()
        .map(|(name, value)| (bytes(env, name), bytes(env, value)));
    let headers = (atoms::headers(), map(env, headers));
    let known = map(env, summary(env, &known).into_iter().chain([headers]));
    (atoms::ok(), known).encode(env)
}

/// Encodes `{ok, [Map]}`.
pub(crate) fn connections(env: Env<'_>, found: Vec<ConnectionInfo>) -> Term<'_> {
    let maps: Vec<_> = found
        .iter()
        .map(|known| map(env, summary(env, known)))
        .collect();
    (atoms::ok(), maps).encode(env)
}

/// Encodes the fields of a connection that lists show.
fn summary<'a>(env: Env<'a>, known: &ConnectionInfo) -> [(Atom, Term<'a>); 8] {
    let format = match known.format {
        "raw" => atoms::raw(),
        "events" => atoms::events(),
        _ => atoms::json(),
    };
    let topics: Vec<_> = known.topics.iter().map(|topic| text(env, topic)).collect();
    [
        (atoms::connection(), known.connection.encode(env)),
        (atoms::peer(), text(env, &known.peer.to_string())),
        (atoms::format(), format.encode(env)),
        (atoms::age(), known.age.encode(env)),
        (
            atoms::send_buffer_bytes(),
            known.send_buffer_bytes.encode(env),
        ),
        (
            atoms::send_buffer_frames(),
            known.send_buffer_frames.encode(env),
        ),
        (atoms::dropped(), known.dropped.encode(env)),
        (atoms::topics(), topics.encode(env)),
    ]
}

/// Encodes `[{Name, Help, Type, Samples}]`, the form that `prometheus_model_helpers:create_mf/4` of prometheus.erl
/// takes.
pub(crate) fn metrics(env: Env<'_>, families: Vec<Family>) -> Term<'_> {
    let families = families.into_iter().map(|mut family| {
        if matches!(family.samples, Samples::Counter(_)) {
            family.name.push_str("_total");
        }
        let (kind, samples) = match family.samples {
            Samples::Counter(values) => (atoms::counter(), samples(env, values)),
            Samples::Gauge(values) => (atoms::gauge(), samples(env, values)),
            Samples::Histogram {
                buckets,
                sum,
                count,
            } => {
                let buckets = cumulative(env, buckets);
                (atoms::histogram(), vec![(buckets, count, sum).encode(env)])
            }
        };
        let name = text(env, &family.name);
        (name, text(env, family.help), kind, samples).encode(env)
    });
    families.collect::<Vec<_>>().encode(env)
}

/// Encodes each sample as `{[{Label, Of}], Value}`.
fn samples(env: Env<'_>, samples: Vec<Sample>) -> Vec<Term<'_>> {
    let sample = |Sample { labels, value, .. }: Sample| {
        let label = |(name, of): &(&'static str, Cow<'static, str>)| (*name, text(env, of));
        let labels: Vec<_> = labels.iter().map(label).collect();
        (labels, value).encode(env)
    };
    samples.into_iter().map(sample).collect()
}

/// Encodes each bucket as `{Bound, Count}`; the count includes all lower buckets.
fn cumulative(env: Env<'_>, buckets: Vec<(f64, u64)>) -> Vec<Term<'_>> {
    let mut below = 0;
    let bucket = |(bound, count): (f64, u64)| {
        below += count;
        if bound.is_finite() {
            (bound, below).encode(env)
        } else {
            (atoms::infinity(), below).encode(env)
        }
    };
    buckets.into_iter().map(bucket).collect()
}

/// Encodes `{ok, Uri, Topics}`.
pub(crate) fn info<'a>(env: Env<'a>, info: &Info) -> Term<'a> {
    let topics: Vec<_> = info.topics.iter().map(|topic| text(env, topic)).collect();
    (atoms::ok(), text(env, &info.uri), topics).encode(env)
}

/// Encodes a JSON value as a term; objects become maps with binary keys.
pub(crate) fn json<'a>(env: Env<'a>, value: &serde_json::Value) -> Term<'a> {
    match value {
        serde_json::Value::Null => atoms::null().encode(env),
        serde_json::Value::Bool(flag) => flag.encode(env),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.encode(env),
            (None, Some(number)) => number.encode(env),
            (None, None) => number.as_f64().unwrap_or_default().encode(env),
        },
        serde_json::Value::String(value) => text(env, value),
        serde_json::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(env, item)).collect();
            items.encode(env)
        }
        serde_json::Value::Object(entries) => map(
            env,
            entries
                .iter()
                .map(|(key, value)| (text(env, key), json(env, value))),
        ),
    }
}

/// Encodes settings as a map from atoms to values.
pub(crate) fn settings<'a>(env: Env<'a>, settings: &Settings) -> Term<'a> {
    let entry = |(name, value): (&str, SettingValue)| {
        Some((Atom::from_str(env, name).ok()?, setting(env, &value)))
    };
    map(env, settings.list().into_iter().filter_map(entry))
}

fn setting<'a>(env: Env<'a>, value: &SettingValue) -> Term<'a> {
    match value {
        SettingValue::Integer(number) => number.encode(env),
        SettingValue::Boolean(flag) => flag.encode(env),
        SettingValue::Text(value) => text(env, value),
        SettingValue::List(items) => items
            .iter()
            .map(|item| text(env, item))
            .collect::<Vec<_>>()
            .encode(env),
    }
}

/// Encodes counters as a map from binaries to counts.
pub(crate) fn stats<'a>(env: Env<'a>, stats: Vec<(&'static str, u64)>) -> Term<'a> {
    map(
        env,
        stats
            .into_iter()
            .map(|(name, count)| (text(env, name), count.encode(env))),
    )
}
