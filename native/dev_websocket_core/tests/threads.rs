//! Test of the threads and files that a stopped server leaves behind. It has its own program, because it counts the
//! program's threads.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::thread;

use dev_websocket_core::Disconnect;

use support::{Client, TestServer, until};

/// Returns the engine's threads by name.
fn threads() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("ws-"))
        .collect();
    names.sort_unstable();
    names
}

/// Counts the open files of the program.
fn files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn threads_and_sockets_are_gone_after_shutdown() {
    assert_eq!(threads(), Vec::<String>::new());
    let files_before = files();
    for _ in 0..5 {
        let server = TestServer::with(|settings| {
            settings.shards = 2;
            settings.workers = 3;
        });
        let clients: Vec<_> = (0..5)
            .map(|_| Client::connect(&server, "?topic=a"))
            .collect();
        server.send("a", "x");
        let names = [
            "ws-http",
            "ws-http",
            "ws-http",
            "ws-io",
            "ws-io",
            "ws-io",
            "ws-shard-0",
            "ws-shard-1",
        ];
        until("all threads to be named", || threads() == names);
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| client.closed());
            }
            server.stop(Disconnect::Stopping);
        });
        until("the threads to be gone", || threads().is_empty());
    }
    until("the sockets to be gone", || files() <= files_before);
}
