//! Tests of host names and origins: every endpoint, in every format.
#![cfg(test)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use support::{Raw, TestServer, upgrade_request};

/// All endpoints: a path with its query, whether it is an upgrade, and the status of the response.
const ASKED: [(&str, bool, u16); 10] = [
    ("/ws?topic=a", true, 101),
    ("/ws?topic=a&format=raw", true, 101),
    ("/ws?topic=a", false, 200),
    ("/events?topic=a", false, 200),
    ("/info", false, 200),
    ("/metrics", false, 200),
    ("/health", false, 200),
    ("/", false, 200),
    ("/client.js", false, 200),
    ("/nowhere", false, 404),
];

/// Starts a server on all interfaces that pages of these origins may read, and returns its address.
fn on_all_interfaces(origins: &[&str]) -> (TestServer, SocketAddr) {
    let server = TestServer::with(|settings| {
        settings.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        settings.public_host = Ipv4Addr::LOCALHOST.to_string();
        settings.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    });
    let address = server.address();
    (server, address)
}

/// Returns the status of the response, and the code of a refusal.
fn ask(address: SocketAddr, target: &str, is_upgrade: bool, headers: &str) -> (u16, String) {
    let request = if is_upgrade {
        upgrade_request("")
            .replace("GET /ws", &format!("GET {target}"))
            .replace("Host: localhost\r\n", headers)
    } else {
        format!("GET {target} HTTP/1.1\r\n{headers}Accept: text/event-stream\r\n\r\n")
    };
    answer(address, &request)
}

fn answer(address: SocketAddr, request: &str) -> (u16, String) {
    let mut raw = Raw::connect(address);
    raw.write(request);
    let response = raw.response();
    let code = match response.status {
        403 => response.refusal().0,
        _ => String::new(),
    };
    (response.status, code)
}

#[test]
fn every_endpoint_answers_to_its_own_names_only_where_origins_are_named() {
    let (_server, address) =
        on_all_interfaces(&["https://app.example", "https://*.node.example:8443"]);
    for (target, is_upgrade, status) in ASKED {
        for host in [
            "127.0.0.1",
            "localhost:8735",
            "LOCALHOST.",
            "[::1]:1",
            "app.example",
            "a.node.example:9",
        ] {
            let headers = format!("Host: {host}\r\n");
            let answered = ask(address, target, is_upgrade, &headers);
            assert_eq!(answered.0, status, "{target} of {host}: {answered:?}");
        }
        for host in [
            "evil.example",
            "evil.example:8735",
            "app.example.evil",
            "",
            "localhost:x",
            "[evil]",
            "a b",
        ] {
            let headers = format!("Host: {host}\r\n");
            let answered = ask(address, target, is_upgrade, &headers);
            assert_eq!(answered, (403, "unknown_host".into()), "{target} of {host}");
        }
    }
}

#[test]
fn every_endpoint_answers_to_its_own_names_only_on_this_machine_alone() {
    let server = TestServer::start();
    for (target, is_upgrade, status) in ASKED {
        let answered = ask(server.address(), target, is_upgrade, "Host: localhost\r\n");
        assert_eq!(answered.0, status, "{target}");
        let answered = ask(
            server.address(),
            target,
            is_upgrade,
            "Host: evil.example\r\n",
        );
        assert_eq!(answered, (403, "unknown_host".into()), "{target}");
    }
    // The public host of the settings is allowed.
    let mut settings = support::settings();
    settings.public_host = "node.example".into();
    let address = server.address();
    server.reconfigure(settings).unwrap();
    for (target, is_upgrade, status) in ASKED {
        let answered = ask(address, target, is_upgrade, "Host: Node.Example:443\r\n");
        assert_eq!(answered.0, status, "{target}");
    }
}

#[test]
fn an_open_server_answers_to_any_name() {
    let (_server, address) = on_all_interfaces(&[]);
    for (target, is_upgrade, status) in ASKED {
        for host in ["evil.example:8735", "", "localhost:x"] {
            let headers = format!("Host: {host}\r\nSec-Fetch-Site: cross-site\r\n");
            let answered = ask(address, target, is_upgrade, &headers);
            assert_eq!(answered.0, status, "{target} of {host:?}: {answered:?}");
        }
    }
}

