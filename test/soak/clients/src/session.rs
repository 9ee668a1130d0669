//! A connection of the JSON format that checks all that it gets, and asks for things.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Ws, Utf8Bytes};

use crate::account::Account;
use crate::choice::{Choice, Field, Selection};
use crate::frames::{Frame, Message};
use crate::world::{DEADLINE, Socket, Stage, World, connect, upgrade};

/// What a connection asks of its URL.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) selection: Selection,
    pub(crate) start: Start,
    /// `gap`, `latest` or `close`.
    pub(crate) slow: Option<&'static str>,
    /// It holds little of what it does not read.
    pub(crate) is_small: bool,
}

/// Where it begins.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) enum Start {
    #[default]
    Now,
    Since(u64),
    OtherEpoch,
    Last(u64),
}

#[derive(Debug)]
pub(crate) struct Session {
    world: Rc<World>,
    socket: Socket,
    account: Account,
    selection: Selection,
    asked: HashMap<u64, Asked>,
    next_id: u64,
    /// Replays that have not come to their end.
    replays: usize,
    /// The last number that came.
    last: u64,
    /// The code with which the server closed.
    closed: Option<u16>,
}

#[derive(Debug)]
enum Asked {
    Ping,
    Change(Selection),
    Replay(Selection, u64),
}

/// What stands for the code of a connection that ended without one.
pub(crate) const BROKEN: u16 = 1006;

/// Choices of one connection, at the most.
const MAX_CHOICES: usize = 6;

impl Session {
    pub(crate) async fn open(world: &Rc<World>, wish: Wish) -> Result<Self, String> {
        let mut query = wish.selection.query();
        match wish.start {
            Start::Now => {}
            Start::Since(seq) => query += &format!("&since={}:{seq}", world.epoch),
            Start::OtherEpoch => query += "&since=another:7",
            Start::Last(count) => query += &format!("&last={count}"),
        }
        if let Some(slow) = wish.slow {
            query += &format!("&slow={slow}");
        }
        let stream = connect(world.address, wish.is_small).await?;
        let mut socket = upgrade(stream, &query).await?;
        world.tally.connected.add(1);
        let text = match timeout(DEADLINE, socket.next()).await {
            Ok(Some(Ok(Ws::Text(text)))) => text,
            other => return Err(format!("no first frame: {other:?}")),
        };
        let first = parse(&text)?;
        if first.kind != "connection_established" || first.epoch != world.epoch {
            return Err(format!("a first frame of {}: {text}", world.epoch));
        }
        let (position, replays) = match wish.start {
            Start::Now => (Some(first.seq), 0),
            Start::Since(seq) => (Some(seq), 1),
            Start::OtherEpoch | Start::Last(_) => (None, 1),
        };
        let account = Account::new(world.ledger.clone(), wish.selection.table(), position);
        Ok(Self {
            world: world.clone(),
            socket,
            account,
            selection: wish.selection,
            asked: HashMap::new(),
            next_id: 1,
            replays,
            last: first.seq,
            closed: None,
        })
    }

    /// Reads and asks for things until then, or until the stage changes.
    pub(crate) async fn live(&mut self, until: Instant, pace: Duration) -> Result<(), String> {
        let mut stage = self.world.stage.clone();
        let end = sleep_until(until);
        let act = sleep(pace);
        tokio::pin!(end, act);
        while self.closed.is_none() && *stage.borrow_and_update() == Stage::Running {
            tokio::select! {
                frame = self.socket.next() => self.take(frame)?,
                () = &mut end => return Ok(()),
                () = &mut act => {
                    self.act().await?;
                    act.as_mut().reset(Instant::now() + pace.mul_f32(0.5 + fastrand::f32()));
                }
                _ = stage.changed() => {}
            }
        }
        Ok(())
    }

    /// Asks for something.
    async fn act(&mut self) -> Result<(), String> {
        let mut selection = self.selection.clone();
        // What is held when a replay ends is not known before.
        if self.replays > 0 || self.has_change_on_the_way() || fastrand::u8(..10) < 4 {
            return self.ping().await;
        }
        if fastrand::bool() && selection.choices().len() < MAX_CHOICES {
            let choice = Choice::random();
            if selection.choices().contains(&choice) {
                return Ok(());
            }
            selection.add(choice);
            if fastrand::u8(..4) == 0 {
                let since = self.last.saturating_sub(fastrand::u64(..5000));
                let request = request("subscribe", choice, Some(&self.cursor(since)));
                return self.ask(request, Asked::Replay(selection, since)).await;
            }
            let request = request("subscribe", choice, None);
            return self.ask(request, Asked::Change(selection)).await;
        }
        let held = selection.choices();
        let Some(choice) = held.get(fastrand::usize(..held.len().max(1))).copied() else {
            return Ok(());
        };
        if !selection.can_remove(choice) {
            return Ok(());
        }
        selection.remove(choice);
        self.ask(
            request("unsubscribe", choice, None),
            Asked::Change(selection),
        )
        .await
    }

    fn cursor(&self, seq: u64) -> String {
        format!("{}:{seq}", self.world.epoch)
    }

    fn has_change_on_the_way(&self) -> bool {
        let is_change = |asked: &Asked| !matches!(asked, Asked::Ping);
        self.asked.values().any(is_change)
    }

    async fn ping(&mut self) -> Result<(), String> {
        self.ask(json!({"type": "ping"}), Asked::Ping).await
    }

    async fn ask(&mut self, mut request: serde_json::Value, asked: Asked) -> Result<(), String> {
        let id = self.next_id;
        self.next_id += 1;
        request["id"] = id.into();
        self.asked.insert(id, asked);
        let sent = self.socket.send(Ws::text(request.to_string()));
        match timeout(DEADLINE, sent).await {
            Ok(Ok(())) => Ok(()),
            // The close frame says more.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err("the server does not read".to_owned()),
        }
    }

