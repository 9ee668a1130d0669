//! What the server tells about itself, to the program that it lives in and to clients.

use std::net::IpAddr;

use serde_json::json;

use crate::protocol::{Limits, PROTOCOL};
use crate::settings::size;
use crate::shared::{Shared, WEBSOCKET_PATH};

/// What `info` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Where clients connect: `ws://host:port/ws`.
    pub uri: String,
    /// Topics with subscribers or recent publications, sorted, at most `max_known_topics`.
    pub topics: Vec<String>,
}

impl Shared {
    /// Where clients connect, and what they can subscribe to.
    pub(crate) fn info(&self) -> Info {
        let known = size(self.settings().max_known_topics);
        Info {
            uri: self.uri(),
            topics: self.directory.names(known),
        }
    }

    /// See [`crate::Server::describe`].
    pub(crate) fn describe(&self) -> serde_json::Value {
        let Info { uri, topics } = self.info();
        json!({
            "uri": uri,
            "topics": topics,
            "protocol": PROTOCOL,
            "epoch": self.epoch,
            "limits": Limits::of(&self.settings()),
        })
    }

    fn uri(&self) -> String {
        let address = **self.address.load();
        let settings = self.settings();
        let host = match (settings.public_host.as_str(), address.ip()) {
            ("", ip) if ip.is_unspecified() => "localhost".to_owned(),
            ("", IpAddr::V6(ip)) => format!("[{ip}]"),
            ("", ip) => ip.to_string(),
            (host, _) => host.to_owned(),
        };
        format!("ws://{host}:{}{WEBSOCKET_PATH}", address.port())
    }
}
