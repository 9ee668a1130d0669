//! Families about the server itself: its version, its start, its limits, and its refusals by code.

use super::{Family, PREFIX, Sample, Samples};
use crate::settings::SettingValue;
use crate::shared::{Shared, VERSION};
use crate::wire::control::PROTOCOL;

/// Names of the counters here, whose samples depend on what happened.
pub(super) const COUNTERS: &[&str] = &[REFUSALS];

const REFUSALS: &str = "requests_refused";

/// Returns the families.
pub(super) fn families(shared: &Shared) -> Vec<Family> {
    vec![
        build_info(shared),
        gauge(
            "start_time_seconds",
            "Start of the server, in seconds since 1970",
            vec![Sample::new(shared.started_ms / 1000)],
        ),
        gauge("limit", "Limits in force, by setting", limits(shared)),
        Family {
            name: format!("{PREFIX}_{REFUSALS}"),
            help: "HTTP requests refused, by the code in the answer",
            samples: Samples::Counter(
                shared
                    .context
                    .counters
                    .refusals
                    .list()
                    .into_iter()
                    .map(|(code, count)| Sample::new(count).with("code", code))
                    .collect(),
            ),
        },
    ]
}

fn build_info(shared: &Shared) -> Family {
    let sample = Sample::new(1)
        .with("version", VERSION)
        .with("protocol", PROTOCOL.to_string())
        .with("otp", shared.otp.clone());
    gauge(
        "build_info",
        "Version of the server, of its protocol, and of Erlang/OTP; the value is always 1",
        vec![sample],
    )
}

/// Returns the settings that limit something: those of a number of things, and those of bytes.
fn limits(shared: &Shared) -> Vec<Sample> {
    let limit = |(name, value): (&'static str, SettingValue)| match value {
        SettingValue::Integer(number) if name.starts_with("max_") || name.ends_with("_bytes") => {
            Some(Sample::new(u64::try_from(number).unwrap_or_default()).with("setting", name))
        }
        _ => None,
    };
    shared
        .settings()
        .list()
        .into_iter()
        .filter_map(limit)
        .collect()
}

fn gauge(name: &str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family {
        name: format!("{PREFIX}_{name}"),
        help,
        samples: Samples::Gauge(samples),
    }
}
