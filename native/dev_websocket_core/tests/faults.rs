//! Panics inside the engine, made on purpose: each ends what it happened in, is counted, and the server goes on.
//!
//! Needs the feature `faults`: `cargo test -p dev_websocket_core --features faults --test faults`.
#![cfg(test)]

mod support;

use fail::FailScenario;
use serde_json::json;
use support::{Client, Raw, TestServer, upgrade_request};

/// A server with two shards, and four clients of the topic `a`, two on each.
fn two_shards() -> (TestServer, Vec<Raw>) {
    let server = TestServer::with(|settings| settings.shards = 2);
    let clients = (0..4).map(|_| subscriber(&server)).collect();
    (server, clients)
}

fn subscriber(server: &TestServer) -> Raw {
    let mut raw = Raw::upgraded(server, "?topic=a,never-published");
    assert_eq!(raw.json()["type"], "connection_established");
    raw
}

/// Makes a place panic the next times that it is reached.
fn panics(place: &str, times: u32) {
    fail::cfg(place, &format!("{times}*panic(on purpose)")).unwrap();
}

/// Everything works: both shards have nobody left, and new clients get what is published.
fn is_well(server: &TestServer) {
    server.until_stat("connections", 0);
    support::until("their topics to be gone", || {
        !server.info().topics.contains(&"never-published".to_owned())
    });
    let mut clients: Vec<_> = (0..4).map(|_| subscriber(server)).collect();
    let seq = server.send("a", "well");
    for client in &mut clients {
        assert_eq!(client.json()["seq"], seq);
    }
    drop(clients);
    server.until_stat("connections", 0);
    server.until_delivered();
    let sum = server.stat("deliveries")
        + server.stat("dropped_slow")
        + server.stat("dropped_disconnected");
    assert_eq!(server.stat("deliveries_expected"), sum);
}

/// The data of the next frame, or the code with which the connection is closed.
fn data_or_code(client: &mut Raw) -> Result<String, u16> {
    let (first, payload) = client.frame();
    if first == support::CLOSE {
        client.try_write(support::frame(support::CLOSE, &payload[..2]));
        return Err(u16::from_be_bytes([payload[0], payload[1]]));
    }
    let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    Ok(json["data"]["data"].as_str().unwrap().to_owned())
}

/// How many clients saw the close code 1011, and how many the message.
fn told_and_served(clients: &mut [Raw], data: &str) -> (usize, usize) {
    let seen: Vec<_> = clients.iter_mut().map(data_or_code).collect();
    let count = |wanted: Result<String, u16>| seen.iter().filter(|seen| **seen == wanted).count();
    (count(Err(1011)), count(Ok(data.to_owned())))
}

#[test]
fn a_fault_of_matching_closes_the_connections_of_its_shard_with_1011_and_no_others() {
    let _scenario = FailScenario::setup();
    let (server, mut clients) = two_shards();
    panics("shard::take", 1);
    server.send("a", "x");
    let seen: Vec<_> = clients.iter_mut().map(data_or_code).collect();
    let told = seen.iter().filter(|seen| **seen == Err(1011)).count();
    let served = seen.iter().filter(|seen| **seen == Ok("x".into())).count();
    assert_eq!((told, served), (2, 2), "{seen:?}");
    // Those of the other shard go on, while nobody of the first one is left.
    server.until_stat("connections", 2);
    server.send("a", "y");
    for (client, seen) in clients.iter_mut().zip(&seen) {
        if seen.is_ok() {
            assert_eq!(data_or_code(client), Ok("y".into()));
        }
    }
    assert_eq!(server.counters.panics.get(), 1);
    drop(clients);
    is_well(&server);
}

/// A publication whose matching fails is skipped for all who come back for it, and they are told.
#[test]
fn a_publication_that_matching_failed_at_is_a_gap_for_those_who_come_back() {
    let _scenario = FailScenario::setup();
    let server = TestServer::with(|settings| settings.shards = 1);
    let mut before = subscriber(&server);
    server.send("a", "before");
    assert_eq!(data_or_code(&mut before), Ok("before".into()));
    panics("shard::take", 1);
    server.send("a", "poison");
    assert_eq!(data_or_code(&mut before), Err(1011));
    server.send("a", "after");
    for _ in 0..3 {
        let mut client = Client::connect(&server, "?topic=a&since=1");
        let gap = client.next();
        assert_eq!(
            gap,
            json!({"type": "gap", "reason": "fault", "dropped": 1, "after": 1, "next": 3})
        );
        assert_eq!(client.message()["seq"], 3);
        assert_eq!(client.next()["type"], "live");
        // The newest are without it, and nobody asked for its number.
        let mut client = Client::connect(&server, "?topic=a&last=2");
        assert_eq!(client.message()["seq"], 1);
        assert_eq!(client.message()["seq"], 3);
        assert_eq!(client.next()["type"], "live");
        let mut raw = Raw::upgraded(&server, "?topic=a&last=2&format=raw");
        assert!(raw.text().contains("before") && raw.text().contains("after"));
    }
    assert_eq!(server.counters.replays_skipped.get(), 3);
    assert_eq!(server.counters.panics.get(), 1);
}

/// One that fails for a client's own subscriptions alone is a gap for that client alone.
#[test]
fn a_replay_that_panics_goes_on_behind_the_publication_and_harms_no_other() {
    let _scenario = FailScenario::setup();
    let (server, mut clients) = two_shards();
    for data in ["1", "2", "3"] {
        server.send("a", data);
        assert_eq!(told_and_served(&mut clients, data), (0, 4));
    }
    panics("replay::match", 1);
    let mut client = Client::connect(&server, "?topic=a&since=0");
    let gap = client.next();
    assert_eq!((&gap["reason"], &gap["next"]), (&json!("fault"), &json!(2)));
    assert_eq!(client.message()["seq"], 2);
    assert_eq!(client.message()["seq"], 3);
    assert_eq!(client.next()["type"], "live");
    let mut next = Client::connect(&server, "?topic=a&since=0");
    assert_eq!(next.message()["seq"], 1);
    server.send("a", "4");
    assert_eq!(told_and_served(&mut clients, "4"), (0, 4));
    assert_eq!(server.counters.panics.get(), 1);
    drop((client, next, clients));
    is_well(&server);
}

