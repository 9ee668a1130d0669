//! The kinds of clients, and how each lives.

use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Ws;

use crate::choice::{Choice, Selection, TOPICS};
use crate::frames::{Message, PADDING};
use crate::session::{BROKEN, Session, Start, Wish};
use crate::world::{DEADLINE, Socket, Stage, World, between, connect, upgrade};

/// The server says that a client is too slow for its policy or format.
const TOO_SLOW: u16 = 1013;

/// A client that stays, and says each time when all that it got is compared.
pub(crate) async fn stay(world: Rc<World>, settled: mpsc::UnboundedSender<()>) {
    let Err(error) = try_to_stay(&world, &settled).await else {
        return;
    };
    world.tally.fail("a client that stays", &error);
    // The others are not to wait for it.
    let mut stage = world.stage.clone();
    loop {
        let now = *stage.borrow_and_update();
        match now {
            Stage::Running => {}
            Stage::Settling => drop(settled.send(())),
            Stage::Released => return,
        }
        if stage.changed().await.is_err() {
            return;
        }
    }
}

async fn try_to_stay(world: &Rc<World>, settled: &mpsc::UnboundedSender<()>) -> Result<(), String> {
    let mut stage = world.stage.clone();
    let wish = Wish {
        selection: Selection::random(),
        ..Wish::default()
    };
    let mut session = Session::open(world, wish).await?;
    let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
    loop {
        let now = *stage.borrow_and_update();
        match now {
            Stage::Running => session.live(far, between(200, 2000)).await?,
            Stage::Settling => {
                session.settle().await?;
                let _ = settled.send(());
                session.idle(&mut stage).await?;
            }
            Stage::Released => return session.close().await,
        }
        if let Some(code) = session.closed() {
            return Err(format!("closed with {code}"));
        }
    }
}

/// A kind of client that comes and goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Comes with any choice and beginning, asks for things, and goes.
    Passing,
    /// Stops reading now and then.
    Slow,
    /// Ends in any bad way.
    Dying,
    Raw,
    Echo,
    RawEcho,
}

