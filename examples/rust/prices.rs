//! A client in Rust: it reconnects, goes on at its cursor, and gives each message once and in order, or the gap.
//!
//! `cargo run --example prices -- ws://localhost:8735/ws prices`

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Calls `update` for each message and each gap of a topic, until it returns false. Begins behind the cursor if there is one.
/// Gives the cursor behind the last message.
pub(crate) async fn follow(
    url: &str,
    topic: &str,
    mut cursor: Option<String>,
    mut update: impl FnMut(&Value) -> bool,
) -> Option<String> {
    for attempt in 0_u32.. {
        let past = cursor
            .as_ref()
            .map_or_else(|| "last=1".into(), |cursor| format!("since={cursor}"));
        let connected = connect_async(format!("{url}?topic={topic}&{past}")).await;
        if let Ok((mut socket, _)) = connected {
            let mut epoch = String::new();
            while let Some(Ok(frame)) = socket.next().await {
                let Message::Text(text) = frame else { continue };
                let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                    continue;
                };
                match frame["type"].as_str() {
                    Some("connection_established") => {
                        frame["epoch"]
                            .as_str()
                            .unwrap_or_default()
                            .clone_into(&mut epoch);
                    }
                    Some("message" | "gap") => {
                        if let Some(seq) = frame["seq"].as_u64() {
                            cursor = Some(format!("{epoch}:{seq}"));
                        }
                        if !update(&frame) {
                            let _ = socket.close(None).await;
                            return cursor;
                        }
                    }
                    _ => {}
                }
            }
        }
        // Not all clients of a server that restarts come back at once.
        tokio::time::sleep(Duration::from_millis(100 << attempt.min(8))).await;
    }
    cursor
}

#[tokio::main]
#[allow(dead_code, reason = "the test uses the function above alone")]
#[allow(clippy::print_stdout, reason = "it shows what it gets")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://localhost:8735/ws".into());
    let topic = arguments.next().unwrap_or_else(|| "prices".into());
    follow(&url, &topic, None, |frame| {
        println!("{frame}");
        true
    })
    .await;
}
