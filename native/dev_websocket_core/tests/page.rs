//! The live page as an answer; what it does in a browser is tested end to end.
#![cfg(test)]

mod support;

use support::{Client, Raw, TestServer};

fn ask(server: &TestServer, line: &str) -> support::Response {
    Raw::ask(server, format!("{line} HTTP/1.1\r\nHost: test\r\n\r\n"))
}
