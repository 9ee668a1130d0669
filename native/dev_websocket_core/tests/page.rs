//! Tests of the live page as a response. End-to-end tests cover its behavior in a browser.
#![cfg(test)]

mod support;

use support::{Client, Raw, TestServer};

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn the_page_comes_with_a_policy_that_lets_nothing_else_run() {
    let server = TestServer::start();
    let page = Raw::ask(&server, request("GET /?topic=a&last=5"));
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("<!doctype html>\n"));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let policy = page.header("content-security-policy").unwrap();
    let directives: Vec<_> = policy.split("; ").collect();
    for directive in [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ] {
        assert!(directives.contains(&directive), "{directive} in {policy}");
    }
    for what in ["script-src", "style-src"] {
        let hash = format!("{what} 'sha256-");
        assert!(directives.iter().any(|known| known.starts_with(&hash)));
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
}

#[test]
fn a_head_is_that_of_the_page() {
    let server = TestServer::start();
    let length = Raw::ask(&server, request("GET /")).text().len();
    let mut raw = Raw::connect(server.address());
    raw.write(request("HEAD /"));
    let head = raw.response_head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some(&*length.to_string()));
    raw.end();
    let refused = Raw::ask(&server, request("POST /"));
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}

#[test]
fn the_page_can_be_switched_off() {
    let server = TestServer::with(|settings| settings.endpoints.retain(|name| name != "page"));
    assert_eq!(Raw::ask(&server, request("GET /")).status, 404);
    assert_eq!(Raw::ask(&server, request("GET /info")).status, 200);
    Client::connect(&server, "");
}

#[test]
fn the_client_comes_as_a_module_that_any_page_may_import() {
    let server = TestServer::start();
    let module = Raw::ask(&server, request("GET /client.js"));
    assert_eq!(module.status, 200);
    for (name, value) in [
        ("content-type", "text/javascript; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("access-control-allow-origin", "*"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(module.header(name), Some(value), "{name}");
    }
    assert!(module.text().contains("class Client "));
    let without = TestServer::with(|settings| settings.endpoints.retain(|name| name != "client"));
    assert_eq!(Raw::ask(&without, request("GET /client.js")).status, 404);
}
