//! The listeners of a running server: they are bound at its start and moved by new settings.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Running, Server};
use crate::error::StartError;
use crate::http::{Door, listener};
use crate::settings::Settings;
use crate::shared::Shared;

/// The task that accepts connections from a listener.
#[derive(Debug)]
pub(super) struct Accepting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Accepting {
    /// Ends the task without waiting for it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Server {
    /// Moves the listeners whose settings have changed. If one cannot be moved, both stay where they are.
    pub(super) fn move_listeners(
        &self,
        running: &mut Running,
        old: &Settings,
        new: &Settings,
    ) -> Result<(), StartError> {
        let [operator, public] = [Door::Operator, Door::Public].map(|door| {
            let wanted = wanted_address(new, door);
            (wanted != wanted_address(old, door)).then_some(wanted)
        });
        let before = present_address(&self.shared, Door::Operator);
        if let Some(wanted) = operator {
            self.move_listener(running, Door::Operator, wanted)?;
        }
        if let Some(wanted) = public {
            self.move_listener(running, Door::Public, wanted)
                .inspect_err(|_| {
                    if operator.is_some() {
                        self.return_to(running, Door::Operator, before);
                    }
                })?;
        }
        Ok(())
    }

    /// Binds the new address, then leaves the old one. With the same port, the two may conflict, for example all
    /// interfaces and one of them. The old address is then left first, and bound again if the new one cannot be had.
    fn move_listener(
        &self,
        running: &mut Running,
        door: Door,
        wanted: Option<SocketAddr>,
    ) -> Result<(), StartError> {
        let old = present_address(&self.shared, door);
        let Some(wanted) = wanted else {
            running.leave(door);
            store_address(&self.shared, door, None);
            tell_moved(door, old, None);
            return Ok(());
        };
        let listener = match bind(running.runtimes.requests(), door, wanted) {
            Err(_) if old.is_some_and(|old| old.port() == wanted.port()) => {
                running.leave(door);
                bind(running.runtimes.requests(), door, wanted)
                    .inspect_err(|_| self.return_to(running, door, old))?
            }
            bound => bound?,
        };
        let address = local_address(&listener, door, wanted)?;
        running.leave(door);
        store_address(&self.shared, door, Some(address));
        running.listen(&self.shared, door, listener);
        tell_moved(door, old, Some(address));
        Ok(())
    }

    /// Takes a listener back to its old address.
    fn return_to(&self, running: &mut Running, door: Door, old: Option<SocketAddr>) {
        running.leave(door);
        store_address(&self.shared, door, old);
        let Some(old) = old else {
            return;
        };
        match bind(running.runtimes.requests(), door, old) {
            Ok(listener) => running.listen(&self.shared, door, listener),
            Err(error) => tracing::error!(
                name: "lost_address", address = %old, %error,
                "The WebSocket server could not return to its old address {old}: {error}."
            ),
        }
    }
}

impl Running {
    fn accepting(&mut self, door: Door) -> &mut Option<Accepting> {
        match door {
            Door::Public => &mut self.public,
            Door::Operator => &mut self.operator,
        }
    }

    /// Accepts connections from a listener.
    pub(super) fn listen(&mut self, shared: &Arc<Shared>, door: Door, listener: TcpListener) {
        let stop = CancellationToken::new();
        let accept = listener::accept(shared.clone(), listener, door, stop.clone());
        let task = self.runtimes.requests().spawn(accept);
        *self.accepting(door) = Some(Accepting { stop, task });
    }

    /// Ends a listener. When this returns, its address is free.
    pub(super) fn leave(&mut self, door: Door) {
        if let Some(Accepting { stop, task }) = self.accepting(door).take() {
            stop.cancel();
            // The task ends at once. If it panicked, its listener is gone all the same.
            let _ = self.runtimes.requests().block_on(task);
        }
    }
}

fn present_address(shared: &Shared, door: Door) -> Option<SocketAddr> {
    match door {
        Door::Public => Some(**shared.address.load()),
        Door::Operator => shared.operator_address.load().as_deref().copied(),
    }
}

/// Stores the address of a listener. The public listener always has one.
pub(super) fn store_address(shared: &Shared, door: Door, address: Option<SocketAddr>) {
    match (door, address.map(Arc::new)) {
        (Door::Public, Some(address)) => shared.address.store(address),
        (Door::Public, None) => {}
        (Door::Operator, address) => shared.operator_address.store(address),
    }
}

fn tell_moved(door: Door, from: Option<SocketAddr>, to: Option<SocketAddr>) {
    match (door, from, to) {
        (Door::Public, Some(from), Some(address)) => tracing::info!(
            name: "moved", %address, %from,
            "The WebSocket server moved from {from} to {address}."
        ),
        (Door::Operator, _, Some(address)) => tracing::info!(
            name: "operator_port", %address,
            "The operator's listener is on {address}."
        ),
        (Door::Operator, Some(from), None) => tracing::info!(
            name: "operator_port", %from,
            "The operator's listener on {from} is closed."
        ),
        _ => {}
    }
}

/// Binds the operator's listener if the settings have one, and returns it with its address.
pub(super) fn bind_operator(
    runtime: &Runtime,
    settings: &Settings,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(wanted) = wanted_address(settings, Door::Operator) else {
        return Ok(None);
    };
    let listener = bind(runtime, Door::Operator, wanted)?;
    let address = local_address(&listener, Door::Operator, wanted)?;
    Ok(Some((listener, address)))
}

/// Starts to accept from the operator's listener.
pub(super) fn open_operator(
    running: &mut Running,
    shared: &Arc<Shared>,
    (listener, address): (TcpListener, SocketAddr),
) {
    store_address(shared, Door::Operator, Some(address));
    running.listen(shared, Door::Operator, listener);
    tell_moved(Door::Operator, None, Some(address));
}

pub(super) fn bind(
    runtime: &Runtime,
    door: Door,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    let _entered = runtime.enter();
    listener::bind(address).map_err(|source| refused(door, address, source))
}

pub(super) fn local_address(
    listener: &TcpListener,
    door: Door,
    wanted: SocketAddr,
) -> Result<SocketAddr, StartError> {
    let address = listener.local_addr();
    address.map_err(|source| refused(door, wanted, source))
}

fn refused(door: Door, address: SocketAddr, source: std::io::Error) -> StartError {
    match door {
        Door::Public => StartError::Listen { address, source },
        Door::Operator => StartError::ListenOperator { address, source },
    }
}

/// Returns the address that the settings want for a listener, or `None` if it is off.
fn wanted_address(settings: &Settings, door: Door) -> Option<SocketAddr> {
    match door {
        Door::Public => Some(public_address(settings)),
        Door::Operator if settings.operator_port == 0 => None,
        Door::Operator => Some(socket_address(
            settings.operator_host,
            settings.operator_port,
        )),
    }
}

/// Returns the address that the settings want for the public listener.
pub(super) fn public_address(settings: &Settings) -> SocketAddr {
    socket_address(settings.host, settings.port)
}

fn socket_address(host: IpAddr, port: u64) -> SocketAddr {
    // The settings table keeps the port within 16 bits.
    SocketAddr::new(host, u16::try_from(port).unwrap_or_default())
}
