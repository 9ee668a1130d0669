//! A client of server-sent events. It sends nothing, so the only thing to read is the end of the stream.

use std::future::poll_fn;

use bytes::Bytes;
use socket2::SockRef;
use tokio::time::Interval;

use super::{Ending, finish, heartbeat, is_at_end, mute};
use crate::settings::Settings;
use crate::shard::command::Command;
use crate::shard::connection_handle::ConnectionHandle;
use crate::wire::gzip;
use crate::wire::sse;

/// Watches a client until it is gone or has to be closed.
pub(super) fn watch(
    handle: &ConnectionHandle,
    settings: &Settings,
) -> impl Future<Output = Ending> {
    cut_when_silent(handle, settings);
    watch_with(handle, heartbeat(settings))
}

async fn watch_with(handle: &ConnectionHandle, mut heartbeat: Interval) -> Ending {
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
            result = handle.socket.writable(), if blocked => {
                if result.is_err() {
                    return Ending::Gone;
                }
                blocked = false;
                handle.tell(Command::Writable { connection: handle.id });
            }
            result = handle.socket.readable() => {
                if result.is_err() || is_at_end(handle) {
                    return Ending::Gone;
                }
            }
            _ = poll_fn(|context| heartbeat.poll_tick(context)) => {
                if handle.has_control_room() {
                    let comment = Bytes::from_static(sse::COMMENT);
                    handle.send_control(gzip::of(comment, handle.peer.form.is_compressed));
                }
            }
        }
    }
}

/// Tells a client why its stream ends, with the code and reason of a close frame.
pub(super) async fn end(handle: &ConnectionHandle, ending: Ending) {
    if let Ending::Close(reason) = ending {
        mute(handle);
        let (code, text) = (reason.code(), reason.reason());
        let goodbye =
            format!("data: {{\"type\":\"close\",\"code\":{code},\"reason\":\"{text}\"}}\n\n");
        handle.send_control(gzip::of(goodbye.into(), handle.peer.form.is_compressed));
        // The socket may be blocked; `true` makes this wait until it takes more bytes.
        finish(handle, true).await;
    }
}

/// Disconnects a client that does not acknowledge the server's bytes, as a WebSocket client that does not answer pings.
fn cut_when_silent(handle: &ConnectionHandle, settings: &Settings) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let patience = settings.ping_interval * 2;
        // Without the option, the timeout of the system applies, some 15 minutes.
        let _ = SockRef::from(handle.socket.tcp()).set_tcp_user_timeout(Some(patience));
    }
}
