//! Tests of `/connections` and `/cast`: nobody but the operator gets there, and nothing that is wrong is done.
#![cfg(test)]

#[path = "support/operator.rs"]
mod operator;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::time::Duration;

use dev_websocket_core::{Access, Settings};
use serde_json::{Value as Json, json};

use operator::{WORK, ask, ids, on_all_interfaces, refused, with};
use support::{Client, Raw};

#[test]
fn strangers_on_the_public_port_are_refused() {
    let (server, public, _) = with(|_| ());
    let mut client = Client::connect(&server, "?topic=a");
    for work in WORK {
        for headers in [
            "",
            "Authorization: Bearer x\r\n",
            "X-Forwarded-For: 127.0.0.1\r\n",
        ] {
            assert_eq!(
                refused(public, work, headers),
                (403, "forbidden".to_owned()),
                "{work:?}"
            );
        }
    }
    // Nothing of a stranger's body is read, however long it takes.
    let mut raw = Raw::connect(public);
    raw.write("POST /cast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n");
    assert_eq!(raw.response().status, 403);
    let seq = server.send("a", "x");
    assert_eq!(client.message()["seq"], seq);
    assert_eq!(server.stat("publications"), 1);
}

#[test]
fn only_a_token_that_allows_everything_is_as_good_as_the_operators_port() {
    let (server, public, operator) = with(|settings| {
        settings.access = Access::Token;
        settings.token_keys = tokens::keys();
    });
    let signed = |actions: Json| {
        let mut claims = tokens::claims(tokens::now() + 600, &[]);
        claims["authorization_details"] = actions;
        format!("Authorization: Bearer {}\r\n", tokens::sign(&claims))
    };
    let read =
        |topic: &str| json!({"type": "dev_websocket", "actions": ["read"], "topics": [topic]});
    let send = json!({"type": "dev_websocket", "actions": ["send"]});
    let all = signed(json!([read("*"), send]));
    let mut client = Raw::connect(public);
    let upgrade = support::upgrade_request("?topic=a");
    client.write(upgrade.replacen("Host:", &format!("{all}Host:"), 1));
    assert_eq!(client.response().status, 101);
    client.json();
    for work in WORK {
        let (status, code) = refused(public, work, "");
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{work:?}");
        for some in [json!([read("*")]), json!([read("a"), send]), json!([send])] {
            let (status, code) = refused(public, work, &signed(some));
            assert_eq!((status, code.as_str()), (403, "forbidden"), "{work:?}");
        }
    }
    assert_eq!(server.stat("connections"), 1);
    let page = ask(public, WORK[0], &all).json();
    assert_eq!(ids(&page), ids(&ask(operator, WORK[0], "").json()));
    assert_eq!(ask(public, WORK[2], &all).status, 200);
    let target = format!("/connections/{}", ids(&page)[0]);
    assert_eq!(ask(public, ("DELETE", &target, ""), &all).status, 200);
    assert_eq!(client.closed().1.0, 1008);
    // In a URL a token is one for everybody who reads logs.
    let target = format!("/connections?token={}", all.trim());
    assert_eq!(
        refused(public, ("GET", &target.replace(' ', ""), ""), "").0,
        400
    );
}

#[test]
fn no_page_of_another_site_gets_through_either_door() {
    let any_origin =
        |settings: &mut Settings| settings.origins = vec!["*".into(), "https://*.example".into()];
    let servers = [with(|_| ()), on_all_interfaces(), with(any_origin)];
    for (server, _, operator) in &servers {
        let mut client = Client::connect(server, "?topic=a");
        for work in WORK {
            for (headers, code) in [
                // What a browser says of a form, a picture or a script of another site.
                ("Sec-Fetch-Site: cross-site\r\n", "cross_site"),
                (
                    "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
                    "cross_site",
                ),
                (
                    "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:1\r\n",
                    "cross_site",
                ),
                (
                    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
                    "cross_site",
                ),
                // Browsers that do not say it.
                ("Origin: https://evil.example\r\n", "bad_origin"),
                ("Origin: null\r\n", "bad_origin"),
                ("Origin: http://localhost:1\r\n", "bad_origin"),
                (
                    "Origin: http://localhost\r\nOrigin: https://evil.example\r\n",
                    "bad_origin",
                ),
                // A name of a stranger that points here.
                (
                    "Host: evil.example\r\nSec-Fetch-Site: same-origin\r\nOrigin: http://evil.example\r\n",
                    "unknown_host",
                ),
                ("Host: evil.example\r\n", "unknown_host"),
            ] {
                assert_eq!(
                    refused(*operator, work, headers),
                    (403, code.to_owned()),
                    "{work:?} {headers}"
                );
            }
        }
        // A form has none of the types that count, and there is no permission for scripts.
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonx",
            "",
        ] {
            let headers = format!("Content-Type: {kind}\r\n");
            assert_eq!(
                refused(*operator, WORK[2], &headers),
                (415, "bad_content_type".to_owned()),
                "{kind}"
            );
        }
        for (_, path, _) in WORK {
            let asked = "Host: localhost\r\nOrigin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n";
            let response = ask(*operator, ("OPTIONS", path, ""), asked);
            assert_eq!(response.status, 405, "{path}");
            assert_eq!(response.header("access-control-allow-methods"), None);
        }
        let seq = server.send("a", "x");
        assert_eq!(client.message()["seq"], seq);
    }
    // The page of the server itself, in a browser that says the site and in one that does not.
    let (server, _, operator) = &servers[0];
    let _client = Client::connect(server, "");
    for headers in [
        format!("Host: {operator}\r\nOrigin: http://{operator}\r\n"),
        format!("Host: {operator}\r\nOrigin: http://{operator}\r\nSec-Fetch-Site: same-origin\r\n"),
        // A proxy in front may have left the port out.
        format!("Host: localhost\r\nOrigin: http://{operator}\r\nSec-Fetch-Site: same-origin\r\n"),
        "Sec-Fetch-Site: none\r\n".to_owned(),
    ] {
        let response = ask(*operator, WORK[2], &headers);
        assert_eq!(response.status, 200, "{headers}");
        // It needs no permission to read the answer, and others get none.
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
}

