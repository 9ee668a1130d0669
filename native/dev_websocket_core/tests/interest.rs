//! Which processes have subscribers, as a watcher hears of it.
#![cfg(test)]

mod support;

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use dev_websocket_core::{Disconnect, Interest, InterestWatcher, Wanted};
use serde_json::{Value as Json, json};

use support::{Client, FORMATS, PATIENCE, TestServer, connect};

/// The id of a process.
fn id(letter: char) -> String {
    letter.to_string().repeat(43)
}

fn ids(interest: &Interest) -> Vec<String> {
    let text = |wanted: &Wanted| String::from_utf8(wanted.id.to_vec()).unwrap();
    interest.processes.iter().map(text).collect()
}

/// Hears of changes, and looks after each.
struct Watching<'s> {
    server: &'s TestServer,
    told: Receiver<()>,
}

impl<'s> Watching<'s> {
    fn new(server: &'s TestServer) -> Self {
        struct Teller(Sender<()>);
        impl InterestWatcher for Teller {
            fn changed(&self) -> bool {
                self.0.send(()).is_ok()
            }
        }
        let (teller, told) = channel();
        server.interest.watch(Teller(teller));
        Self { server, told }
    }

    fn look(&self) -> Interest {
        self.server.interest.arm();
        self.server.interest(100)
    }

    /// The word must be there already.
    fn was_told(&self, what: &str) -> Interest {
        assert_eq!(self.told.try_recv(), Ok(()), "{what}");
        self.look()
    }

    fn was_not_told(&self, what: &str) {
        assert_eq!(self.told.try_recv(), Err(TryRecvError::Empty), "{what}");
    }

    /// Looks after every word until the interest is as it should be.
    fn until(&self, holds: impl Fn(&Interest) -> bool) {
        while !holds(&self.look()) {
            assert_eq!(self.told.recv_timeout(PATIENCE), Ok(()));
        }
    }
}

#[test]
fn interest_is_told_before_the_first_frame_in_every_format() {
    let server = TestServer::start();
    let watching = Watching::new(&server);
    for (format, letter) in FORMATS.into_iter().zip(['a', 'b', 'c']) {
        let query = format!("?process={}", id(letter));
        let mut connection = connect(&server, format, &query);
        connection.settle();
        let interest = watching.was_told(format);
        assert_eq!(ids(&interest), [id(letter)], "{format}");
        assert!(!interest.others);
        drop(connection);
        watching.until(|interest| *interest == Interest::default());
        while watching.told.try_recv().is_ok() {}
        watching.look();
    }
}

#[test]
fn interest_counts_subscribers_over_all_shards_and_topics() {
    let server = TestServer::with(|settings| settings.shards = 3);
    let watching = Watching::new(&server);
    let query = format!("?topic=process:{},from:{}", id('a'), id('b'));
    // Each on another shard, and one more on the first.
    let clients: Vec<_> = (0..4).map(|_| Client::connect(&server, &query)).collect();
    let interest = watching.was_told("the first");
    assert_eq!(
        (ids(&interest), interest.total),
        (vec![id('a'), id('b')], 2)
    );
    watching.was_not_told("the others");
    let mut clients = clients.into_iter();
    let last = clients.next();
    for client in clients {
        client.close(1000, "");
    }
    server.until_stat("connections", 1);
    watching.was_not_told("still subscribed");
    drop(last);
    watching.until(|interest| *interest == Interest::default());
}

#[test]
fn interest_follows_requests() {
    let server = TestServer::start();
    let watching = Watching::new(&server);
    let mut client = Client::connect(&server, "");
    watching.was_not_told("no topics");
    let mut ask = |request: &str, fields: Json| {
        let mut request = json!({"type": request});
        for (key, value) in fields.as_object().unwrap() {
            request[key] = value.clone();
        }
        let reply = client.request(&request);
        assert_ne!(reply["type"], "error", "{reply}");
    };
    let a = json!({"topics": [format!("process:{}", id('a'))]});
    ask("subscribe", a.clone());
    assert_eq!(ids(&watching.was_told("process")), [id('a')]);
    ask(
        "subscribe",
        json!({"topics": [format!("/{}~process@1.0", id('b'))]}),
    );
    assert_eq!(ids(&watching.was_told("path")), [id('a'), id('b')]);
    ask(
        "subscribe",
        json!({"topics": [format!("from:{}", id('a'))]}),
    );
    watching.was_not_told("the same process");
    for (number, other) in [
        json!({"topics": ["*"]}),
        json!({"topics": ["prices"]}),
        json!({"topics": ["process:*"]}),
        json!({"topics": ["process:short"]}),
        json!({"match": ["^process:"]}),
        json!({"template": [{"process": id('c')}]}),
    ]
    .into_iter()
    .enumerate()
    {
        let what = other.to_string();
        ask("subscribe", other.clone());
        let interest = watching.was_told(&what);
        assert!(interest.others, "{what}");
        if number > 0 {
            // With another beside it, it makes no difference.
            ask("subscribe", json!({"topics": ["*"]}));
            watching.was_not_told(&what);
            ask("unsubscribe", json!({"topics": ["*"]}));
            watching.was_not_told(&what);
        }
        ask("unsubscribe", other);
        assert!(!watching.was_told(&what).others, "{what}");
    }
    ask("unsubscribe", a);
    watching.was_not_told("it is still a sender");
    ask(
        "unsubscribe",
        json!({"topics": [format!("from:{}", id('a'))]}),
    );
    assert_eq!(ids(&watching.was_told("gone")), [id('b')]);
}

#[test]
fn interest_of_the_next_server_begins_anew() {
    let first = TestServer::start();
    let watching = Watching::new(&first);
    let client = Client::connect(&first, &format!("?process={}", id('a')));
    assert_eq!(watching.was_told("first").total, 1);
    thread::scope(|scope| {
        scope.spawn(|| client.closed());
        first.stop(Disconnect::Restarting);
    });
    watching.until(|interest| *interest == Interest::default());
    while watching.told.try_recv().is_ok() {}
    let second = first.next();
    second.interest.arm();
    let _client = Client::connect(&second, &format!("?process={}", id('b')));
    assert_eq!(watching.told.try_recv(), Ok(()));
    assert_eq!(ids(&second.interest(9)), [id('b')]);
}
