//! From the stream to the server.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures::StreamExt;

use crate::error::Ended;
use crate::options::chain;
use crate::place::Beginning;
use crate::session::Shared;

/// The bytes and records that the engine sends ahead. At least one record of the largest size must fit.
const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_RECORDS: usize = 10_000;

/// The time after which the engine forgets a consumer whose node is gone.
const INACTIVE: Duration = Duration::from_secs(30);

/// Returns the configuration of a consumer that begins with a number.
pub(crate) fn consumer_from(start_sequence: u64) -> Config {
    Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE,
        memory_storage: true,
        num_replicas: 1,
        ..Config::default()
    }
}

/// Receives records until something fails. It stops asking for more while the server's shards are behind.
pub(crate) async fn receive(
    shared: &Shared<'_>,
    beginning: &Beginning,
    max_payload: usize,
) -> Result<Infallible, Ended> {
    let failed = |error: &dyn std::error::Error| Ended::at("cannot receive", chain(error));
    let timeout = shared.server.settings().engine_timeout;
    let consumer = shared
        .jetstream
        .create_consumer(consumer_from(beginning.from));
    let consumer = consumer.await;
    let consumer = consumer.map_err(|error| failed(&error))?;
    let mut records = consumer
        .stream()
        .max_bytes_per_batch(MAX_BYTES.max(2 * max_payload))
        .max_messages_per_batch(MAX_RECORDS)
        .expires(Duration::from_secs(30))
        .heartbeat((timeout / 2).min(Duration::from_secs(10)))
        .messages()
        .await
        .map_err(|error| failed(&error))?;
    let mut is_behind = true;
    if beginning.from > beginning.end {
        is_behind = false;
        shared.caught_up.notify_one();
    }
    loop {
        shared.server.room().await;
        let record = match records.next().await {
            Some(record) => record.map_err(|error| failed(&error))?,
            None => return Err(Ended::at("cannot receive", "the engine ended the consumer")),
        };
        let info = record.info().map_err(|error| failed(&*error))?;
        let number = info.stream_sequence;
        let received = shared.server.receive(number, &record.payload);
        // Only another stream under the same name counts backwards.
        received.map_err(|error| failed(&error))?;
        let stored = info.published.unix_timestamp_nanos();
        shared.last_stored.set(Some((number, stored)));
        if is_behind && number >= beginning.end {
            is_behind = false;
            shared.caught_up.notify_one();
        }
    }
}
