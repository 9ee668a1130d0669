//! A WebSocket client: reads its messages through tungstenite, answers them and sends pings.
//!
//! Control messages become commands for the shard, and messages for the listener go to the listener.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::time::{Instant, Interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::stream::{BROKEN_DATA, ClientStream, TOO_MANY_FRAMES};
use super::written::written;
use super::{Beginning, CLOSE_TIMEOUT, Ending, finish, heartbeat, mute};
use crate::error_code::ErrorCode;
use crate::settings::{Settings, size};
use crate::shard::command::Command;
use crate::shard::connection_handle::ConnectionHandle;
use crate::shared::Shared;
use crate::shared::inbound::Payload;
use crate::subscription::{Quota, TooMany};
use crate::telemetry::panics::panic_point;
use crate::wire::close::Disconnect;
use crate::wire::control::{Permitted, Request, RequestError, RequestId};
use crate::wire::format::Format;

/// Size of the read buffer. tungstenite fills it with zeros at each read, and keeps it for the life of a connection.
const READ_BUFFER: usize = 256;
/// Room for tungstenite's own frames: a ping, a pong and a close.
const WRITE_BUFFER: usize = 1024;
/// Number of pings without a sign of life after which a client counts as gone.
const MAX_SILENT_PINGS: u32 = 2;

type Socket = WebSocketStream<ClientStream>;

/// A message on its way to the listener. It fails if there is no listener, because the node then does not accept
/// messages of clients. The error is the client's id of its request.
type Delivery<'s> = Pin<Box<dyn Future<Output = Result<(), RequestId>> + Send + 's>>;

/// A WebSocket connection: the stream of tungstenite and the session of the client.
pub(super) struct WebSocket<'s> {
    socket: Socket,
    session: Session<'s>,
}

/// The state of the client's session.
pub(super) struct Session<'s> {
    pub(super) handle: &'s ConnectionHandle,
    pub(super) shared: &'s Shared,
    format: Format,
    max_rate: u64,
    second: Instant,
    received: u64,
    silent_pings: u32,
    /// Bytes that the client had acknowledged at the last check.
    acknowledged: u64,
    /// Pings sent while nothing was read from the client. Their pongs arrive all at once and do not count against the
    /// rate limit.
    excused_pongs: u32,
    /// A message for which the listener has no room. Until it has, the client is not read from.
    waiting: Option<Delivery<'s>>,
    blocked: bool,
    /// Invalid tokens since the last valid one.
    pub(super) failed_logins: u32,
    /// The times of pings.
    heartbeat: Interval,
}

impl<'s> WebSocket<'s> {
    /// Takes over the connection after its request.
    pub(super) async fn new(
        shared: &'s Shared,
        handle: &'s ConnectionHandle,
        beginning: Box<Beginning>,
    ) -> Self {
        let Beginning {
            format,
            settings,
            mut early,
        } = *beginning;
        let stream =
            ClientStream::new(handle.clone(), size(settings.max_inbound_bytes), &mut early);
        let config = Some(websocket_config(&settings));
        Self {
            socket: WebSocketStream::from_partially_read(stream, early, Role::Server, config).await,
            session: Session {
                handle,
                shared,
                format,
                max_rate: settings.max_inbound_rate,
                second: Instant::now(),
                received: 0,
                silent_pings: 0,
                acknowledged: 0,
                excused_pongs: 0,
                waiting: None,
                blocked: false,
                failed_logins: 0,
                heartbeat: heartbeat(&settings),
            },
        }
    }

    /// Serves the client until the connection ends.
    pub(super) fn read(&mut self) -> impl Future<Output = Ending> {
        self.session.read(&mut self.socket)
    }

    /// Sends a close frame if the client is still there.
    pub(super) async fn end(&mut self, ending: Ending) {
        let handle = self.session.handle;
        let blocked = self.session.blocked;
        // The delivery is dropped, because it stands in the listener's queue in front of others.
        self.session.waiting = None;
        match ending {
            Ending::Gone => {}
            Ending::Closed => finish(handle, blocked).await,
            Ending::Close(reason) => {
                mute(handle);
                let goodbye = async {
                    let _ = self.socket.flush().await;
                    self.socket.close(Some(reason.frame())).await
                };
                // A client that reads nothing cannot be told, so this does not wait for it.
                let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
                finish(handle, blocked).await;
            }
        }
    }
}

