//! Tests of a server from start to end: shutdown, new settings while it runs, and admission.
#![cfg(test)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dev_websocket_core::{Counters, Disconnect, Reconfigured, Server, Settings, StartError};
use serde_json::json;

use support::{CLOSE, Client, PATIENCE, Raw, TEXT, TestServer, seqs, settings, upgrade_request};

/// An address of this machine that other tests do not use.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 8, 7, 35);

fn address(server: &Server) -> SocketAddr {
    let uri = server.info().uri;
    let address = uri.strip_prefix("ws://").unwrap();
    address.strip_suffix("/ws").unwrap().parse().unwrap()
}

#[test]
fn shutdown_tells_every_client_why() {
    for (reason, code, text) in [
        (Disconnect::Stopping, 1001, "server stopping"),
        (Disconnect::Restarting, 1012, "server restarting"),
    ] {
        let server = TestServer::with(|settings| settings.shards = 2);
        let clients: Vec<_> = (0..4)
            .map(|_| Client::connect(&server, "?topic=a"))
            .collect();
        let mut raws: Vec<_> = (0..4)
            .map(|_| Raw::upgraded(&server, "?topic=a&format=raw"))
            .collect();
        raws.iter_mut().for_each(Raw::settle);
        // Earlier publications arrive before the close frame.
        server.send("a", "last words");
        server.until_delivered();
        thread::scope(|scope| {
            scope.spawn(|| server.stop(reason));
            for client in clients {
                scope.spawn(move || {
                    let (frames, close) = client.closed();
                    assert_eq!(close, (code, text.to_owned()));
                    assert_eq!(seqs(&frames), [1]);
                });
            }
            for raw in raws {
                scope.spawn(move || {
                    let (texts, close) = raw.closed();
                    assert_eq!(close, (code, text.to_owned()));
                    assert_eq!(texts.len(), 1);
                });
            }
        });
        assert_eq!(server.stat("connections"), 0);
        assert_eq!(server.counters.connections_closed.get(), 8);
    }
}

#[test]
fn clients_that_answer_nothing_do_not_keep_a_server_from_stopping() {
    let server = TestServer::start();
    let mut silent = Raw::upgraded(&server, "?topic=a");
    silent.json();
    let mut unfinished = Raw::connect(server.address());
    unfinished.write("GET /ws HTTP/1.1\r\n");
    let idle = Raw::connect(server.address());
    server.shutdown(Disconnect::Stopping, Duration::from_millis(200));
    // The close frame was sent all the same.
    assert_eq!(silent.closed().1.0, 1001);
    unfinished.drain();
    idle.drain();
    server.until_stat("connections", 0);
}

#[test]
fn a_second_shutdown_does_nothing() {
    let server = TestServer::start();
    let client = Client::connect(&server, "");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| server.stop(Disconnect::Stopping));
        }
        assert_eq!(client.closed().1.0, 1001);
    });
    server.stop(Disconnect::Restarting);
    assert_eq!(
        server.reconfigure(settings()).unwrap(),
        Reconfigured::NeedsRestart
    );
    // A stopped server delivers no publications; at most it keeps them.
    let _ = server.publish(&support::message("a", "x"));
    assert_eq!(server.counters.deliveries.get(), 0);
}

#[test]
fn the_port_is_free_at_once_for_the_next_server() {
    let counters = Arc::new(Counters::default());
    let mut settings = Settings {
        host: IpAddr::V4(ELSEWHERE),
        ..settings()
    };
    for round in 0..40 {
        let server = Server::start(settings.clone(), counters.clone()).unwrap();
        let at = address(&server);
        assert_eq!(at.ip(), ELSEWHERE);
        assert_eq!(
            at.port(),
            if round == 0 {
                at.port()
            } else {
                settings.port as u16
            }
        );
        settings.port = u64::from(at.port());
        // Connections of the old server, open and closed, do not hold the port.
        let mut clients: Vec<_> = (0..round % 4).map(|_| Raw::connect(at)).collect();
        for client in &mut clients {
            client.write(upgrade_request(""));
            assert_eq!(client.response().status, 101);
        }
        clients.pop();
        let clients: Vec<_> = clients
            .into_iter()
            .map(|client| thread::spawn(move || client.closed().1.0))
            .collect();
        server.shutdown(Disconnect::Restarting, PATIENCE);
        for client in clients {
            assert_eq!(client.join().unwrap(), 1012);
        }
    }
}

#[test]
fn servers_stand_side_by_side() {
    let servers = [TestServer::start(), TestServer::start()];
    let mut clients = servers
        .each_ref()
        .map(|server| Client::connect(server, "?topic=a"));
    assert_ne!(servers[0].address(), servers[1].address());
    for (data, server) in ["one", "two"].iter().zip(&servers) {
        server.send("a", data);
    }
    for (data, client) in ["one", "two"].iter().zip(&mut clients) {
        assert_eq!(client.message()["data"]["data"], *data);
    }
    let [first, second] = servers;
    let [client_of_first, mut client_of_second] = clients;
    drop(client_of_first);
    first.stop(Disconnect::Stopping);
    let seq = second.send("a", "still here");
    assert_eq!(seqs(&client_of_second.up_to(seq)), [seq]);
}

