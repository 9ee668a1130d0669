//! A session: one connection to the stream, from its beginning to its end.

use std::cell::Cell;

use async_nats::jetstream::{Context, ContextBuilder};
use dev_websocket_core::Stream;
use tokio::sync::Notify;

use crate::Nats;
use crate::error::Ended;
use crate::generation::Generations;
use crate::options::{Connection, connect};
use crate::sending::{WINDOW, send};
use crate::{place, reading, receiving, watching};

/// What the parts of a session share.
pub(crate) struct Shared<'s> {
    pub(crate) server: &'s Stream,
    pub(crate) context: Context,
    pub(crate) jetstream: async_nats::jetstream::stream::Stream,
    pub(crate) generations: Generations,
    /// The epoch of the session.
    pub(crate) epoch: String,
    /// Told when everything that the stream had at the beginning was received.
    pub(crate) caught_up: Notify,
    /// The number and the server time of the last record.
    pub(crate) last_stored: Cell<Option<(u64, i128)>>,
}

pub(crate) struct Session<'s> {
    nats: &'s mut Nats,
    server: &'s Stream,
}

impl<'s> Session<'s> {
    pub(crate) fn new(nats: &'s mut Nats, server: &'s Stream) -> Self {
        Self { nats, server }
    }

    /// Runs to the end, which is always a failure.
    pub(crate) async fn run(self) -> Ended {
        match self.go().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn go(self) -> Result<std::convert::Infallible, Ended> {
        let Self { nats, server } = self;
        let settings = server.settings();
        let Connection { client, lost } = connect(&settings).await?;
        let timeout = settings.engine_timeout / 2;
        let limits = client.server_info();
        let context = ContextBuilder::new()
            .timeout(timeout)
            .ack_timeout(timeout)
            .max_ack_inflight(WINDOW + 1)
            .build(client);
        let jetstream = place::open(&context, &settings).await?;
        server.set_max_payload(place::max_payload(&jetstream, limits.max_payload));
        let generations = Generations::open(&context, &settings).await?;
        let beginning = place::begin(server, &jetstream, &generations, nats.last_stored).await?;
        server.begin(&beginning.epoch, beginning.from);
        server.send_again();
        nats.note_present();
        let shared = Shared {
            server,
            context,
            jetstream,
            generations,
            epoch: beginning.epoch.clone(),
            caught_up: Notify::new(),
            last_stored: Cell::new(nats.last_stored),
        };
        let sending = async {
            shared.caught_up.notified().await;
            server.set_present();
            send(&shared).await
        };
        let ended = tokio::select! {
            Err(ended) = receiving::receive(&shared, &beginning, limits.max_payload) => ended,
            Err(ended) = sending => ended,
            Err(ended) = reading::read(&shared, limits.max_payload) => ended,
            Err(ended) = watching::watch(&shared, || nats.note_present()) => ended,
            () = lost.notified() => Ended::at("the connection was lost", "the engine closed it"),
        };
        nats.last_stored = shared.last_stored.get();
        Err(ended)
    }
}