#[test]
fn a_fault_in_the_turn_of_a_client_closes_it_with_1011_and_no_other() {
    for place in ["shard::serve", "client::deliver"] {
        let _scenario = FailScenario::setup();
        let (server, mut clients) = two_shards();
        panics(place, 1);
        server.send("a", "x");
        assert_eq!(told_and_served(&mut clients, "x"), (1, 3), "{place}");
        server.until_stat("connections", 3);
        assert_eq!(server.counters.panics.get(), 1);
        // Each of the others, one after the other, on both shards.
        drop(clients);
        server.until_stat("connections", 0);
        let mut clients: Vec<_> = (0..6).map(|_| subscriber(&server)).collect();
        panics(place, 6);
        server.send("a", "y");
        assert_eq!(told_and_served(&mut clients, "y"), (6, 0), "{place}");
        server.until_stat("connections", 0);
        assert_eq!(server.counters.panics.get(), 7);
        is_well(&server);
    }
}

#[test]
fn a_request_that_a_shard_panics_at_ends_its_connection_alone() {
    let _scenario = FailScenario::setup();
    let (server, mut clients) = two_shards();
    panics("shard::command", 1);
    clients[0].send(support::TEXT, br#"{"type":"ping"}"#);
    assert_eq!(clients.remove(0).closed().1.0, 1011);
    server.until_stat("connections", 3);
    server.send("a", "x");
    assert_eq!(told_and_served(&mut clients, "x"), (0, 3));
    assert_eq!(server.counters.panics.get(), 1);
    drop(clients);
    is_well(&server);
}

#[test]
fn a_fault_while_a_connection_is_opened_ends_it_alone_in_every_format() {
    for format in ["json", "raw", "events"] {
        let _scenario = FailScenario::setup();
        let (server, mut clients) = two_shards();
        panics("shard::command", 1);
        if format == "events" {
            let mut events = Raw::events(&server, "/events?topic=a", "");
            assert_eq!(events.event().0["code"], 1011);
        } else {
            let query = format!("?topic=a&format={format}");
            assert_eq!(Raw::upgraded(&server, &query).closed().1.0, 1011);
        }
        server.until_stat("connections", 4);
        server.send("a", "x");
        assert_eq!(told_and_served(&mut clients, "x"), (0, 4), "{format}");
        assert_eq!(server.counters.panics.get(), 1);
        drop(clients);
        is_well(&server);
    }
}

#[test]
fn a_shard_that_panics_again_and_again_cuts_its_connections_off() {
    for place in ["shard::command", "shard::recovery"] {
        let _scenario = FailScenario::setup();
        let (server, clients) = two_shards();
        panics("shard::take", 2);
        panics(place, 20);
        server.send("a", "x");
        for client in clients {
            client.drain();
        }
        until_faults(&server, 4);
        fail::remove(place);
        is_well(&server);
    }
}

fn until_faults(server: &TestServer, count: u64) {
    support::until("panics", || server.counters.panics.get() >= count);
}

#[test]
fn a_fault_of_a_connection_closes_it_with_1011_and_no_other() {
    let _scenario = FailScenario::setup();
    let (server, mut clients) = two_shards();
    panics("connection::receive", 1);
    clients[1].send(support::TEXT, br#"{"type":"ping"}"#);
    assert_eq!(clients.remove(1).closed().1.0, 1011);
    server.until_stat("connections", 3);
    server.send("a", "x");
    for client in &mut clients {
        assert_eq!(data_or_code(client), Ok("x".into()));
    }
    assert_eq!(server.counters.panics.get(), 1);
    drop(clients);
    is_well(&server);
}

#[test]
fn a_fault_at_a_request_or_while_accepting_costs_that_connection_alone() {
    for place in ["http::answer", "listener::accept"] {
        let _scenario = FailScenario::setup();
        let server = TestServer::with(|settings| settings.shards = 2);
        let mut healthy = subscriber(&server);
        panics(place, 1);
        let mut unlucky = Raw::connect(server.address());
        unlucky.try_write(upgrade_request("?topic=a"));
        unlucky.drain();
        until_faults(&server, 1);
        server.until_stat("handshakes", 0);
        Client::connect(&server, "?topic=a");
        server.send("a", "x");
        assert_eq!(data_or_code(&mut healthy), Ok("x".into()));
        drop(healthy);
        is_well(&server);
    }
}

#[test]
fn a_server_with_a_fault_behind_it_stops_as_ever() {
    let _scenario = FailScenario::setup();
    let (server, mut clients) = two_shards();
    panics("shard::serve", 1);
    server.send("a", "x");
    let codes: Vec<_> = std::thread::scope(|scope| {
        let closing: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(|| {
                    let first = data_or_code(client);
                    first.and_then(|_| data_or_code(client)).unwrap_err()
                })
            })
            .collect();
        until_faults(&server, 1);
        server.until_delivered();
        server.stop(dev_websocket_core::Disconnect::Stopping);
        closing
            .into_iter()
            .map(|code| code.join().unwrap())
            .collect()
    });
    assert_eq!(
        codes.iter().filter(|code| **code == 1011).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|code| **code == 1001).count(),
        3,
        "{codes:?}"
    );
}