#[test]
fn a_taken_port_is_an_error_that_names_the_address() {
    let taken = TcpListener::bind((ELSEWHERE, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let settings = Settings {
        host: at.ip(),
        port: u64::from(at.port()),
        ..settings()
    };
    let error = Server::start(settings.clone(), Arc::default()).unwrap_err();
    assert!(
        matches!(error, StartError::Listen { address, .. } if address == at),
        "{error:?}"
    );
    assert_eq!(error.to_string(), format!("cannot listen on {at}"));
    // This address belongs to no interface of the machine.
    let elsewhere = Settings {
        host: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ..settings.clone()
    };
    let error = Server::start(elsewhere, Arc::default()).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    drop(taken);
    let server = Server::start(settings, Arc::default()).unwrap();
    server.shutdown(Disconnect::Stopping, PATIENCE);
}

#[test]
fn a_server_moves_to_a_new_address_and_back_while_its_connections_live_on() {
    let here = Settings {
        host: IpAddr::V4(ELSEWHERE),
        ..settings()
    };
    let server = TestServer::with(|settings| *settings = here.clone());
    let old = server.address();
    let mut client = Client::connect(&server, "?topic=a");
    assert_eq!(
        server.reconfigure(settings()).unwrap(),
        Reconfigured::Applied
    );
    let new = server.address();
    assert_eq!(new.ip(), Ipv4Addr::LOCALHOST);
    assert!(TcpStream::connect(old).is_err());
    // New connections belong to the same server.
    let mut newcomer = Client::connect(&server, "?topic=a");
    assert_eq!(newcomer.established["epoch"], client.established["epoch"]);
    let seq = server.send("a", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
    assert_eq!(seqs(&newcomer.up_to(seq)), [seq]);
    // Old connections also accept requests.
    client.request(&json!({"type": "subscribe", "topics": ["b"]}));
    let back = Settings {
        port: u64::from(old.port()),
        ..here
    };
    assert_eq!(server.reconfigure(back).unwrap(), Reconfigured::Applied);
    assert_eq!(server.address(), old);
    assert!(TcpStream::connect(new).is_err());
    let seq = server.send("b", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
    assert_eq!(seqs(&newcomer.up_to(seq)), Vec::<u64>::new());
}

#[test]
fn a_server_moves_between_all_interfaces_and_one_of_them_on_the_same_port() {
    let anywhere = Settings {
        host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        public_host: Ipv4Addr::LOCALHOST.to_string(),
        ..settings()
    };
    let server = TestServer::with(|settings| *settings = anywhere.clone());
    let port = server.address().port();
    let mut client = Client::connect(&server, "?topic=a");
    for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, ELSEWHERE] {
        let wanted = Settings {
            host: IpAddr::V4(host),
            port: u64::from(port),
            ..anywhere.clone()
        };
        assert_eq!(server.reconfigure(wanted).unwrap(), Reconfigured::Applied);
        for place in [Ipv4Addr::LOCALHOST, ELSEWHERE] {
            let is_open = TcpStream::connect((place, port)).is_ok();
            assert_eq!(is_open, host.is_unspecified() || host == place);
        }
    }
    let seq = server.send("a", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
}

#[test]
fn an_address_of_the_same_port_that_cannot_be_had_leaves_everything_as_it_was() {
    let server = TestServer::start();
    let before = (server.info(), server.settings());
    // This address is reserved for documentation (RFC 5737), so no interface has it.
    let wanted = Settings {
        host: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        port: u64::from(server.address().port()),
        ..settings()
    };
    assert!(matches!(
        server.reconfigure(wanted),
        Err(StartError::Listen { .. })
    ));
    assert_eq!((server.info(), server.settings()), before);
    let mut client = Client::connect(&server, "?topic=a");
    let seq = server.send("a", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
}

#[test]
fn a_new_port_that_is_taken_leaves_everything_as_it_was() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a");
    let before = (server.info(), server.settings());
    let taken = TcpListener::bind((ELSEWHERE, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let wanted = Settings {
        host: at.ip(),
        port: u64::from(at.port()),
        max_topics_per_connection: 1,
        ..settings()
    };
    let error = server.reconfigure(wanted).unwrap_err();
    assert!(matches!(error, StartError::Listen { address, .. } if address == at));
    assert_eq!((server.info(), server.settings()), before);
    let seq = server.send("a", "x");
    assert_eq!(seqs(&client.up_to(seq)), [seq]);
    let newcomer = Client::connect(&server, "?topic=a,b");
    assert_eq!(
        newcomer.established["limits"]["max_topics_per_connection"],
        128
    );
}

#[test]
fn new_limits_hold_for_new_connections() {
    let server = TestServer::start();
    let mut old = Raw::upgraded(&server, "");
    old.json();
    let changed = Settings {
        max_topics_per_connection: 2,
        max_inbound_bytes: 200,
        max_inbound_rate: 5,
        max_message_bytes: 100,
        ..settings()
    };
    assert_eq!(
        server.reconfigure(changed.clone()).unwrap(),
        Reconfigured::Applied
    );
    assert_eq!(*server.settings(), changed);
    let new = Client::connect(&server, "");
    let limits = &new.established["limits"];
    assert_eq!(limits["max_topics_per_connection"], 2);
    assert_eq!(limits["max_inbound_bytes"], 200);
    assert_eq!(limits["max_inbound_rate"], 5);
    assert_eq!(limits["max_message_bytes"], 100);
    let refused = Raw::ask(&server, upgrade_request("?topic=a,b,c"));
    assert_eq!(refused.refusal().0, "too_many_topics");
    // The limits that an old connection was told stay in force for it.
    let id = "i".repeat(250);
    let ping = json!({"type": "ping", "id": id, "": "p".repeat(300)}).to_string();
    for _ in 0..20 {
        old.send(TEXT, ping.as_bytes());
        assert_eq!(old.json()["code"], "unknown_field");
    }
    let mut new = Raw::upgraded(&server, "");
    new.json();
    new.send(TEXT, ping.as_bytes());
    assert_eq!(new.closed().1.0, 1009);
    assert!(
        server
            .publish(&support::message("a", &"x".repeat(100)))
            .is_err()
    );
    assert!(server.publish(&support::message("a", "x")).is_ok());
}

#[test]
fn threads_are_not_changed_while_running() {
    let server = TestServer::start();
    let before = server.settings();
    for (shards, workers) in [(3, 0), (0, 3)] {
        let wanted = Settings {
            shards,
            workers,
            max_connections: 1,
            ..settings()
        };
        assert_eq!(
            server.reconfigure(wanted).unwrap(),
            Reconfigured::NeedsRestart
        );
        assert_eq!(server.settings(), before);
    }
}

#[test]
fn a_full_server_refuses_one_more_with_503() {
    let server = TestServer::with(|settings| settings.max_connections = 2);
    let _first = Client::connect(&server, "");
    let second = Client::connect(&server, "");
    assert_eq!(server.stat("connections"), 2);
    let response = Raw::ask(&server, upgrade_request(""));
    assert_eq!(response.status, 503);
    assert_eq!(response.refusal().0, "full");
    // A bad request gets 400, even if the server is full.
    assert_eq!(Raw::ask(&server, upgrade_request("?format=x")).status, 400);
    assert_eq!(server.stat("connections"), 2);
    drop(second);
    server.until_stat("connections", 1);
    let _third = Client::connect(&server, "");
    assert_eq!(Raw::ask(&server, upgrade_request("")).status, 503);
}

#[test]
fn an_address_with_too_many_connections_is_refused_with_429() {
    let server = TestServer::with(|settings| settings.max_connections_per_ip = 2);
    let from = |last: u8| {
        let mut raw = Raw::connect_with(server.address(), |socket| {
            let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
            socket.bind(&source.into()).unwrap();
        });
        raw.write(upgrade_request(""));
        let response = raw.response();
        (raw, response)
    };
    let (_first, response) = from(1);
    assert_eq!(response.status, 101);
    let (second, response) = from(1);
    assert_eq!(response.status, 101);
    let (_, response) = from(1);
    assert_eq!(response.status, 429);
    assert_eq!(response.refusal().0, "too_many_connections");
    // Other addresses have their own count.
    let (_other, response) = from(2);
    assert_eq!(response.status, 101);
    drop(second);
    server.until_stat("connections", 2);
    let (_again, response) = from(1);
    assert_eq!(response.status, 101);
    assert_eq!(from(1).1.status, 429);
    // By default there is no limit.
    server.reconfigure(settings()).unwrap();
    assert_eq!(from(1).1.status, 101);
}

#[test]
fn a_server_may_be_stopped_while_clients_connect_and_publishers_publish() {
    for _ in 0..10 {
        let server = TestServer::with(|settings| settings.shards = 2);
        let at = server.address();
        let mut witness = Client::connect(&server, "?topic=a");
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || {
                    // The loop runs until the listener is gone; each connection ends in one way or another.
                    while let Ok(stream) = TcpStream::connect(at) {
                        let mut raw = Raw::over(stream);
                        if raw.try_write(upgrade_request("?topic=a")) {
                            raw.drain();
                        }
                    }
                });
            }
            scope.spawn(|| {
                while server.stat("connections") > 0 {
                    let _ = server.publish(&support::message("a", "x"));
                }
            });
            witness.message();
            scope.spawn(|| server.stop(Disconnect::Stopping));
            let (frames, close) = witness.closed();
            assert_eq!(close.0, 1001);
            let seqs = seqs(&frames);
            assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        });
        server.until_stat("connections", 0);
    }
}

#[test]
fn a_goodbye_that_crosses_another_is_taken_as_the_answer() {
    let server = TestServer::start();
    let mut raw = Raw::upgraded(&server, "?format=raw");
    raw.settle();
    thread::scope(|scope| {
        scope.spawn(|| server.stop(Disconnect::Stopping));
        assert_eq!(raw.frame().0, CLOSE);
        raw.send(CLOSE, &1001_u16.to_be_bytes());
        raw.end();
        drop(raw);
    });
    assert_eq!(server.stat("connections"), 0);
}
