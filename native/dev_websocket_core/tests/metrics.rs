//! Tests of the data for operators: metrics, counts of closed connections, and the list of connections.
#![cfg(test)]

mod support;

use std::collections::HashMap;
use std::sync::mpsc::channel;

use dev_websocket_core::{ConnectionInfo, SendError};
use serde_json::json;
use support::{Client, PATIENCE, Raw, TEXT, TestServer, upgrade_request};

/// Returns the metrics by name with labels, and the lines that describe them.
fn metrics(server: &TestServer) -> (HashMap<String, f64>, Vec<String>) {
    let response = Raw::ask(
        server,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0,*/*\r\n\r\n",
    );
    assert_eq!(response.status, 200);
    let content = response.header("content-type").unwrap();
    assert!(
        content.starts_with("application/openmetrics-text"),
        "{content}"
    );
    let text = response.text();
    assert!(text.ends_with("# EOF\n"));
    let (comments, samples): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with('#'));
    let samples = samples.into_iter().map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    (
        samples.collect(),
        comments.into_iter().map(str::to_owned).collect(),
    )
}

#[test]
fn metrics_are_the_numbers_of_stats() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a,b");
    let _raw = Raw::upgraded(&server, "?topic=a&format=raw&match=x");
    let mut events = Raw::events(&server, "/events?topic=a", "");
    events.event();
    for _ in 0..100 {
        server.send("a", "x");
    }
    server.send("c", "nobody");
    for _ in 0..100 {
        client.message();
        events.event();
    }
    server.until_stat("deliveries", 300);
    server.until_delivered();
    assert_eq!(Raw::ask(&server, upgrade_request("?format=x")).status, 400);
    let (samples, comments) = metrics(&server);
    let value = |name: &str| samples[&format!("dev_websocket_{name}")];
    for (name, expected) in [
        ("publications_total", 101.0),
        ("deliveries_total", 300.0),
        ("deliveries_expected_total", 300.0),
        ("connections{format=\"json\"}", 1.0),
        ("connections{format=\"raw\"}", 1.0),
        ("connections{format=\"events\"}", 1.0),
        ("subscriptions", 5.0),
        ("regexes", 1.0),
        ("topics", 3.0),
        ("last_sequence", 101.0),
        ("requests_refused_total{code=\"bad_format\"}", 1.0),
        ("limit{setting=\"max_connections\"}", 100_000.0),
        ("limit{setting=\"send_buffer_bytes\"}", 1_048_576.0),
        ("publish_queued_bytes", 0.0),
        ("messages_dropped_total{reason=\"overload\"}", 0.0),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let build = format!(
        "build_info{{version=\"{}\",protocol=\"1\",otp=\"\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(&build), 1.0);
    assert!(value("start_time_seconds") > 1.7e9);
    assert_eq!(value("sent_bytes_total") as u64, server.stat("bytes_sent"));
    // Every hundredth publication was in some batch, whose publications are all counted.
    let latency = value("cast_to_socket_seconds_count");
    assert!((100.0..=101.0).contains(&latency), "{latency}");
    assert_eq!(value("cast_to_socket_seconds_bucket{le=\"+Inf\"}"), latency);
    assert!(value("cast_to_socket_seconds_sum") > 0.0);
    assert!(value("encode_seconds_count") >= 6.0);
    assert!((1.0..=101.0).contains(&value("shard_batch_publications_count")));
    // Each metric has a help and a type, and no name occurs twice.
    let types: Vec<_> = comments
        .iter()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let mut names = types.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), types.len());
    assert_eq!(comments.len(), 2 * types.len() + 1);
}

#[test]
fn a_scrape_without_open_metrics_gets_the_older_text() {
    let server = TestServer::start();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let response = Raw::ask(&server, request);
    let content = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(response.header("content-type"), Some(content));
    let text = response.text();
    // In the older format the family has the name of its samples.
    for part in [
        "# HELP dev_websocket_publications_total Messages published\n",
        "# TYPE dev_websocket_publications_total counter\ndev_websocket_publications_total 0\n",
        "# TYPE dev_websocket_subscriptions gauge\ndev_websocket_subscriptions 0\n",
        "# TYPE dev_websocket_encode_seconds histogram\n",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("EOF") && text.ends_with('\n'));
}

#[test]
fn each_count_of_stats_is_a_metric() {
    let server = TestServer::start();
    let source = include_str!("../src/shared/exposition/table.rs");
    // These are sums of others, or have a histogram.
    let others = [
        "connections",
        "connections_closed",
        "publications_without_topic",
        // This one is in `about`, by code.
        "requests_refused",
    ];
    for (name, _) in server.stats() {
        let is_measured = name.ends_with("_ns");
        let is_there = source.contains(&format!("(\"{name}\", "));
        assert!(
            is_there || is_measured || others.contains(&name),
            "{name} is no metric"
        );
    }
}

#[test]
fn connections_are_counted_by_why_they_ended() {
    let server = TestServer::with(|settings| {
        settings.max_inbound_bytes = 200;
        settings.max_inbound_rate = 3;
    });
    Client::connect(&server, "").close(1000, "");
    Raw::upgraded(&server, "").reset();
    let ended_by = |bytes: Vec<u8>| {
        let mut raw = Raw::upgraded(&server, "");
        raw.write(bytes);
        raw.closed().1.0
    };
    let ping = support::frame(support::PING, b"");
    assert_eq!(ended_by(support::frame(TEXT, &[b' '; 201])), 1009);
    assert_eq!(ended_by(ping.repeat(4)), 1008);
    assert_eq!(ended_by(vec![0x83, 0x80, 0, 0, 0, 0]), 1002);
    assert_eq!(ended_by(support::frame(TEXT, b"\xff")), 1007);
    server.until_stat("connections", 0);
    let closed: Vec<_> = server
        .stats()
        .into_iter()
        .filter(|(name, count)| name.starts_with("closed_") && *count > 0)
        .collect();
    let expected = [
        "by_client",
        "gone",
        "rate",
        "too_large",
        "protocol",
        "invalid_text",
    ];
    assert_eq!(
        closed,
        expected
            .map(|reason| (format!("closed_{reason}"), 1))
            .map(|(name, count)| {
                let known = server
                    .stats()
                    .into_iter()
                    .find(|(known, _)| *known == name)
                    .unwrap()
                    .0;
                (known, count)
            })
    );
    assert_eq!(server.stat("connections_closed"), 6);
}

#[test]
fn connections_are_listed_in_pages() {
    let server = TestServer::start();
    assert_eq!(page(&server, 0, 10), Err(SendError::NoConnection));
    let queries = [
        "?topic=a",
        "?topic=b,c*&match=d",
        "?format=raw&topic=e",
        "",
        "?topic=*",
    ];
    let _clients: Vec<_> = queries.map(|query| Raw::upgraded(&server, query)).into();
    let _events = Raw::events(&server, "/events?topic=f", "");
    server.until_stat("connections", 6);
    support::until("all of them", || {
        page(&server, 0, 100).is_ok_and(|all| all.len() == 6)
    });
    let all = page(&server, 0, 100).unwrap();
    let topics: Vec<_> = all.iter().map(|known| known.topics.join(" ")).collect();
    assert_eq!(topics, ["a", "b c* d", "e", "", "*", "f"]);
    let formats: Vec<_> = all.iter().map(|known| known.format).collect();
    assert_eq!(formats, ["json", "json", "raw", "json", "json", "events"]);
    assert!(all.is_sorted_by(|one, next| one.connection < next.connection));
    assert!(
        all.iter()
            .all(|known| known.peer.ip().is_loopback() && known.age < 600_000)
    );
    let mut cursor = 0;
    let mut paged = Vec::new();
    while let Ok(page) = page(&server, cursor, 4) {
        assert!(page.len() <= 4);
        cursor = page.last().unwrap().connection;
        paged.extend(page);
    }
    let numbers = |found: &[ConnectionInfo]| -> Vec<u64> {
        found.iter().map(|known| known.connection).collect()
    };
    assert_eq!(numbers(&paged), numbers(&all));
}

#[test]
fn pages_are_written_on_a_thread_that_serves_no_publications() {
    let server = TestServer::start();
    let clients: Vec<_> = (0..130)
        .map(|_| Client::connect(&server, "?topic=a,b*"))
        .collect();
    support::until("all of them", || {
        page(&server, 0, 1000).is_ok_and(|all| all.len() == clients.len())
    });
    let numbers = page(&server, 0, 1000).unwrap();
    let (sender, answer) = channel();
    let name = move || {
        let thread = std::thread::current();
        sender.send(thread.name().map(str::to_owned)).unwrap();
    };
    let on_page = name.clone();
    server.connections(0, 1000, move |_| on_page()).unwrap();
    let of_one = numbers[0].connection;
    server.connection(of_one, move |_| name()).unwrap();
    for _ in 0..2 {
        let thread = answer.recv_timeout(PATIENCE).unwrap();
        assert_eq!(thread.as_deref(), Some("ws-io"));
    }
}

#[test]
fn a_server_that_stops_still_answers_who_asks_for_connections() {
    let server = TestServer::start();
    let silent: Vec<_> = (0..100).map(|_| Raw::upgraded(&server, "")).collect();
    server.until_stat("connections", 100);
    support::until("all of them", || {
        page(&server, 0, 1000).is_ok_and(|all| all.len() == 100)
    });
    let (sender, answer) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.shutdown(
                dev_websocket_core::Disconnect::Stopping,
                std::time::Duration::ZERO,
            )
        });
        // Each call gets one answer, or is refused at once.
        for _ in 0..100 {
            let sender = sender.clone();
            let asked = server.connections(0, 1000, move |found| {
                sender.send(Some(found.len())).unwrap()
            });
            if asked.is_err() {
                break;
            }
            let found = answer.recv_timeout(PATIENCE).unwrap();
            assert!(found.is_some_and(|count| count <= 100));
        }
    });
    drop(silent);
}

#[test]
fn a_slow_connection_is_seen_as_one() {
    let server = TestServer::with(|settings| settings.send_buffer_bytes = 64 * 1024);
    let mut slow = Raw::small(&server, "?topic=a");
    slow.json();
    while server.counters.dropped_slow.get() < 50 {
        server.send("a", &"x".repeat(10_000));
        server.until_delivered();
    }
    let known = page(&server, 0, 1).unwrap().remove(0);
    assert_eq!(known.dropped, server.counters.dropped_slow.get());
    assert!(
        (1..=64 * 1024).contains(&known.send_buffer_bytes),
        "{}",
        known.send_buffer_bytes
    );
    assert!(
        (2..=10).contains(&known.send_buffer_frames),
        "{}",
        known.send_buffer_frames
    );
    assert_eq!(server.stat("send_buffer_bytes"), known.send_buffer_bytes);
    while slow.json()["seq"] != server.stat("seq") {}
    server.until_stat("send_buffer_bytes", 0);
    assert_eq!(page(&server, 0, 1).unwrap().remove(0).send_buffer_frames, 0);
}

#[test]
fn an_operator_can_end_a_connection() {
    let server = TestServer::start();
    let (one, mut other) = (
        Raw::upgraded(&server, "?topic=a"),
        Client::connect(&server, "?topic=a"),
    );
    support::until("both", || {
        page(&server, 0, 9).is_ok_and(|all| all.len() == 2)
    });
    let number = page(&server, 0, 1).unwrap()[0].connection;
    server.disconnect(number).unwrap();
    assert_eq!(
        one.closed().1,
        (1008, "disconnected by the operator".into())
    );
    server.until_stat("connections", 1);
    server.until_stat("closed_operator", 1);
    assert_eq!(server.disconnect(number), Err(SendError::NoConnection));
    server.send("a", "x");
    assert_eq!(other.message()["data"], json!({"topic": "a", "data": "x"}));
}

fn page(server: &TestServer, after: u64, limit: usize) -> Result<Vec<ConnectionInfo>, SendError> {
    let (sender, answer) = channel();
    server.connections(after, limit, move |found| sender.send(found).unwrap())?;
    Ok(answer.recv_timeout(PATIENCE).unwrap())
}