/// Lives one life after the other until the stage changes.
pub(crate) async fn lives(world: Rc<World>, kind: Kind) {
    while world.is_running() {
        let life = match kind {
            Kind::Passing => passing(&world).await,
            Kind::Slow => slow(&world).await,
            Kind::Dying => dying(&world).await,
            Kind::Raw => raw(&world).await,
            Kind::Echo => echo(&world, false).await,
            Kind::RawEcho => echo(&world, true).await,
        };
        if let Err(error) = life {
            world.tally.fail(&format!("{kind:?}"), &error);
            // A broken server must not make this a busy loop.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn passing(world: &Rc<World>) -> Result<(), String> {
    let start = match fastrand::u8(..8) {
        0 | 1 => Start::Since(world.recent.get().saturating_sub(fastrand::u64(..20_000))),
        2 => Start::Since(
            world
                .recent
                .get()
                .saturating_sub(fastrand::u64(..2_000_000)),
        ),
        3 => Start::OtherEpoch,
        4 => Start::Last(fastrand::u64(1..200)),
        _ => Start::Now,
    };
    let wish = Wish {
        selection: Selection::random(),
        start,
        ..Wish::default()
    };
    let mut session = Session::open(world, wish).await?;
    session
        .live(Instant::now() + between(10, 1000), between(20, 300))
        .await
        .map_err(|e| format!("{start:?} {e}"))?;
    session
        .settle()
        .await
        .map_err(|e| format!("{start:?} {e}"))?;
    world.recent.set(session.last().max(world.recent.get()));
    match session.closed() {
        Some(code) => Err(format!("closed with {code}")),
        None => session.close().await,
    }
}

async fn slow(world: &Rc<World>) -> Result<(), String> {
    let policy = ["gap", "gap", "latest", "close"][fastrand::usize(..4)];
    let mut selection = Selection::random();
    if fastrand::bool() {
        selection.add(Choice::Everything);
    }
    let wish = Wish {
        selection,
        slow: Some(policy),
        is_small: true,
        ..Wish::default()
    };
    let mut session = Session::open(world, wish).await?;
    let end = Instant::now() + between(2000, 12_000);
    while Instant::now() < end && world.is_running() && session.closed().is_none() {
        sleep(between(100, 2500)).await;
        session
            .live(Instant::now() + between(50, 1000), between(100, 1000))
            .await?;
    }
    if world.may_die.get() && fastrand::u8(..4) == 0 {
        world.tally.died.add(1);
        return Ok(());
    }
    session.settle().await?;
    match session.closed() {
        // Who does not read for two seconds does not even get its close frame.
        Some(TOO_SLOW | BROKEN) if policy == "close" => session.close().await,
        Some(code) => Err(format!("closed with {code}, slow={policy}")),
        None => session.close().await,
    }
}

/// Nothing is checked here but that the server ends what it is to end; what matters is what it leaves behind.
async fn dying(world: &Rc<World>) -> Result<(), String> {
    sleep(between(1, 60)).await;
    if !world.may_die.get() {
        return Ok(());
    }
    let mut stream = connect(world.address, true).await?;
    let way = fastrand::u8(..7);
    match way {
        // In the handshake: without a word, in the midst of it, or silent until the server loses patience.
        0 => {}
        1 => {
            let _ = stream
                .write_all(b"GET /ws?topic=* HTTP/1.1\r\nHost: x\r\nUpgr")
                .await;
            sleep(between(0, 50)).await;
        }
        2 => {
            let _ = stream.write_all(b"GET /ws?topic=* HT").await;
            read_to_end(&mut stream).await?;
        }
        // In the midst of a frame of its own.
        3 => {
            let mut stream = upgrade(stream, "topic=*").await?.into_inner();
            let _ = stream
                .write_all(&[0x81, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5, 6, 7])
                .await;
            sleep(between(0, 300)).await;
            reset(stream, fastrand::bool());
        }
        // Half: the server is to say goodbye and to end its side.
        4 => {
            let mut stream = upgrade(stream, "topic=*").await?.into_inner();
            sleep(between(0, 200)).await;
            let _ = stream.shutdown().await;
            read_to_end(&mut stream).await?;
        }
        // In the midst of what it is sent: live, or past.
        _ => {
            let query = if way == 5 {
                "topic=*"
            } else {
                "topic=*&since=0"
            };
            let stream = upgrade(stream, query).await?.into_inner();
            sleep(between(0, 400)).await;
            reset(stream, fastrand::u8(..4) > 0);
        }
    }
    world.tally.died.add(1);
    Ok(())
}

async fn read_to_end(stream: &mut TcpStream) -> Result<(), String> {
    let mut buffer = vec![0; 64 * 1024];
    let reading = async { while stream.read(&mut buffer).await.is_ok_and(|size| size > 0) {} };
    timeout(DEADLINE, reading)
        .await
        .map_err(|_| "the server does not end the connection".to_owned())
}

fn reset(stream: TcpStream, at_once: bool) {
    if at_once {
        let _ = stream.set_zero_linger();
    }
}

/// A client of whole topics without anything around the messages: none may be missing between two.
async fn raw(world: &Rc<World>) -> Result<(), String> {
    let skips = fastrand::u8(..4) == 0;
    let topics: Vec<usize> = (0..fastrand::usize(1..6))
        .map(|_| fastrand::usize(..TOPICS))
        .collect();
    let query = Selection::of(topics.into_iter().map(Choice::Topic)).query();
    let policy = if skips { "&slow=latest" } else { "" };
    let stream = connect(world.address, false).await?;
    let mut socket = upgrade(stream, &format!("format=raw{policy}{query}")).await?;
    world.tally.connected.add(1);
    let mut last = [0; TOPICS];
    let end = Instant::now() + between(200, 8000);
    let mut is_closing = false;
    loop {
        let is_over = !is_closing && (Instant::now() > end || !world.is_running());
        if is_over {
            is_closing = true;
            let _ = socket.close(None).await;
        }
        let frame = match timeout(Duration::from_millis(100), socket.next()).await {
            Ok(frame) => frame,
            Err(_) if !is_closing => continue,
            Err(_) => timeout(DEADLINE, socket.next())
                .await
                .map_err(|_| "no end".to_owned())?,
        };
        match frame {
            Some(Ok(Ws::Text(text))) => {
                world.tally.received.add(1);
                let message = Message::read(&text)?;
                let topic = message.class.topic().ok_or("a message without topics")?;
                let before = std::mem::replace(&mut last[topic], message.of_topic);
                let follows =
                    message.of_topic > before && (skips || message.of_topic == before + 1);
                if before > 0 && !follows {
                    let number = message.of_topic;
                    return Err(format!("message {number} of topic {topic} after {before}"));
                }
            }
            Some(Ok(Ws::Close(frame))) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                if !is_closing {
                    world.tally.closed_with(code);
                    if code != TOO_SLOW {
                        return Err(format!("closed with {code}"));
                    }
                    is_closing = true;
                }
            }
            Some(Ok(Ws::Ping(_) | Ws::Pong(_))) => {}
            Some(Ok(other)) => return Err(format!("an unexpected frame: {other:?}")),
            // Its close frame may be read too late to be answered, or by who is too slow not at all; then how many were
            // too slow is checked.
            None | Some(Err(_)) => {
                if !is_closing {
                    world.tally.closed_with(BROKEN);
                }
                return Ok(());
            }
        }
    }
}

/// Sends trains of messages to the listener and gets them back, in order.
async fn echo(world: &Rc<World>, is_raw: bool) -> Result<(), String> {
    let stream = connect(world.address, false).await?;
    let mut socket = upgrade(stream, if is_raw { "format=raw" } else { "" }).await?;
    world.tally.connected.add(1);
    if !is_raw {
        next_text(&mut socket).await?;
    }
    let end = Instant::now() + between(500, 5000);
    let mut number = 0;
    while Instant::now() < end && world.is_running() {
        let mut texts = Vec::new();
        for _ in 0..fastrand::usize(1..20) {
            number += 1;
            let size = fastrand::usize(..4000);
            let padding = PADDING.iter().cycle().take(size).map(|byte| *byte as char);
            texts.push(format!("{number} {}", padding.collect::<String>()));
        }
        for text in &texts {
            let frame = if is_raw {
                text.clone()
            } else {
                json!({"type": "send", "data": text}).to_string()
            };
            socket
                .feed(Ws::text(frame))
                .await
                .map_err(|error| error.to_string())?;
        }
        socket.flush().await.map_err(|error| error.to_string())?;
        for sent in &texts {
            let text = next_text(&mut socket).await?;
            let is_same = if is_raw {
                text == *sent
            } else {
                let frame: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| error.to_string())?;
                frame["type"] == "direct" && frame["data"] == *sent
            };
            if !is_same {
                return Err(format!("{text} instead of {sent}"));
            }
            world.tally.echoes.add(1);
        }
        sleep(between(1, 50)).await;
    }
    let _ = socket.close(None).await;
    while let Ok(Some(Ok(_))) = timeout(DEADLINE, socket.next()).await {}
    Ok(())
}

async fn next_text(socket: &mut Socket) -> Result<String, String> {
    loop {
        match timeout(DEADLINE, socket.next()).await {
            Ok(Some(Ok(Ws::Text(text)))) => return Ok(text.to_string()),
            Ok(Some(Ok(Ws::Ping(_) | Ws::Pong(_)))) => {}
            other => return Err(format!("no text but {other:?}")),
        }
    }
}
