//! What clients send, on its way to Erlang.
//!
//! A process of its own, the proxy, gets the messages for the listener, since somebody has to look at how many of them
//! wait there. Both are remembered here, where copies of the device and restarts of the server find them.

use std::sync::Arc;

use dev_websocket_core::{Listener, Listening, Payload, Settings};
use parking_lot::Mutex;
use rustler::{Encoder, Env, LocalPid, NewBinary, OwnedEnv, Term};

use crate::atoms;
use crate::engine::ENGINE;

static REGISTERED: Mutex<Option<Registered>> = Mutex::new(None);

struct Registered {
    listener: LocalPid,
    proxy: LocalPid,
    listening: Arc<Listening>,
}

/// Makes the caller the proxy of a listener.
///
/// # Errors
/// Who is the listener already, and its proxy. Of one that has died nothing is left.
pub(crate) fn listen(
    env: Env<'_>,
    listener: LocalPid,
) -> std::result::Result<(), (LocalPid, LocalPid)> {
    let bytes = ENGINE.server().map_or_else(
        |_| Settings::default().inbound_queue_bytes,
        |server| server.settings().inbound_queue_bytes,
    );
    let mut registered = REGISTERED.lock();
    if let Some(other) = &*registered
        && env.is_process_alive(other.proxy)
        && env.is_process_alive(other.listener)
    {
        return Err((other.listener, other.proxy));
    }
    let proxy = env.pid();
    let listening = ENGINE.inbound.listen(Proxy(proxy), bytes);
    *registered = Some(Registered {
        listener,
        proxy,
        listening,
    });
    Ok(())
}

/// Ends a listener, if it is the one, and gives its proxy.
pub(crate) fn unlisten(listener: LocalPid) -> Option<LocalPid> {
    end(|registered| registered.listener == listener)
}

/// Says that messages that a proxy got, of so much cost, are dealt with.
pub(crate) fn acknowledge(proxy: LocalPid, cost: u32) {
    if let Some(registered) = &*REGISTERED.lock()
        && registered.proxy == proxy
    {
        registered.listening.acknowledge(cost);
    }
}

fn end(is_meant: impl FnOnce(&Registered) -> bool) -> Option<LocalPid> {
    let ended = REGISTERED
        .lock()
        .take_if(|registered| is_meant(registered))?;
    ENGINE.inbound.unlisten(&ended.listening);
    Some(ended.proxy)
}

/// The process that gets messages.
struct Proxy(LocalPid);

impl Listener for Proxy {
    /// Sends `{inbound, Cost, Message}`; `Message` is what the listener gets. Its first atom is made here because the
    /// device's modules, and with them their atoms, may have other names.
    fn deliver(&self, connection: u64, payload: Payload, cost: u32) -> bool {
        let sent = OwnedEnv::new().send_and_clear(&self.0, |env| {
            let (kind, bytes) = match &payload {
                Payload::Text(bytes) => (atoms::text(), bytes),
                Payload::Binary(bytes) => (atoms::binary(), bytes),
            };
            let bytes = Term::from(NewBinary::from_slice(env, bytes));
            let message = (atoms::dev_websocket(), connection, (kind, bytes));
            (atoms::inbound(), cost, message).encode(env)
        });
        if sent.is_err() {
            // It was killed; one that ends by itself says so before.
            if end(|registered| registered.proxy == self.0).is_some() {
                tracing::warn!(
                    name: "lost_listener",
                    "The WebSocket server lost its listener: the proxy process was killed. Client messages are refused."
                );
            }
        }
        sent.is_ok()
    }
}
