//! The publishing side of a server under test: commands on stdin, one JSON object a line, answers on stdout.
//!
//! Every server of the benchmark speaks this protocol; the Rust ones share this implementation. See bench/README.md.

use crate::{clock::now_ns, marker::LEN, marker::Marker};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

/// Upper bounds, so that a mistyped command ends.
const MAX_MESSAGES: u64 = 50_000_000;
const MAX_SECONDS: f64 = 600.0;
const MAX_SIZE: usize = 16 << 20;

/// A topic, by name for servers that have names and by number for those that do not: `t` is 0, `t17` is 17.
pub struct Topic {
    /// Position among the topics.
    pub index: usize,
    /// As clients ask for it.
    pub name: String,
}

impl Topic {
    /// The topic of that name.
    pub fn new(name: &str) -> Self {
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        Self {
            index: digits.parse().unwrap_or(0),
            name: name.to_owned(),
        }
    }
}

/// A server's way to publish.
pub trait Publish {
    /// Hands one message to everybody subscribed to the topic. May return before it is sent.
    fn publish(&mut self, topic: &Topic, payload: &[u8]);
}

#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
enum Command {
    Burst {
        topic: String,
        count: u64,
        size: usize,
        #[serde(default)]
        stream: u16,
    },
    TopicsBurst {
        topics: usize,
        per_topic: u64,
        size: usize,
        #[serde(default)]
        stream: u16,
        /// Topic i counts as stream `i / stride`: connections hold every stride-th topic.
        stride: Option<usize>,
    },
    Steady {
        topic: String,
        rate: f64,
        seconds: f64,
        size: usize,
        #[serde(default)]
        stream: u16,
    },
    Quit,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    count: u64,
    first_ns: u64,
    publish_ns: u64,
}

/// Prints the line that tells the orchestrator that this process listens.
pub fn ready(port: u16) -> std::io::Result<()> {
    print_line(&serde_json::json!({"ready": true, "port": port, "pid": std::process::id()}))
}

/// Carries out commands until `quit` or the end of stdin.
pub fn serve(publisher: &mut impl Publish) -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let command = match serde_json::from_str(&line?) {
            Ok(Command::Quit) => return Ok(()),
            Ok(command) => command,
            Err(error) => {
                print_line(&serde_json::json!({"event": "error", "message": error.to_string()}))?;
                continue;
            }
        };
        let (first_ns, begun) = (now_ns(), Instant::now());
        let count = run(publisher, &command);
        print_line(&Done {
            event: "done",
            count,
            first_ns,
            publish_ns: begun.elapsed().as_nanos() as u64,
        })?;
    }
    Ok(())
}

fn run(publisher: &mut impl Publish, command: &Command) -> u64 {
    match command {
        Command::Burst {
            topic,
            count,
            size,
            stream,
        } => {
            let (topic, mut payload) = (Topic::new(topic), payload(*size));
            let count = (*count).min(MAX_MESSAGES);
            for seq in 0..count {
                send(publisher, &topic, &mut payload, *stream, seq);
            }
            count
        }
        Command::TopicsBurst {
            topics,
            per_topic,
            size,
            stream,
            stride,
        } => {
            let stride = stride.unwrap_or(*topics).max(1);
            let topics: Vec<Topic> = (0..(*topics).min(1 << 20))
                .map(|i| Topic::new(&format!("t{i}")))
                .collect();
            let per_topic = (*per_topic).min(MAX_MESSAGES / (topics.len() as u64).max(1));
            let mut payload = payload(*size);
            for seq in 0..per_topic {
                for topic in &topics {
                    let stream = stream.wrapping_add((topic.index / stride) as u16);
                    send(publisher, topic, &mut payload, stream, seq);
                }
            }
            per_topic * topics.len() as u64
        }
        Command::Steady {
            topic,
            rate,
            seconds,
            size,
            stream,
        } => {
            let (topic, mut payload) = (Topic::new(topic), payload(*size));
            let gap = 1.0 / rate.max(0.001);
            let count = (seconds.min(MAX_SECONDS) / gap) as u64;
            let start = Instant::now();
            for seq in 0..count.min(MAX_MESSAGES) {
                let due = start + Duration::from_secs_f64(gap * seq as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                send(publisher, &topic, &mut payload, *stream, seq);
            }
            count
        }
        Command::Quit => 0,
    }
}

fn payload(size: usize) -> Vec<u8> {
    vec![b'x'; size.clamp(LEN, MAX_SIZE)]
}

fn send(publisher: &mut impl Publish, topic: &Topic, payload: &mut [u8], stream: u16, seq: u64) {
    Marker {
        stream,
        seq,
        sent_ns: now_ns(),
    }
    .write(payload);
    publisher.publish(topic, payload);
}

/// Writes one JSON line and flushes it.
pub fn print_line(value: &impl Serialize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}
