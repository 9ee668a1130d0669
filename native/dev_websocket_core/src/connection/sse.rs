//! One client of server-sent events: it says nothing, so there is nothing to read but the end of it.

use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::time::Interval;

use super::{Ending, finish, is_at_end, mute};
use crate::settings::Settings;
use crate::shard::command::Command;
use crate::shard::link::Link;
use crate::wire::sse;

/// Watches a client until it is gone or is to be sent away.
pub(super) async fn watch(link: &Link, settings: &Settings, mut heartbeat: Interval) -> Ending {
    cut_when_silent(link, settings);
    let mut blocked = false;
    loop {
        tokio::select! {
            () = link.changed() => {
                blocked |= link.take_blocked();
                if let Some(reason) = link.close_reason() {
                    return Ending::Close(reason);
                }
                if link.has_ended() {
                    return Ending::Gone;
                }
            }
            result = link.stream.writable(), if blocked => {
                if result.is_err() {
                    return Ending::Gone;
                }
                blocked = false;
                link.tell(Command::Writable { connection: link.id });
            }
            result = link.stream.readable() => {
                if result.is_err() || is_at_end(&link.stream) {
                    return Ending::Gone;
                }
            }
            _ = heartbeat.tick() => {
                if link.has_control_room() {
                    link.send_control(Bytes::from_static(sse::COMMENT));
                }
            }
        }
    }
}

/// Tells a client why it is sent away, in the words of a close frame.
pub(super) async fn end(link: &Link, ending: Ending) {
    if let Ending::Close(reason) = ending {
        mute(link);
        let (code, text) = (reason.code(), reason.reason());
        let goodbye =
            format!("data: {{\"type\":\"close\",\"code\":{code},\"reason\":\"{text}\"}}\n\n");
        link.send_control(goodbye.into());
        // It may be blocked: then this asks when it takes more.
        finish(link, true).await;
    }
}

/// A client that does not answer our bytes with acknowledgements is gone, as one that does not answer pings.
fn cut_when_silent(link: &Link, settings: &Settings) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let patience = Duration::from_millis(settings.ping_interval) * 2;
        // Without it the system's own patience holds, some 15 minutes.
        let _ = SockRef::from(&link.stream).set_tcp_user_timeout(Some(patience));
    }
}
