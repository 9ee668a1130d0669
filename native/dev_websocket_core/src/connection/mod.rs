//! One client, from its upgrade to its end: a small task that reads, answers and watches.
//!
//! The task never writes to the socket: its shard does ([`crate::shard`]). It reads control messages, passes them on
//! as commands, hands what is for the listener to it, tells the shard when a blocked socket takes bytes again, and pings
//! a silent client.

mod events;
#[cfg(test)]
mod idle_tests;
pub(crate) mod link;
pub(crate) mod peer;
mod stream;
pub(crate) mod table;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use self::link::Link;
use self::stream::{ClientStream, TOO_MANY_FRAMES};
use crate::counters::Counters;
use crate::disconnect::Disconnect;
use crate::fault::{contain_task, fault_point};
use crate::fault_code::FaultCode;
use crate::inbound::Payload;
use crate::protocol::{Fault, Request, RequestId};
use crate::settings::{Settings, size};
use crate::shard::command::{Command, Format, Opening};
use crate::shared::Shared;
use crate::subscription::{Quota, TooMany};

/// tungstenite fills this with zeros at each read, and keeps it for the life of a connection.
const READ_BUFFER: usize = 512;
/// Room for tungstenite's own frames: a ping, a pong and a close.
const WRITE_BUFFER: usize = 1024;
/// How long a client has to take its close frame and close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pings without a sign of life after which a client counts as gone.
const MAX_SILENT_PINGS: u32 = 2;

type Socket = WebSocketStream<ClientStream>;

/// A message on its way to the listener. An error when nobody listens, with what the client called its request.
type Delivery<'s> = Pin<Box<dyn Future<Output = Result<(), RequestId>> + Send + 's>>;

/// Why a connection's loop ends.
enum Ending {
    /// We close it.
    Close(Disconnect),
    /// Both sides have said goodbye.
    Closed,
    /// The socket is broken, or the client vanished.
    Gone,
}

/// Serves a connection until its end. `early` is what the client sent together with its request.
pub(crate) async fn serve(shared: Arc<Shared>, opening: Opening, early: Vec<u8>) {
    let link = opening.link.clone();
    let format = opening.format;
    let settings = opening.settings.clone();
    link.tell(Command::Open(Box::new(opening)));
    let _leaving = Leaving(&link);
    // From here on it can be sent to; its welcome goes first.
    let entry = shared.connections.enter(&link);
    if format == Format::Events {
        let watched = events::watch(&link, &settings, heartbeat(&settings));
        let ending = contain_task("a connection", &shared.counters, watched)
            .await
            .unwrap_or(Ending::Close(Disconnect::Fault));
        drop(entry);
        count(&shared.counters, &ending);
        if let Ending::Close(reason) = ending {
            tell_closed(&link, reason);
            mute(&link);
            events::say_goodbye(&link, reason);
            // It may be blocked: then this asks when it takes more.
            finish(&link, true).await;
        }
        return;
    }
    let stream = ClientStream::new(link.clone(), size(settings.max_inbound_bytes));
    let mut socket = WebSocketStream::from_partially_read(
        stream,
        early,
        Role::Server,
        Some(websocket_config(&settings)),
    )
    .await;
    let mut session = Session {
        link: &link,
        shared: &shared,
        format,
        max_rate: settings.max_inbound_rate,
        second: Instant::now(),
        received: 0,
        silent_pings: 0,
        excused_pongs: 0,
        waiting: None,
        blocked: false,
    };
    let read = session.read(&mut socket, heartbeat(&settings));
    let ending = contain_task("a connection", &shared.counters, read)
        .await
        .unwrap_or(Ending::Close(Disconnect::Fault));
    drop(entry);
    count(&shared.counters, &ending);
    // It has a place in the line for the listener, before others.
    session.waiting = None;
    match ending {
        Ending::Gone => {}
        Ending::Closed => finish(&link, session.blocked).await,
        Ending::Close(reason) => {
            tell_closed(&link, reason);
            mute(&link);
            let goodbye = async {
                let _ = socket.flush().await;
                socket.close(Some(reason.frame())).await
            };
            // A client that takes nothing cannot be told; do not wait for it.
            let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
            finish(&link, session.blocked).await;
        }
    }
}

/// Counts why a connection ends.
fn count(counters: &Counters, ending: &Ending) {
    let count = match ending {
        Ending::Closed => &counters.closed_by_client,
        Ending::Gone => &counters.closed_gone,
        Ending::Close(reason) => counters.closed(*reason),
    };
    count.add(1);
}

