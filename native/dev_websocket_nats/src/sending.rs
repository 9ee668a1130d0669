//! From the server to the stream.

use std::convert::Infallible;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use dev_websocket_core::OutgoingRecord;
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use crate::error::Ended;
use crate::options::chain;
use crate::place::subject;
use crate::session::Shared;

/// The records that are sent and not acknowledged.
pub(crate) const WINDOW: usize = 1024;

/// Sends records in order until something fails. The next session sends again what is not acknowledged.
pub(crate) async fn send(shared: &Shared<'_>) -> Result<Infallible, Ended> {
    let server = shared.server;
    let mut acks = FuturesOrdered::new();
    loop {
        // What comes back from the stream leaves the server's window before its acknowledgement is read.
        while acks.len() < WINDOW
            && let Some(record) = server.next_outgoing(WINDOW)
        {
            let number = record.number;
            match publish(shared, record).await {
                Ok(ack) => acks.push_back(async move { (number, ack.await) }),
                Err(error) if is_too_large(&error) => {
                    while let Some((number, acknowledged)) = acks.next().await {
                        settle(shared, number, acknowledged)?;
                    }
                    server.refuse(number, "it is larger than max_payload of the engine");
                }
                Err(error) => return Err(Ended::at("cannot send", chain(&error))),
            }
        }
        tokio::select! {
            Some((number, acknowledged)) = acks.next() => settle(shared, number, acknowledged)?,
            () = server.outgoing() => {}
        }
    }
}

async fn publish(
    shared: &Shared<'_>,
    record: OutgoingRecord,
) -> Result<async_nats::jetstream::context::PublishAckFuture, PublishError> {
    let settings = shared.server.settings();
    let subject = subject(&settings.engine_stream, record.process.as_deref());
    let message = PublishMessage::build()
        .payload(record.bytes)
        .message_id(record.name);
    // The client waits for at most its own timeout, also when the engine has stopped reading.
    shared.context.send_publish(subject, message).await
}

fn is_too_large(error: &PublishError) -> bool {
    const MESSAGE_EXCEEDS_MAXIMUM: u64 = 10_054;
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || code(error) == Some(MESSAGE_EXCEEDS_MAXIMUM)
}

/// Returns the code with which the engine refused a record.
fn code(error: &PublishError) -> Option<u64> {
    use std::error::Error;
    let source = error.source()?;
    let error = source.downcast_ref::<async_nats::jetstream::Error>()?;
    Some(error.error_code().0)
}

/// Settles a record, and all before it.
fn settle<T>(
    shared: &Shared<'_>,
    number: u64,
    acknowledged: Result<T, PublishError>,
) -> Result<(), Ended> {
    match acknowledged {
        Ok(_) => shared.server.settle(number),
        Err(error) if is_too_large(&error) => {
            shared
                .server
                .refuse(number, "it is larger than the stream allows");
        }
        Err(error) if code(&error).is_some() => return Err(Ended::Refused(chain(&error))),
        Err(error) => return Err(Ended::at("no acknowledgement", chain(&error))),
    }
    Ok(())
}