#[test]
fn a_request_of_http_1_0_may_have_no_name_and_a_target_may_have_one() {
    let server = TestServer::start();
    let status = |request: &str| answer(server.address(), request).0;
    assert_eq!(status("GET /health HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(
        status("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        200
    );
    assert_eq!(
        status("GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n"),
        403
    );
    assert_eq!(
        status("GET http://evil.example/health HTTP/1.0\r\n\r\n"),
        403
    );
    for (target, expected) in [
        ("localhost:8735", 200),
        ("[::1]", 200),
        ("evil.example", 403),
    ] {
        let request = format!("GET http://{target}/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&request), expected, "{target}");
    }
    let two = "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n";
    assert_eq!(status(two), 400);
    let two = "GET /health HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(status(two), 400);
}

#[test]
fn pages_of_other_sites_need_an_origin_that_may() {
    let (_server, everywhere) = on_all_interfaces(&["https://app.example"]);
    let here = TestServer::start();
    for (address, has_origins) in [(everywhere, true), (here.address(), false)] {
        for (target, is_upgrade, status) in ASKED {
            let with = |headers: &str| {
                let headers = format!("Host: localhost\r\n{headers}");
                ask(address, target, is_upgrade, &headers)
            };
            let allowed = "Sec-Fetch-Site: cross-site\r\nOrigin: https://app.example\r\n";
            for headers in [
                "",
                "Sec-Fetch-Site: same-origin\r\n",
                "Sec-Fetch-Site: none\r\n",
                allowed,
            ] {
                assert_eq!(with(headers).0, status, "{target} with {headers:?}");
            }
            for headers in [
                "Sec-Fetch-Site: cross-site\r\n",
                "sec-fetch-site: Cross-Site\r\nSec-Fetch-Mode: no-cors\r\n",
            ] {
                assert_eq!(
                    with(headers),
                    (403, "cross_site".into()),
                    "{target} with {headers:?}"
                );
            }
            let other = "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n";
            let expected = match (has_origins, status) {
                (true, 404) | (false, _) => (status, String::new()),
                (true, _) => (403, "bad_origin".into()),
            };
            assert_eq!(with(other), expected, "{target}");
        }
    }
}

#[test]
fn a_link_to_the_live_page_may_be_followed_from_anywhere_and_no_other() {
    let (_server, address) = on_all_interfaces(&["https://app.example"]);
    let followed = |target: &str, dest: &str| {
        let headers = format!(
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: {dest}\r\n"
        );
        ask(address, target, false, &headers)
    };
    assert_eq!(followed("/", "document").0, 200);
    assert_eq!(followed("/?topic=a", "document").0, 200);
    for (target, dest) in [
        ("/", "iframe"),
        ("/", "embed"),
        ("/info", "document"),
        ("/events", "document"),
        ("/ws", "document"),
    ] {
        assert_eq!(
            followed(target, dest),
            (403, "cross_site".into()),
            "{target} as {dest}"
        );
    }
}

#[test]
fn a_refusal_names_the_header() {
    let server = TestServer::start();
    for (headers, name) in [
        ("Host: evil.example\r\n", "Host: "),
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: ",
        ),
    ] {
        let response = Raw::ask(&server, format!("GET /info HTTP/1.1\r\n{headers}\r\n"));
        let (_, message) = response.refusal();
        assert!(message.starts_with(name), "{message}");
    }
    assert_eq!(server.counters.requests_refused.get(), 2);
}

#[test]
fn pages_of_other_origins_are_refused_when_origins_are_named() {
    let server = TestServer::with(|settings| {
        settings.origins = ["https://app.example", "https://*.node.example:8443", "null"]
            .map(str::to_owned)
            .to_vec();
    });
    let status = |origin: &str| {
        let response = Raw::ask(
            &server,
            upgrade_request("").replace(
                "Host: localhost\r\n",
                &format!("Host: localhost\r\n{origin}"),
            ),
        );
        if response.status == 403 {
            assert_eq!(response.refusal().0, "bad_origin");
        }
        response.status
    };
    for (origin, expected) in [
        ("", 101),
        ("Origin: https://app.example\r\n", 101),
        ("Origin: HTTPS://APP.EXAMPLE\r\n", 101),
        ("Origin: null\r\n", 101),
        ("Origin: https://a.b.node.example:8443\r\n", 101),
        ("Origin: https://node.example:8443\r\n", 403),
        ("Origin: https://a.node.example\r\n", 403),
        ("Origin: http://app.example\r\n", 403),
        ("Origin: https://app.example.evil\r\n", 403),
        ("Origin: \r\n", 403),
        (
            "Origin: https://app.example\r\nOrigin: https://evil\r\n",
            403,
        ),
    ] {
        assert_eq!(status(origin), expected, "{origin:?}");
    }
    // By default every origin is allowed.
    server.reconfigure(support::settings()).unwrap();
    assert_eq!(status("Origin: https://evil\r\n"), 101);
}