/// Tells the operator of a connection that is closed for what its client does.
fn tell_closed(link: &Link, reason: Disconnect) {
    if reason.is_of_client() {
        let (connection, peer) = (link.id, link.peer.address);
        tracing::info!(
            name: "closed_connection", connection, %peer, reason = reason.name(), code = reason.code(),
            "The WebSocket server has closed connection {connection} of {peer}: {}.", reason.reason()
        );
    }
}

/// Nothing follows a close frame: publications end before it, and a pong that is due goes first.
fn mute(link: &Link) {
    link.tell(Command::Mute {
        connection: link.id,
    });
}

/// Tells the shard that the connection is gone, however its task ends.
struct Leaving<'l>(&'l Link);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.tell(Command::Remove {
            connection: self.0.id,
        });
    }
}

/// What the task knows of its client.
struct Session<'s> {
    link: &'s Link,
    shared: &'s Shared,
    format: Format,
    max_rate: u64,
    second: Instant,
    received: u64,
    silent_pings: u32,
    /// Pings sent while nothing was read from the client. Their answers come all at once and are not counted.
    excused_pongs: u32,
    /// A message that the listener has no room for. Nothing is read meanwhile.
    waiting: Option<Delivery<'s>>,
    blocked: bool,
}

impl<'s> Session<'s> {
    async fn read(&mut self, socket: &mut Socket, mut heartbeat: Interval) -> Ending {
        loop {
            // A client that does not take its replies is not asked for more requests.
            let has_room = self.link.has_request_room();
            tokio::select! {
                message = socket.next(), if has_room && self.waiting.is_none() => match message {
                    Some(Ok(message)) => {
                        socket.get_mut().end_of_message();
                        self.silent_pings = 0;
                        if let Err(reason) = self.receive(message) {
                            return Ending::Close(reason);
                        }
                    }
                    Some(Err(error)) => return ending_of(&error),
                    None => return Ending::Closed,
                },
                _ = poll_fn(|context| self.link.poll_request_room(context)), if !has_room => {}
                heard = poll_fn(|context| poll(&mut self.waiting, context)) => {
                    self.waiting = None;
                    if let Err(reason) = self.heard(heard) {
                        return Ending::Close(reason);
                    }
                }
                () = self.link.changed() => {
                    self.blocked |= self.link.take_blocked();
                    if let Some(reason) = self.link.close_reason() {
                        return Ending::Close(reason);
                    }
                    if self.link.has_ended() {
                        return Ending::Gone;
                    }
                }
                result = self.link.stream.writable(), if self.blocked => {
                    if result.is_err() {
                        return Ending::Gone;
                    }
                    self.unblock();
                }
                _ = heartbeat.tick() => {
                    if self.waiting.is_some() {
                        // It may well have answered: it is us who do not read.
                        self.silent_pings = 0;
                        self.excused_pongs += 1;
                    } else if self.silent_pings >= MAX_SILENT_PINGS {
                        return Ending::Close(Disconnect::NoPong);
                    } else {
                        self.silent_pings += 1;
                    }
                    // Waiting here for room would keep the loop from everything else, the end of the client included.
                    if self.link.has_control_room()
                        && let Some(Err(_)) = socket.send(Message::Ping(Vec::new().into())).now_or_never()
                    {
                        return Ending::Gone;
                    }
                }
            }
        }
    }

    fn unblock(&mut self) {
        self.blocked = false;
        self.link.tell(Command::Writable {
            connection: self.link.id,
        });
    }

    /// Deals with one message of the client.
    fn receive(&mut self, message: Message) -> Result<(), Disconnect> {
        fault_point!("connection::receive");
        let request = match message {
            Message::Text(text) if self.format == Format::Raw => {
                return self.hand_over(None, Payload::Text(text.into()));
            }
            Message::Binary(bytes) if self.format == Format::Raw => {
                return self.hand_over(None, Payload::Binary(bytes));
            }
            Message::Text(text) => self.read_request(&text),
            Message::Binary(_) => Err(Fault {
                id: None,
                code: FaultCode::BadFrame,
                message: "control messages are text frames".into(),
            }),
            Message::Pong(_) if self.excused_pongs > 0 => {
                self.excused_pongs -= 1;
                return Ok(());
            }
            // tungstenite answers pings and closes by itself; a pong is a sign of life, and that is all.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return self.count(),
            Message::Close(_) => {
                // No publication may follow the answer.
                mute(self.link);
                return Ok(());
            }
        };
        if let Ok(Request::Send { id, data }) = request {
            return self.hand_over(id, Payload::Text(data.into()));
        }
        self.count()?;
        self.shared.counters.inbound_messages.add(1);
        let connection = self.link.id;
        self.link.ask(match request {
            Ok(Request::Subscribe {
                id,
                subscriptions,
                since,
            }) => Command::Subscribe {
                connection,
                id,
                subscriptions,
                since,
            },
            Ok(Request::Unsubscribe { id, subscriptions }) => Command::Unsubscribe {
                connection,
                id,
                subscriptions,
            },
            Ok(Request::Ping { id }) => Command::Pong { connection, id },
            // Dealt with above.
            Ok(Request::Send { .. }) => return Ok(()),
            Err(fault) => Command::Fault { connection, fault },
        });
        Ok(())
    }