#[test]
fn wrong_methods_ids_queries_and_bodies_are_named() {
    let (server, _, operator) = with(|settings| settings.max_message_bytes = 4096);
    let mut client = Client::connect(&server, "?topic=a");
    for (path, allowed) in [
        ("/connections", "GET"),
        ("/connections/1", "DELETE"),
        ("/connections/", "DELETE"),
        ("/cast", "POST"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            if method == allowed || method == "HEAD" {
                continue;
            }
            let response = ask(operator, (method, path, ""), "");
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some(allowed)),
                "{method} {path}"
            );
        }
    }
    for id in [
        "",
        "x",
        "-1",
        "+1",
        "1.0",
        "0x1",
        "18446744073709551616",
        "1/2",
        "%31",
        " 1",
    ] {
        let target = format!("/connections/{}", id.replace(' ', "%20"));
        assert_eq!(
            refused(operator, ("DELETE", &target, ""), ""),
            (400, "bad_connection".to_owned()),
            "{id}"
        );
    }
    for id in ["0", "18446744073709551615", "999999999"] {
        let target = format!("/connections/{id}");
        assert_eq!(
            refused(operator, ("DELETE", &target, ""), ""),
            (404, "no_connection".to_owned())
        );
    }
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=1001", "bad_limit"),
        ("limit=x", "bad_limit"),
        ("cursor=-1", "bad_cursor"),
        ("cursor=", "bad_cursor"),
    ] {
        let target = format!("/connections?{query}");
        assert_eq!(
            refused(operator, ("GET", &target, ""), ""),
            (400, code.to_owned()),
            "{query}"
        );
    }
    assert_eq!(ask(operator, ("GET", "/connectionsx", ""), "").status, 404);
    for body in [
        "",
        "x",
        "[1]",
        "\"text\"",
        "1",
        "{",
        "{\"a\":}",
        "{} {}",
        "\u{feff}{}",
    ] {
        assert_eq!(
            refused(operator, ("POST", "/cast", body), ""),
            (400, "bad_message".to_owned()),
            "{body}"
        );
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    assert_eq!(refused(operator, ("POST", "/cast", &deep), "").0, 400);
    // What is too large is refused by its head, and in parts as soon as it is too large.
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(4096));
    assert_eq!(
        refused(operator, ("POST", "/cast", &large), ""),
        (413, "too_large".to_owned())
    );
    let mut raw = Raw::connect(operator);
    let head = "POST /cast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    raw.write(format!("{head}Content-Length: 99999999999999\r\n\r\n"));
    assert_eq!(raw.response().status, 413);
    let mut raw = Raw::connect(operator);
    raw.write(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n1001\r\n{}\r\n",
        "x".repeat(4097)
    ));
    assert_eq!(raw.response().status, 413);
    let seq = server.send("a", "x");
    assert_eq!(client.message()["seq"], seq);
    assert_eq!(server.stat("panics"), 0);
}

#[test]
fn a_body_that_never_ends_costs_no_more_than_its_time() {
    let (server, _, operator) =
        with(|settings| settings.handshake_timeout = Duration::from_millis(200));
    let mut raw = Raw::connect(operator);
    raw.write("POST /cast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
    raw.end();
    assert_eq!(server.stat("publications"), 0);
}

#[test]
fn they_are_switched_off_like_other_endpoints() {
    let (server, public, operator) = with(|settings| {
        settings.endpoints = vec!["page".into(), "info".into()];
    });
    let _client = Client::connect(&server, "?topic=a");
    for work in WORK {
        for door in [public, operator] {
            assert_eq!(
                refused(door, work, ""),
                (404, "not_found".to_owned()),
                "{work:?}"
            );
        }
    }
    let (_server, _, operator) = with(|settings| settings.endpoints = vec!["connections".into()]);
    assert_eq!(ask(operator, WORK[0], "").status, 200);
    assert_eq!(refused(operator, WORK[2], "").0, 404);
}
