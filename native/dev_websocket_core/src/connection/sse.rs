//! One client of server-sent events: it says nothing, so there is nothing to read but the end of it.

use bytes::Bytes;
use socket2::SockRef;
use tokio::time::Interval;

use super::{Ending, finish, is_at_end, mute};
use crate::settings::Settings;
use crate::shard::command::Command;
use crate::shard::connection_handle::ConnectionHandle;
use crate::wire::sse;

/// Watches a client until it is gone or is to be sent away.
pub(super) async fn watch(
    handle: &ConnectionHandle,
    settings: &Settings,
    mut heartbeat: Interval,
) -> Ending {
    cut_when_silent(handle, settings);
    let mut blocked = false;
    loop {
        tokio::select! {
            () = handle.changed() => {
                blocked |= handle.take_blocked();
                if let Some(reason) = handle.close_reason() {
                    return Ending::Close(reason);
                }
                if handle.has_ended() {
                    return Ending::Gone;
                }
            }
            result = handle.stream.writable(), if blocked => {
                if result.is_err() {
                    return Ending::Gone;
                }
                blocked = false;
                handle.tell(Command::Writable { connection: handle.id });
            }
            result = handle.stream.readable() => {
                if result.is_err() || is_at_end(&handle.stream) {
                    return Ending::Gone;
                }
            }
            _ = heartbeat.tick() => {
                if handle.has_control_room() {
                    handle.send_control(Bytes::from_static(sse::COMMENT));
                }
            }
        }
    }
}

/// Tells a client why it is sent away, in the words of a close frame.
pub(super) async fn end(handle: &ConnectionHandle, ending: Ending) {
    if let Ending::Close(reason) = ending {
        mute(handle);
        let (code, text) = (reason.code(), reason.reason());
        let goodbye =
            format!("data: {{\"type\":\"close\",\"code\":{code},\"reason\":\"{text}\"}}\n\n");
        handle.send_control(goodbye.into());
        // It may be blocked: then this asks when it takes more.
        finish(handle, true).await;
    }
}

/// A client that does not answer our bytes with acknowledgements is gone, as one that does not answer pings.
fn cut_when_silent(handle: &ConnectionHandle, settings: &Settings) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let patience = settings.ping_interval * 2;
        // Without it the system's own patience holds, some 15 minutes.
        let _ = SockRef::from(&handle.stream).set_tcp_user_timeout(Some(patience));
    }
}
