//! Benchmarks of each step on the path of a message, so that a regression is seen at its source.
//!
//! The messages are recorded outbox messages of a real node. Run with `cargo bench -p dev_websocket_core`.
#![allow(missing_docs, reason = "divan's macros make public items")]

use std::borrow::Cow;
use std::sync::LazyLock;

use dev_websocket_core::Settings;
use dev_websocket_core::internals::{Choice, Frame, Matcher};
use dev_websocket_core::message::Value;
use dev_websocket_core::message::json::JsonWriter;
use dev_websocket_core::message::topics::TopicRules;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const KINDS: [&str; 3] = ["price", "transfer", "kilobyte"];

static RULES: LazyLock<TopicRules> = LazyLock::new(|| Settings::default().topic_rules());
static KILOBYTE: LazyLock<String> = LazyLock::new(|| "0123456789abcdef".repeat(64));

fn map<const N: usize>(entries: [(&'static str, &'static str); N]) -> Value<'static> {
    let entry = |(key, value)| (Cow::Borrowed(key), Value::Text(Cow::Borrowed(value)));
    Value::Map(entries.map(entry).into())
}

/// Returns an outbox message: one as a process writes it, one with its tags in a list, or one of a kilobyte.
fn message(kind: &str) -> Value<'static> {
    match kind {
        "price" => map([
            ("Action", "Price-Update"),
            ("Data", "hello"),
            ("Price", "7.21"),
            ("Symbol", "AR"),
            ("Target", "TARGET-ADDRESS-1"),
            ("Topic", "prices"),
            ("reference", "1"),
        ]),
        "transfer" => {
            let tags = [
                ("Action", "Credit-Notice"),
                ("Sender", "wsxRjYxRaTSxKCg0qhodf3HzbrW1sNdKu_ov-azOrf8"),
                ("Quantity", "1000"),
            ];
            let tag = |(name, value)| map([("name", name), ("value", value)]);
            Value::Map(vec![
                (
                    "Target".into(),
                    Value::Text("koIo3Y5R8ul-miu2hyIprwJJILn4Y03v1rdxpACF3Sw".into()),
                ),
                ("Tags".into(), Value::List(tags.map(tag).into())),
            ])
        }
        _ => map([
            ("topic", "prices"),
            ("action", "Transfer"),
            ("data", &KILOBYTE),
        ]),
    }
}

#[divan::bench(args = KINDS)]
fn topics_of(bencher: Bencher<'_, '_>, kind: &str) {
    let message = message(kind);
    bencher.bench(|| RULES.topics_of(black_box(&message)));
}

#[divan::bench(args = KINDS)]
fn json(bencher: Bencher<'_, '_>, kind: &str) {
    let message = message(kind);
    let mut buffer = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        buffer.clear();
        JsonWriter::new(&mut buffer, 1 << 20, false)
            .write(black_box(&message))
            .map(|()| 0)
            .ok()
    });
}

#[divan::bench(args = KINDS)]
fn frame(bencher: Bencher<'_, '_>, kind: &str) {
    let message = message(kind);
    let topics = RULES.topics_of(&message).topics;
    bencher
        .with_inputs(|| topics.clone())
        .bench_values(|topics| Frame::assemble(topics, black_box(&message), 1_000_000));
}

/// Matches a batch of 100 messages against a number of topics with one subscriber each.
#[divan::bench(args = [1, 1_000, 100_000])]
fn match_batch(bencher: Bencher<'_, '_>, topics: usize) {
    let names: Vec<_> = (0..topics).map(|n| format!("t{n}")).collect();
    let mut matcher = Matcher::default();
    for (connection, name) in names.iter().enumerate() {
        matcher.subscribe(connection, Choice::Topic(name));
    }
    let frames: Vec<_> = (0..100)
        .map(|n| {
            let name = &names[n * 7919 % names.len()];
            let message = Value::Map(vec![("topic".into(), Value::Text(name.as_str().into()))]);
            Frame::assemble(RULES.topics_of(&message).topics, &message, n as u64 + 1)
        })
        .collect();
    bencher.bench_local(|| matcher.matches(frames.iter()));
}

/// Subscriptions of 10,000 connections to 10,000 topics. Each connection has ten topics, and each publication has ten
/// receivers.
const CHOICES: [&str; 2] = ["topics", "patterns"];

