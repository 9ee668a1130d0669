//! The generation of a stream, which is raised when its end was lost: numbers then mean other records than before.
//!
//! It is kept in a small stream of its own, a bucket of keys and values, and raised by compare-and-set, so that all
//! nodes agree on it.

use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{CreateErrorKind, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use dev_websocket_core::Settings;

use crate::error::Ended;
use crate::options::chain;

const KEY: &str = "generation";

/// The bucket of a stream.
#[derive(Debug)]
pub(crate) struct Generations(Store);

impl Generations {
    /// Finds the bucket, or makes it if the settings say so.
    pub(crate) async fn open(context: &Context, settings: &Settings) -> Result<Self, Ended> {
        let bucket = format!("{}_generation", settings.engine_stream);
        if let Ok(store) = context.get_key_value(&bucket).await {
            return Ok(Self(store));
        }
        if !settings.engine_create {
            return Err(Ended::Setting {
                setting: "engine_stream",
                reason: format!("there is no bucket {bucket}, and engine_create is off"),
            });
        }
        let failed = |error: &dyn std::error::Error| {
            Ended::at("cannot make the bucket of the generation", chain(error))
        };
        // The client's own call asks for the account first, and does not understand the answer of nats-server 2.9.
        let made = context.create_stream(config(&bucket)).await;
        made.map_err(|error| failed(&error))?;
        let store = context.get_key_value(&bucket).await;
        store.map(Self).map_err(|error| failed(&error))
    }

    /// Returns the generation; 0 before the first raise.
    pub(crate) async fn current(&self) -> Result<u64, Ended> {
        let value = self.0.get(KEY).await;
        let value =
            value.map_err(|error| Ended::at("cannot read the generation", chain(&error)))?;
        Ok(value.as_deref().and_then(parse).unwrap_or(0))
    }

    /// Raises a generation by one, unless another node has done so, and returns the one in force.
    pub(crate) async fn raise(&self, before: u64) -> Result<u64, Ended> {
        let failed =
            |error: &dyn std::error::Error| Ended::at("cannot raise the generation", chain(error));
        let entry = self.0.entry(KEY).await.map_err(|error| failed(&error))?;
        let next = (before + 1).to_string().into();
        match entry {
            None => match self.0.create(KEY, next).await {
                Ok(_) => Ok(before + 1),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                    self.current().await
                }
                Err(error) => Err(failed(&error)),
            },
            Some(entry) if parse(&entry.value) == Some(before) => {
                match self.0.update(KEY, next, entry.revision).await {
                    Ok(_) => Ok(before + 1),
                    Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                        self.current().await
                    }
                    Err(error) => Err(failed(&error)),
                }
            }
            Some(entry) => Ok(parse(&entry.value).unwrap_or(before)),
        }
    }
}

/// The stream of a bucket that keeps one value of each key.
fn config(bucket: &str) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

fn parse(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Returns the part of an epoch that stands for the generation; none for the first one.
pub(crate) fn text(generation: u64) -> String {
    match generation {
        0 => String::new(),
        generation => format!("-{generation}"),
    }
}

/// Returns whether an epoch is one of the stream with this part of its epochs.
pub(crate) fn is_of_same_stream(epoch: &str, stream: &str) -> bool {
    epoch.split('-').next() == Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_tells_its_stream_and_its_generation() {
        assert_eq!((text(0), text(12)), (String::new(), "-12".to_owned()));
        for epoch in ["abc", "abc-1", "abc-12"] {
            assert!(is_of_same_stream(epoch, "abc"));
            assert!(!is_of_same_stream(epoch, "ab"));
        }
    }
}
