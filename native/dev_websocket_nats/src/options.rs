//! The connection to the servers of the settings.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use dev_websocket_core::Settings;
use tokio::sync::Notify;

use crate::error::Ended;

/// The time before the client would connect again. A session never connects twice, because the client would then send
/// what was meant for the connection before, in another order.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection, and the news of its end.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) lost: Arc<Notify>,
}

/// Connects to one of the servers.
pub(crate) async fn connect(settings: &Settings) -> Result<Connection, Ended> {
    let timeout = settings.engine_timeout / 2;
    let is_connected = Arc::new(AtomicBool::new(false));
    let lost = Arc::new(Notify::new());
    let options = ConnectOptions::new()
        .name("dev_websocket")
        .connection_timeout(timeout)
        .request_timeout(Some(timeout))
        .ping_interval(timeout)
        .reconnect_delay_callback({
            let is_connected = is_connected.clone();
            move |_| match is_connected.load(Ordering::Relaxed) {
                true => NEVER,
                false => Duration::ZERO,
            }
        })
        .event_callback({
            let lost = lost.clone();
            move |event| {
                let lost = lost.clone();
                async move {
                    if matches!(
                        event,
                        Event::Disconnected | Event::Closed | Event::LameDuckMode
                    ) {
                        lost.notify_one();
                    }
                }
            }
        });
    let options = with_identity(options, settings)?;
    let connecting = options.connect(settings.engine.0.clone());
    let client = match tokio::time::timeout(settings.engine_timeout, connecting).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(Ended::at("cannot connect", chain(&error))),
        Err(_) => return Err(Ended::at("cannot connect", "no answer in time")),
    };
    is_connected.store(true, Ordering::Relaxed);
    Ok(Connection { client, lost })
}

fn with_identity(
    mut options: ConnectOptions,
    settings: &Settings,
) -> Result<ConnectOptions, Ended> {
    if !settings.engine_credentials.is_empty() {
        let text = read("engine_credentials", &settings.engine_credentials)?;
        options = options
            .credentials(&text)
            // The text of the error may quote the file.
            .map_err(|_| refused("engine_credentials", "the file has no valid credentials"))?;
    }
    if !settings.engine_ca.is_empty() {
        read("engine_ca", &settings.engine_ca)?;
        options = options
            .add_root_certificates(PathBuf::from(&settings.engine_ca))
            .require_tls(true);
    }
    match (settings.engine_cert.as_str(), settings.engine_key.as_str()) {
        ("", "") => {}
        ("", _) => {
            return Err(refused(
                "engine_cert",
                "it is missing, but engine_key is set",
            ));
        }
        (_, "") => {
            return Err(refused(
                "engine_key",
                "it is missing, but engine_cert is set",
            ));
        }
        (cert, key) => {
            read("engine_cert", cert)?;
            read("engine_key", key)?;
            options = options.add_client_certificate(PathBuf::from(cert), PathBuf::from(key));
        }
    }
    Ok(options)
}

fn read(setting: &'static str, path: &str) -> Result<String, Ended> {
    fs::read_to_string(path)
        .map_err(|error| refused(setting, &format!("cannot read the file: {}", error.kind())))
}

fn refused(setting: &'static str, reason: &str) -> Ended {
    Ended::Setting {
        setting,
        reason: reason.to_owned(),
    }
}

/// Returns an error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