/// Matches a batch of 1,000 messages for those connections. They subscribe to exact topics, or to 1,000 distinct globs,
/// regular expressions and templates. The cache of patterns is warm from the second round on.
#[divan::bench(args = CHOICES)]
fn match_choices(bencher: Bencher<'_, '_>, choice: &str) {
    let topic = |n: usize| format!("t{n:04}");
    let mut matcher = Matcher::default();
    for connection in 0..10_000 {
        let group = connection % 1_000;
        match (choice, group % 3) {
            ("topics", _) => {
                for thousand in 0..10 {
                    matcher.subscribe(connection, Choice::Topic(&topic(thousand * 1_000 + group)));
                }
            }
            (_, 0) => matcher.subscribe(connection, Choice::Topic(&format!("t*{group:03}"))),
            (_, 1) => matcher.subscribe(connection, Choice::Match(&format!("^t[0-9]{group:03}$"))),
            _ => matcher.subscribe(
                connection,
                Choice::Template(&format!(r#"{{"group":"{group:03}"}}"#)),
            ),
        }
    }
    let frames: Vec<_> = (0..1_000)
        .map(|n| {
            let number = n * 7_919 % 10_000;
            let message = Value::Map(vec![
                ("topic".into(), Value::Text(topic(number).into())),
                (
                    "group".into(),
                    Value::Text(format!("{:03}", number % 1_000).into()),
                ),
            ]);
            Frame::assemble(RULES.topics_of(&message).topics, &message, n as u64 + 1)
        })
        .collect();
    bencher.bench_local(|| matcher.matches(frames.iter()));
}

/// Matches 100 new topics of 255 bytes against a regular expression that makes backtracking engines hang.
#[divan::bench]
fn match_hostile(bencher: Bencher<'_, '_>) {
    let frames: Vec<_> = (0..100)
        .map(|n| {
            let name = format!("{}{n:03}!", "a".repeat(251));
            let message = Value::Map(vec![("topic".into(), Value::Text(name.into()))]);
            Frame::assemble(RULES.topics_of(&message).topics, &message, n + 1)
        })
        .collect();
    bencher
        .with_inputs(|| {
            let mut matcher = Matcher::default();
            matcher.subscribe(0, Choice::Match("(a+)+$"));
            matcher
        })
        .bench_local_values(|mut matcher| {
            matcher.matches(frames.iter());
            matcher
        });
}

/// Kinds of 51,200 globs: they differ at their beginnings, at their ends, or only behind `id:`.
const CROWDS: [&str; 3] = ["beginnings", "endings", "one beginning"];

/// Matches messages with five new tags against the filters of 400 connections, with 128 globs and 16 templates each.
/// The figure is for ten messages.
#[divan::bench(args = CROWDS)]
fn match_fresh(bencher: Bencher<'_, '_>, crowd: &str) {
    let mut matcher = Matcher::default();
    for connection in 0..400 {
        for n in 0..128 {
            let number = connection * 128 + n;
            let glob = match crowd {
                "beginnings" => format!("id{}:{number}*", number % 5),
                "endings" => format!("*:{number}"),
                _ => format!("id:*{number}"),
            };
            matcher.subscribe(connection, Choice::Topic(&glob));
        }
        for n in 0..16 {
            let number = connection * 16 + n;
            let template = format!(r#"{{"action":"Mint","id0":"{number}"}}"#);
            matcher.subscribe(connection, Choice::Template(&template));
        }
    }
    let mut next = 1_000_000;
    bencher
        .with_inputs(|| {
            let frames: Vec<_> = (0..10)
                .map(|_| {
                    let mut entries = vec![("action".into(), Value::Text("Mint".into()))];
                    for tag in 0..5 {
                        next += 7_919;
                        entries.push((format!("id{tag}").into(), Value::Integer(next)));
                    }
                    let message = Value::Map(entries);
                    Frame::assemble(RULES.topics_of(&message).topics, &message, next as u64)
                })
                .collect();
            frames
        })
        .bench_local_values(|frames| matcher.matches(frames.iter()));
}

/// Subscribes and unsubscribes 1,000 connections of a topic with 100,000 subscribers.
#[divan::bench]
fn leave(bencher: Bencher<'_, '_>) {
    let mut matcher = Matcher::default();
    for connection in 0..100_000 {
        matcher.subscribe(connection, Choice::Topic("all"));
    }
    bencher.bench_local(|| {
        for connection in 0..1_000 {
            matcher.unsubscribe(connection * 97, Choice::Topic("all"));
            matcher.subscribe(connection * 97, Choice::Topic("all"));
        }
    });
}
