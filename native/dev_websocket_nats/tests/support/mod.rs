//! A real nats-server, nodes that use it, and clients that check what they get.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test file uses its part; a failure ends the test"
)]

pub mod client;
pub mod events;
pub mod proxy;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dev_websocket_core::message::Value;
use dev_websocket_core::{Counters, Disconnect, Server, SettingValue, Settings, SlotMarks};
use dev_websocket_nats::Nats;
use tempfile::TempDir;

/// Returns the program, if there is one: `NATS_SERVER`, or `nats-server` of the path.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.into_iter().chain(found).find(|file| file.is_file())
}

/// A nats-server of the test, with its store in a folder of its own.
pub struct Engine {
    process: Child,
    pub port: u16,
    pub folder: TempDir,
    arguments: Vec<String>,
}

impl Engine {
    /// Starts one; none where no nats-server is installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with the lines of a configuration.
    pub fn start_with(lines: &[&str]) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: no nats-server, see docs/CLUSTER.md");
            return None;
        };
        Some(Self::start_at(&program, free_port(), lines))
    }

    /// Starts several that are one cluster, and returns them with their URLs.
    pub fn start_cluster(count: usize) -> Option<(Vec<Self>, String)> {
        let program = program()?;
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let routes = ports
            .iter()
            .map(|(_, route)| format!("nats://127.0.0.1:{route}"));
        let routes: Vec<String> = routes.collect();
        let start = |(place, (port, route)): (usize, &(u16, u16))| {
            let name = format!("server_name: s{place}");
            let cluster = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: {routes:?} }}"
            );
            Self::start_at(&program, *port, &[&name, &cluster])
        };
        let engines: Vec<Self> = ports.iter().enumerate().map(start).collect();
        let urls: Vec<String> = engines.iter().map(Self::url).collect();
        Some((engines, urls.join(",")))
    }

    fn start_at(program: &Path, port: u16, lines: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("config");
        let store = folder.path().join("store");
        let mut text =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n");
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("{line}\n")));
        std::fs::write(&config, text).unwrap();
        let arguments = vec![program.display().to_string(), config.display().to_string()];
        let process = spawn(&arguments);
        Self {
            process,
            port,
            folder,
            arguments,
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let _ = self.process.wait();
    }

    /// Starts it again on the same store and port.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.arguments);
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        assert!(done.unwrap().success());
    }

    pub async fn client(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut process = Command::new(&arguments[0])
        .args(["-c", &arguments[1]])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let is_ready = lines.by_ref().map_while(Result::ok).any(|line| {
        log.push(line);
        log.last()
            .is_some_and(|line| line.contains("Server is ready"))
    });
    assert!(is_ready, "the nats-server ended: {log:?}");
    // Its log is read to the end, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    process
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns the configuration of a stream that fits.
pub fn stream_config() -> async_nats::jetstream::stream::Config {
    async_nats::jetstream::stream::Config {
        name: "dev_websocket".into(),
        subjects: vec!["dev_websocket.m".into(), "dev_websocket.p.*".into()],
        ..Default::default()
    }
}

/// Returns the configuration of the stream of the bucket beside it.
pub fn bucket_config() -> async_nats::jetstream::stream::Config {
    async_nats::jetstream::stream::Config {
        name: "KV_dev_websocket_generation".into(),
        subjects: vec!["$KV.dev_websocket_generation.>".into()],
        max_messages_per_subject: 1,
        allow_rollup: true,
        allow_direct: true,
        ..Default::default()
    }
}

/// A server that shares the stream.
pub struct Node {
    pub server: Server,
    pub counters: Arc<Counters>,
    pub marks: Arc<SlotMarks>,
}

impl Node {
    pub fn start(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    pub fn start_with(url: &str, settings: &[(&str, SettingValue)]) -> Self {
        let text = |text: &str| SettingValue::Text(text.to_owned());
        let defaults = [
            ("host", text("127.0.0.1")),
            ("port", SettingValue::Integer(0)),
            ("engine", text(url)),
            ("engine_create", SettingValue::Boolean(true)),
            ("engine_timeout", SettingValue::Integer(2000)),
            ("shards", SettingValue::Integer(1)),
            ("workers", SettingValue::Integer(1)),
            ("send_buffer_bytes", SettingValue::Integer(64 * 1024 * 1024)),
        ];
        let mut chosen = Settings::default();
        for (name, value) in defaults.iter().chain(settings) {
            chosen.set(name, value.clone()).unwrap();
        }
        let counters = Arc::new(Counters::default());
        let marks = Arc::new(SlotMarks::default());
        let server = Server::builder(chosen)
            .counters(counters.clone())
            .slot_marks(marks.clone())
            .engine(Box::new(Nats::new()))
            .start()
            .unwrap();
        Self {
            server,
            counters,
            marks,
        }
    }

    pub fn uri(&self) -> String {
        self.server.info().uri
    }

    /// Publishes a message with a number.
    pub fn publish(&self, topic: &str, number: u64) {
        let message = Value::Map(vec![
            ("topic".into(), Value::Text(topic.into())),
            (
                "n".into(),
                Value::Integer(i128::from(number).try_into().unwrap()),
            ),
        ]);
        assert_eq!(self.server.publish(&message), Ok(0));
    }

    /// Publishes a message with a number and so many bytes.
    pub fn publish_large(&self, topic: &str, number: u64, bytes: usize) {
        let message = Value::Map(vec![
            ("topic".into(), Value::Text(topic.into())),
            ("n".into(), Value::Integer(number.try_into().unwrap())),
            ("data".into(), Value::Text("x".repeat(bytes).into())),
        ]);
        assert_eq!(self.server.publish(&message), Ok(0));
    }

    /// Waits until the node says that its stream is there, or away.
    pub async fn until_present(&self, is_present: bool) {
        while (self.stat("engine_present") == 1) != is_present {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Checks that the node has no stream for as long as a node with one needs many times over.
    pub async fn refuses(&self) {
        let until_served = async {
            while let Err(error) = tokio_tungstenite::connect_async(self.uri()).await {
                assert!(error.to_string().contains("503"), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let served = tokio::time::timeout(Duration::from_secs(2), until_served).await;
        assert!(served.is_err(), "the node has its stream");
        assert_eq!(self.stat("engine_present"), 0);
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.server.stats();
        stats.iter().find(|(stat, _)| *stat == name).unwrap().1
    }

    pub fn stop(&self) {
        let stop = || {
            self.server
                .shutdown(Disconnect::Stopping, Duration::from_secs(5))
        };
        // It waits on a runtime of its own, which no thread of another one may.
        let _ = std::thread::scope(|scope| scope.spawn(stop).join());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}
