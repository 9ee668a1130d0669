//! From the stream to single clients, whose cursor is older than the history of the server.
//!
//! One chunk is fetched at a time, for one client after the other, so that live records are hardly delayed. Each client
//! has a consumer of its own, which is made again whenever its position is in doubt.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use bytes::Bytes;
use dev_websocket_core::StreamRead;
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use crate::error::Ended;
use crate::options::chain;
use crate::receiving::consumer_from;
use crate::session::Shared;

/// The records and the bytes of a chunk. A single record may have more bytes.
const MAX_RECORDS: usize = 256;
const MAX_BYTES: usize = 256 * 1024;

/// What a record has besides its bytes: subjects and headers.
const AROUND: usize = 4096;

/// The time between two records of a chunk after which it ends. Older servers do not say that it has.
const QUIET: Duration = Duration::from_millis(200);

/// The time before the next read after one that failed.
const PAUSE: Duration = Duration::from_millis(100);

type Chunk = Vec<(u64, Bytes)>;

/// The reader of one client.
struct Reader {
    consumer: PullConsumer,
    /// The number of the first record that the consumer has not delivered.
    next: u64,
}

/// The records of one request.
#[derive(Default)]
struct Fetched {
    records: Chunk,
    /// True if the consumer may have delivered more, or less, than has arrived.
    is_in_doubt: bool,
    /// True if the first record is larger than a chunk.
    is_too_large: bool,
}

/// Serves reads until the session ends.
pub(crate) async fn read(shared: &Shared<'_>, max_payload: usize) -> Result<Infallible, Ended> {
    let server = shared.server;
    let patience = server.settings().engine_timeout / 2;
    let mut readers: HashMap<u64, Reader> = HashMap::new();
    server.read_again();
    loop {
        readers.retain(|read, _| server.wants(*read));
        let Some(read) = server.next_read() else {
            server.reads().await;
            continue;
        };
        let reader = readers.remove(&read.id);
        match timeout(patience, chunk(shared, read, reader, max_payload)).await {
            Ok(Ok((records, reader))) => {
                readers.extend(reader.map(|reader| (read.id, reader)));
                server.give(read, records);
            }
            // The client waits. Whether the stream is away is seen elsewhere.
            Ok(Err(_)) | Err(_) => {
                server.postpone(read);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Fetches the next chunk. Only a consumer that begins where the client wants can tell that records are gone.
async fn chunk(
    shared: &Shared<'_>,
    read: StreamRead,
    reader: Option<Reader>,
    max_payload: usize,
) -> Result<(Chunk, Option<Reader>), Ended> {
    let begins = |fetched: &Fetched| {
        let first = fetched.records.first();
        first.is_some_and(|(number, _)| *number == read.from)
    };
    if let Some(reader) = reader.filter(|reader| reader.next == read.from) {
        let fetched = fetch(&reader.consumer, MAX_BYTES).await?;
        if begins(&fetched) {
            return Ok(reader.keep(fetched));
        }
    }
    let consumer = consumer(shared, read.from).await?;
    let mut fetched = fetch(&consumer, MAX_BYTES).await?;
    if fetched.is_too_large {
        fetched = fetch(&consumer, MAX_BYTES.max(max_payload + AROUND)).await?;
    }
    if fetched.is_too_large {
        return Err(Ended::at(
            "cannot read",
            "a record is larger than max_payload",
        ));
    }
    let reader = Reader {
        consumer,
        next: read.from,
    };
    Ok(reader.keep(fetched))
}

impl Reader {
    /// Returns the records, and the reader if its position is certain.
    fn keep(mut self, fetched: Fetched) -> (Chunk, Option<Self>) {
        if let Some((last, _)) = fetched.records.last() {
            self.next = last + 1;
        }
        (fetched.records, Some(self).filter(|_| !fetched.is_in_doubt))
    }
}

/// Makes a consumer of the stream of this session, and of no other that has its name meanwhile.
async fn consumer(shared: &Shared<'_>, from: u64) -> Result<PullConsumer, Ended> {
    let failed = |error: &dyn std::error::Error| Ended::at("cannot read", chain(error));
    let config: Config = consumer_from(from);
    let consumer = shared.jetstream.create_consumer(config).await;
    let consumer = consumer.map_err(|error| failed(&error))?;
    let info = shared.jetstream.get_info().await;
    let info = info.map_err(|error| failed(&error))?;
    if info.created != shared.jetstream.cached_info().created {
        return Err(Ended::at("cannot read", "the stream was made anew"));
    }
    Ok(consumer)
}

async fn fetch(consumer: &PullConsumer, max_bytes: usize) -> Result<Fetched, Ended> {
    let failed = |error: &dyn std::error::Error| Ended::at("cannot read", chain(error));
    let batch = consumer
        .fetch()
        .max_messages(MAX_RECORDS)
        .max_bytes(max_bytes)
        .messages();
    let mut batch = batch.await.map_err(|error| failed(&error))?;
    let mut fetched = Fetched::default();
    while fetched.records.len() < MAX_RECORDS {
        let next = match fetched.records.is_empty() {
            true => Ok(batch.next().await),
            false => timeout(QUIET, batch.next()).await,
        };
        match next {
            Ok(Some(Ok(record))) => {
                let info = record.info().map_err(|error| failed(&*error))?;
                let (number, is_last) = (info.stream_sequence, info.pending == 0);
                fetched.records.push((number, record.message.payload));
                if is_last {
                    break;
                }
            }
            Ok(None) => break,
            // The next record does not fit into the chunk.
            Ok(Some(Err(error))) if error.to_string().contains("MaxBytes") => {
                fetched.is_too_large = fetched.records.is_empty();
                break;
            }
            Ok(Some(Err(error))) if fetched.records.is_empty() => return Err(failed(&*error)),
            Ok(Some(Err(_))) | Err(_) => {
                fetched.is_in_doubt = true;
                break;
            }
        }
    }
    Ok(fetched)
}
