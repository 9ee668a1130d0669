//! A peer: what most people build with axum. One tokio broadcast channel per topic, one task per connection that
//! forwards from its channels to its socket.

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::Uri,
    response::Response,
    routing::get,
};
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::broadcast::{self, error::RecvError};
use wsbench::{
    feed::{self, Publish, Topic},
    handshake,
};

/// Channels by topic, and how many messages each holds for a receiver that is behind.
#[derive(Clone)]
struct Topics {
    senders: Arc<RwLock<HashMap<String, broadcast::Sender<Utf8Bytes>>>>,
    capacity: usize,
}

impl Topics {
    fn subscribe(&self, topic: &str) -> broadcast::Receiver<Utf8Bytes> {
        let mut senders = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        senders
            .entry(topic.to_owned())
            .or_insert_with(|| broadcast::channel(self.capacity).0)
            .subscribe()
    }
}

impl Publish for Topics {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(&topic.name)
            && let Ok(text) = String::from_utf8(payload.to_vec())
        {
            // Nobody listening is no error.
            let _ = sender.send(text.into());
        }
    }
}

async fn upgrade(upgrade: WebSocketUpgrade, uri: Uri, State(topics): State<Topics>) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        let target = uri.to_string();
        // More than one topic makes more than one task's worth of work; they share the first one's socket in turn.
        let receivers: Vec<_> = handshake::topics(&target)
            .map(|topic| topics.subscribe(topic))
            .collect();
        match <[_; 1]>::try_from(receivers) {
            Ok([receiver]) => forward(socket, receiver).await,
            Err(receivers) => forward_many(socket, receivers).await,
        }
    })
}

/// Tells the client that its subscriptions stand.
async fn welcome(socket: &mut WebSocket) -> Result<(), axum::Error> {
    socket.send(Message::text(r#"{"type":"welcome"}"#)).await
}

/// Ends when either side does.
async fn forward(mut socket: WebSocket, mut receiver: broadcast::Receiver<Utf8Bytes>) {
    if welcome(&mut socket).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            message = receiver.recv() => match message {
                Ok(text) => if socket.send(Message::Text(text)).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {} // the client sees the hole in the sequence
                Err(RecvError::Closed) => return,
            },
            inbound = socket.recv() => if !matches!(inbound, Some(Ok(_))) { return },
        }
    }
}

/// The same for several topics: a task per topic, and a small channel to the socket.
async fn forward_many(mut socket: WebSocket, receivers: Vec<broadcast::Receiver<Utf8Bytes>>) {
    let (sender, mut merged) = tokio::sync::mpsc::channel(16);
    for mut receiver in receivers {
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                match receiver.recv().await {
                    Ok(text) => {
                        if sender.send(text).await.is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }
    drop(sender);
    if welcome(&mut socket).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            text = merged.recv() => match text {
                Some(text) => if socket.send(Message::Text(text)).await.is_err() { return },
                None => return,
            },
            inbound = socket.recv() => if !matches!(inbound, Some(Ok(_))) { return },
        }
    }
}

fn listen() -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn main() -> io::Result<()> {
    // The only option is the channels' capacity: it must hold a burst, and with thousands of topics not much more.
    let capacity = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1024);
    let mut topics = Topics {
        senders: Arc::default(),
        capacity,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .build()?;
    let listener = listen()?;
    let port = listener.local_addr()?.port();
    let router = Router::new()
        .route("/ws", get(upgrade))
        .with_state(topics.clone());
    runtime.spawn(async move {
        use axum::serve::ListenerExt;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await
    });
    feed::ready(port)?;
    feed::serve(&mut topics)?;
    // Connections are still open; the process ends without asking them.
    runtime.shutdown_background();
    Ok(())
}