impl<'s> Session<'s> {
    async fn read(&mut self, socket: &mut Socket) -> Ending {
        loop {
            // A client that does not read its replies may not send more requests.
            let has_room = self.handle.has_request_room();
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
                _ = poll_fn(|context| self.handle.poll_request_room(context)), if !has_room => {}
                heard = poll_fn(|context| poll(&mut self.waiting, context)) => {
                    self.waiting = None;
                    if let Err(reason) = self.heard(heard) {
                        return Ending::Close(reason);
                    }
                }
                () = self.handle.changed() => {
                    self.blocked |= self.handle.take_blocked();
                    if let Some(reason) = self.handle.close_reason() {
                        return Ending::Close(reason);
                    }
                    if self.handle.has_ended() {
                        return Ending::Gone;
                    }
                }
                result = self.handle.socket.writable(), if self.blocked => {
                    if result.is_err() {
                        return Ending::Gone;
                    }
                    self.unblock();
                }
                _ = poll_fn(|context| self.heartbeat.poll_tick(context)) => {
                    if self.is_silent() {
                        return Ending::Close(Disconnect::NoPong);
                    }
                    // Waiting here for room would block the loop from everything else, including the end of the client.
                    if self.handle.has_control_room()
                        && let Some(Err(_)) = socket.send(Message::Ping(Vec::new().into())).now_or_never()
                    {
                        return Ending::Gone;
                    }
                }
            }
        }
    }

    /// Counts a ping that is about to be sent. Returns true if the client should have answered the earlier ones.
    fn is_silent(&mut self) -> bool {
        if self.waiting.is_some() || !self.handle.has_request_room() {
            self.excused_pongs += 1;
        }
        if self.waiting.is_some() {
            // The client may have answered, but the server is not reading.
            self.silent_pings = 0;
            return false;
        }
        if self.silent_pings > 0 && self.cannot_answer() && self.silent_pings >= MAX_SILENT_PINGS {
            self.silent_pings = 0;
        }
        let is_silent = self.silent_pings >= MAX_SILENT_PINGS;
        self.silent_pings += 1;
        is_silent
    }

    /// Returns true if the client has a reason for its silence. Either it still acknowledges bytes that precede the
    /// pings. Or it has taken everything, and its pongs stand behind requests that the server does not read.
    fn cannot_answer(&mut self) -> bool {
        let Some(written) = written(self.handle.socket.tcp()) else {
            return false;
        };
        let before = std::mem::replace(&mut self.acknowledged, written.acknowledged);
        if written.on_the_way > 0 {
            written.acknowledged > before
        } else {
            !self.handle.has_request_room()
        }
    }

    fn unblock(&mut self) {
        self.blocked = false;
        self.handle.tell(Command::Writable {
            connection: self.handle.id,
        });
    }

    /// Handles one message of the client.
    fn receive(&mut self, message: Message) -> Result<(), Disconnect> {
        panic_point!("connection::receive");
        let bytes = message.len();
        let request = match message {
            Message::Text(_) | Message::Binary(_)
                if self.format == Format::Raw && !self.shared.settings().control =>
            {
                // A raw connection has no error frames, so the message is dropped as it is without a listener.
                return self.heard(Err(None));
            }
            Message::Text(_) | Message::Binary(_)
                if self.format == Format::Raw && !self.may_send() =>
            {
                return Err(Disconnect::Forbidden);
            }
            Message::Text(text) if self.format == Format::Raw => {
                return self.hand_over(None, Payload::Text(text.into()));
            }
            Message::Binary(bytes) if self.format == Format::Raw => {
                return self.hand_over(None, Payload::Binary(bytes));
            }
            Message::Text(text) => match self.read_request(&text) {
                Ok(Request::Auth { id, token }) => self.log_in(id, &token)?,
                request => request,
            },
            Message::Binary(_) => Err(RequestError {
                id: None,
                code: ErrorCode::BadFrame,
                message: "control messages must be text frames".into(),
            }),
            Message::Pong(_) if self.excused_pongs > 0 => {
                self.excused_pongs -= 1;
                return Ok(());
            }
            // tungstenite answers pings and closes by itself; a pong is only a sign of life.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return self.count(),
            Message::Close(_) => {
                // No publication may follow the answer.
                mute(self.handle);
                return Ok(());
            }
        };
        let request = match request {
            Ok(Request::Send { id, .. }) if !self.may_send() => Err(self.not_granted(id)),
            request => request,
        };
        if let Ok(Request::Send { id, data }) = request {
            return self.hand_over(id, Payload::Text(data.into()));
        }
        self.count()?;
        self.shared.context.counters.inbound_messages.add(1);
        self.ask(bytes, request);
        Ok(())
    }

    /// Sends the shard a request of `bytes` bytes.
    fn ask(&self, bytes: usize, request: Result<Request, RequestError>) {
        self.handle.request_made(bytes);
        self.handle.tell(Command::Request {
            connection: self.handle.id,
            bytes,
            request,
        });
    }

    fn read_request(&self, text: &str) -> Result<Request, RequestError> {
        let settings = self.shared.settings();
        let permitted = Permitted::of(&settings, self.format);
        let mut request = Request::parse(text, Quota::of(&settings), permitted)?;
        if let Request::Subscribe {
            id, subscriptions, ..
        } = &mut request
        {
            self.shared.filters.hold(subscriptions, &settings).map_err(
                |TooMany { code, message }| RequestError {
                    id: id.clone(),
                    code,
                    message,
                },
            )?;
        }
        Ok(request)
    }

    /// Hands a message to the listener, now or when there is room for it.
    fn hand_over(&mut self, id: RequestId, payload: Payload) -> Result<(), Disconnect> {
        let (shared, connection) = (self.shared, self.handle.id);
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

    /// Ends a delivery, with or without a listener. A delivered message does not count against the client's rate limit,
    /// because the listener sets the pace.
    fn heard(&mut self, heard: Result<(), RequestId>) -> Result<(), Disconnect> {
        let shared = self.shared;
        // First, so that all counted deliveries are counted messages as well.
        shared.context.counters.inbound_messages.add(1);
        if let Err(id) = heard {
            self.count()?;
            if self.format != Format::Raw {
                let (code, message) = (
                    ErrorCode::NoListener,
                    "no listener: the node does not accept messages of clients".into(),
                );
                self.ask(0, Err(RequestError { id, code, message }));
            }
        } else {
            shared.context.counters.inbound_delivered.add(1);
        }
        Ok(())
    }

    /// Counts a frame against the client's rate limit.
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

/// Waits for the end of a delivery; without one, it waits for ever.
fn poll(
    waiting: &mut Option<Delivery<'_>>,
    context: &mut Context<'_>,
) -> Poll<Result<(), RequestId>> {
    waiting
        .as_mut()
        .map_or(Poll::Pending, |delivery| delivery.as_mut().poll(context))
}

/// Maps an error of tungstenite to the end of the connection.
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
        Error::Io(error) if error.kind() == BROKEN_DATA => Ending::Close(Disconnect::InvalidData),
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