    /// Waits until all is answered and here, and compares it.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        while self.closed.is_none() && (self.has_change_on_the_way() || self.replays > 0) {
            self.read().await?;
        }
        if self.closed.is_none() {
            self.ping().await?;
        }
        while self.closed.is_none() && !self.asked.is_empty() {
            self.read().await?;
        }
        let patience = Instant::now() + DEADLINE;
        loop {
            self.account.compare(&self.world.tally)?;
            // What came last before the server closed may be more than the observers will get.
            if self.account.is_settled() || self.closed.is_some() {
                return Ok(());
            }
            if Instant::now() > patience {
                return Err("the observers do not come so far".to_owned());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Closes, and reads to the end.
    pub(crate) async fn close(mut self) -> Result<(), String> {
        if self.closed.is_none() {
            let goodbye = CloseFrame {
                code: CloseCode::Normal,
                reason: Utf8Bytes::default(),
            };
            let _ = self.socket.close(Some(goodbye)).await;
        }
        while let Some(frame) = self.next().await? {
            // What comes after all was settled only counts.
            if let Ok(Ws::Text(text)) = frame
                && parse(&text)?.kind == "message"
            {
                self.world.tally.received.add(1);
            }
        }
        Ok(())
    }

    /// Reads on until the stage changes. Nothing is to come but pings.
    pub(crate) async fn idle(&mut self, stage: &mut watch::Receiver<Stage>) -> Result<(), String> {
        while self.closed.is_none() {
            tokio::select! {
                frame = self.socket.next() => self.take(frame)?,
                _ = stage.changed() => return Ok(()),
            }
        }
        Ok(())
    }

    /// The last number that came.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The code with which the server closed, if it did.
    pub(crate) fn closed(&self) -> Option<u16> {
        self.closed
    }

    async fn read(&mut self) -> Result<(), String> {
        let frame = self.next().await?;
        self.take(frame)
    }

    async fn next(&mut self) -> Result<Option<Result<Ws, Error>>, String> {
        timeout(DEADLINE, self.socket.next()).await.map_err(|_| {
            let Self { asked, replays, .. } = self;
            format!("nothing comes any more, with {asked:?} and {replays} replays on the way")
        })
    }

    fn take(&mut self, frame: Option<Result<Ws, Error>>) -> Result<(), String> {
        match frame {
            Some(Ok(Ws::Text(text))) => self.take_text(&text),
            Some(Ok(Ws::Close(frame))) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                self.world.tally.closed_with(code);
                self.closed = Some(code);
                Ok(())
            }
            Some(Ok(Ws::Ping(_) | Ws::Pong(_))) => Ok(()),
            Some(Ok(other)) => Err(format!("an unexpected frame: {other:?}")),
            Some(Err(_)) | None => {
                self.world.tally.closed_with(BROKEN);
                self.closed = Some(BROKEN);
                Ok(())
            }
        }
    }

    fn take_text(&mut self, text: &str) -> Result<(), String> {
        let frame = parse(text)?;
        let tally = &self.world.tally;
        match frame.kind {
            "message" => {
                tally.received.add(1);
                self.last = frame.seq;
                self.account
                    .message(frame.seq, Message::of_frame(&frame)?)?;
            }
            "gap" => self.take_gap(&frame)?,
            "live" => {
                tally.replays.add(1);
                self.replays = self.replays.saturating_sub(1);
                self.account.complete_to(frame.seq)?;
            }
            "pong" | "subscription_response" | "unsubscription_response" => {
                tally.answers.add(1);
                let asked = frame.id.and_then(|id| self.asked.remove(&id));
                match asked {
                    Some(Asked::Ping) if frame.seq == 0 => {}
                    Some(Asked::Ping) => self.account.complete_to(frame.seq)?,
                    Some(Asked::Change(selection)) => {
                        self.account.choose(frame.seq, selection.table())?;
                        self.selection = selection;
                    }
                    Some(Asked::Replay(selection, since)) => {
                        self.account.replay(frame.seq, since, selection.table())?;
                        self.selection = selection;
                        self.replays += 1;
                    }
                    None => return Err(format!("an answer to nothing: {text}")),
                }
            }
            _ => return Err(format!("an unexpected frame: {text}")),
        }
        self.account.compare(&self.world.tally)
    }

    fn take_gap(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let tally = &self.world.tally;
        match frame.reason {
            "slow" => {
                tally.told_slow.add(frame.dropped);
                self.account.slow(frame.dropped, frame.after, frame.next);
            }
            "overload" if frame.next == frame.after + 2 => {
                tally.told_overload.add(frame.dropped);
                self.account.loss(frame.after + 1, frame.dropped);
            }
            "expired" | "epoch" => {
                tally.forgotten.add(1);
                let lacking = frame.next - frame.after - 1;
                if frame.dropped != lacking {
                    return Err(format!("{lacking} are forgotten by numbers: {frame:?}"));
                }
                self.account.forgotten(frame.after, frame.next);
            }
            _ => return Err(format!("a gap of a kind of its own: {frame:?}")),
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Frame<'_>, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))
}

fn request(kind: &str, choice: Choice, since: Option<&str>) -> serde_json::Value {
    let text = choice.text();
    let mut request = match choice.field() {
        Field::Topic => json!({"type": kind, "topics": [text]}),
        Field::Match => json!({"type": kind, "match": [text]}),
        Field::Template => {
            let template: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            json!({"type": kind, "template": [template]})
        }
    };
    if let Some(since) = since {
        request["since"] = since.into();
    }
    request
}