    fn read_request(&self, text: &str) -> Result<Request, Fault> {
        let settings = self.shared.settings();
        let mut request = Request::parse(text, Quota::of(&settings))?;
        if let Request::Subscribe {
            id, subscriptions, ..
        } = &mut request
        {
            let limit = size(settings.max_expressions);
            self.shared
                .expressions
                .share(subscriptions, limit)
                .map_err(|TooMany { code, message }| Fault {
                    id: id.clone(),
                    code,
                    message,
                })?;
        }
        Ok(request)
    }

    /// Gives a message to the listener, now or when there is room for it.
    fn hand_over(&mut self, id: RequestId, payload: Payload) -> Result<(), Disconnect> {
        let (shared, connection) = (self.shared, self.link.id);
        let mut delivery: Delivery<'s> = Box::pin(async move {
            if shared.inbound.deliver(connection, payload).await {
                Ok(())
            } else {
                Err(id)
            }
        });
        match (&mut delivery).now_or_never() {
            Some(heard) => self.heard(heard),
            None => {
                self.waiting = Some(delivery);
                Ok(())
            }
        }
    }

    /// What follows when the listener has a message, or nobody wants it. The listener is as fast as it is, and its
    /// messages do not count against the client's rate.
    fn heard(&mut self, heard: Result<(), RequestId>) -> Result<(), Disconnect> {
        let shared = self.shared;
        if let Err(id) = heard {
            self.count()?;
            if self.format != Format::Raw {
                let (code, message) = (FaultCode::NoListener, "nobody listens".into());
                self.link.ask(Command::Fault {
                    connection: self.link.id,
                    fault: Fault { id, code, message },
                });
            }
        } else {
            shared.counters.inbound_delivered.add(1);
        }
        shared.counters.inbound_messages.add(1);
        Ok(())
    }

    /// Counts a frame against the client's rate.
    fn count(&mut self) -> Result<(), Disconnect> {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.received = 0;
        }
        self.received += 1;
        if self.max_rate > 0 && self.received > self.max_rate {
            Err(Disconnect::TooManyMessages)
        } else {
            Ok(())
        }
    }
}

/// Lets the shard send what waits and waits for the client to close its side.
///
/// What the client still sends is read and dropped: closing a socket with unread bytes would reset it, and the client
/// would lose its close frame.
async fn finish(link: &Link, mut blocked: bool) {
    link.tell(Command::Finish {
        connection: link.id,
    });
    let deadline = sleep(CLOSE_TIMEOUT);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut deadline => return,
            () = link.changed() => blocked |= link.take_blocked(),
            result = link.stream.writable(), if blocked => {
                if result.is_err() {
                    return;
                }
                blocked = false;
                link.tell(Command::Writable { connection: link.id });
            }
            result = link.stream.readable() => {
                if result.is_err() || is_at_end(&link.stream) {
                    return;
                }
            }
        }
    }
}

/// Waits for the end of a delivery; without one, for ever.
fn poll(
    waiting: &mut Option<Delivery<'_>>,
    context: &mut Context<'_>,
) -> Poll<Result<(), RequestId>> {
    waiting
        .as_mut()
        .map_or(Poll::Pending, |delivery| delivery.as_mut().poll(context))
}

/// Reads and drops what is there; whether that was the end.
fn is_at_end(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    match stream.try_read(&mut buffer) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// What tungstenite's errors mean for the client.
fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Ending::Gone,
        Error::Protocol(_) => Ending::Close(Disconnect::Protocol),
        Error::Utf8(_) => Ending::Close(Disconnect::InvalidText),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Ending::Close(Disconnect::TooLarge)
        }
        Error::Io(error) if error.kind() == TOO_MANY_FRAMES => Ending::Close(Disconnect::TooLarge),
        _ => Ending::Gone,
    }
}

fn websocket_config(settings: &Settings) -> WebSocketConfig {
    let limit = size(settings.max_inbound_bytes);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

fn heartbeat(settings: &Settings) -> Interval {
    let period = Duration::from_millis(settings.ping_interval);
    let mut heartbeat = interval_at(Instant::now() + period, period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}
