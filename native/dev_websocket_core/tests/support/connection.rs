//! A connection of any format.

use serde_json::Value as Json;

use super::{Client, Raw, TestServer};

/// All formats.
pub(crate) const FORMATS: [&str; 3] = ["json", "events", "raw"];

/// Connects in a format with a query.
pub(crate) fn connect(server: &TestServer, format: &str, query: &str) -> Connection {
    match format {
        "json" => Connection::Json(Box::new(Client::connect(server, query))),
        "events" => {
            let mut events = Raw::events(server, &format!("/events{query}"), "");
            assert_eq!(events.event().0["type"], "connection_established");
            Connection::Events(events)
        }
        _ => Connection::Raw(Raw::upgraded(server, &format!("{query}&format=raw"))),
    }
}

pub(crate) enum Connection {
    Json(Box<Client>),
    Events(Raw),
    Raw(Raw),
}

impl Connection {
    /// Returns the next frame, or only its data if the format has nothing else.
    pub(crate) fn next(&mut self) -> Json {
        match self {
            Self::Json(client) => client.next(),
            Self::Events(events) => events.event().0,
            Self::Raw(raw) => raw.json(),
        }
    }

    /// Waits until the server has handled the connection.
    pub(crate) fn settle(&mut self) {
        if let Self::Raw(raw) = self {
            raw.settle();
        }
    }
}
