//! Tests of crowds that come to a shard and leave it.

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::tests::Bench;
use super::*;
use crate::log::publication::tests::draft;
use crate::shard::connection_handle::ConnectionHandle;
use crate::subscription::Quota;
use crate::wire::control::{Permitted, Request};
use crate::wire::format::Format;

const CROWD: usize = 200;

fn publish(bench: &Bench, topic: &str, text: &str) {
    let log = &bench.context.log;
    log.append(draft(&[topic], text), u64::MAX).unwrap();
}

/// Runs rounds until the shard has nothing to do, and returns their number.
fn rounds(shard: &mut Shard) -> usize {
    let mut rounds = 0;
    while rounds == 0 || !shard.queue.is_empty() || !shard.arrivals.is_empty() {
        shard.round();
        if shard.queue.is_empty() {
            shard.end_batch();
        }
        rounds += 1;
    }
    rounds
}

/// Reads until the text has come, and returns everything before it.
async fn read_to(client: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        assert_ne!(client.read_buf(&mut read).await.unwrap(), 0);
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_crowd_that_comes_or_leaves_delays_no_publication_in_any_format() {
    for format in Format::ALL {
        let mut bench = Bench::new().await;
        let (_client, bystander) = bench.connect(format, None, &["t"]).await;
        rounds(&mut bench.shard);
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let (client, handle, open) = bench.request(format, None, &["crowd"]).await;
            handle.tell(open);
            crowd.push((client, handle));
        }
        publish(&bench, "t", "while they come");
        let before = bench.context.counters.deliveries.get();
        bench.shard.round();
        assert_eq!(bench.context.counters.deliveries.get(), before + 1);
        assert!(bench.shard.clients.indices().len() <= 1 + ARRIVALS);
        assert!(rounds(&mut bench.shard) <= CROWD.div_ceil(ARRIVALS));
        assert_eq!(bench.shard.clients.indices().len(), 1 + CROWD);

        for (_, handle) in &crowd {
            handle.tell(Command::Remove {
                connection: handle.id,
            });
        }
        publish(&bench, "t", "while they leave");
        bench.shard.round();
        assert_eq!(bench.context.counters.deliveries.get(), before + 2);
        assert!(bench.shard.clients.indices().len() >= 1 + CROWD - ARRIVALS);
        rounds(&mut bench.shard);
        assert_eq!(bench.shard.clients.indices().len(), 1);
        assert!(bench.shard.clients.find(bystander.id).is_some());
    }
}

/// A command that overtook the one that opens its connection would be lost.
#[tokio::test]
async fn commands_of_a_connection_keep_their_order_behind_a_crowd() {
    let mut bench = Bench::new().await;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let (client, handle, open) = bench.request(Format::Json, None, &["crowd"]).await;
        handle.tell(open);
        handle.control_made(6);
        crowd.push((number, client, handle));
    }
    let tell = |handle: &ConnectionHandle, text: String| {
        handle.tell(Command::Direct {
            connection: handle.id,
            after: 0,
            frame: Bytes::from(text),
        });
    };
    crowd
        .iter()
        .for_each(|(number, _, handle)| tell(handle, format!("first {number};")));
    bench.shard.round();
    // Some connections are open now, the others are not.
    crowd
        .iter()
        .for_each(|(number, _, handle)| tell(handle, format!("second {number};")));
    rounds(&mut bench.shard);
    for (number, client, _) in &mut crowd {
        let read = read_to(client, &format!("second {number};")).await;
        let places = ["head", "established", &format!("first {number};"), "second"]
            .map(|text| read.find(text).expect("each command has its effect"));
        assert!(places.is_sorted(), "{read}");
    }
}

/// A client may subscribe and then cause a publication, which it expects to get.
#[tokio::test]
async fn a_crowd_does_not_move_a_request_behind_a_later_publication() {
    let mut bench = Bench::new().await;
    let (mut client, handle) = bench.connect(Format::Json, None, &[]).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let (client, other, open) = bench.request(Format::Json, None, &["crowd"]).await;
        other.tell(open);
        crowd.push((client, other));
    }
    let subscribe = r#"{"type":"subscribe","topics":["late"]}"#;
    let quota = Quota::of(&bench.context.settings());
    handle.tell(Command::Request {
        connection: handle.id,
        bytes: 0,
        request: Request::parse(subscribe, quota, Permitted::ALL),
    });
    publish(&bench, "late", "caused by the subscriber");
    rounds(&mut bench.shard);
    publish(&bench, "late", "the last one");
    rounds(&mut bench.shard);
    let read = read_to(&mut client, "the last one").await;
    assert!(read.contains("caused by the subscriber"), "{read}");
}

/// A connection gets all publications after its welcome, and none from before its request.
#[tokio::test]
async fn a_connection_that_waited_begins_where_its_welcome_says() {
    let mut bench = Bench::new().await;
    let (_client, _bystander) = bench.connect(Format::Json, None, &["crowd"]).await;
    publish(&bench, "crowd", "before the request");
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let (client, handle, open) = bench.request(Format::Json, None, &["crowd"]).await;
        handle.tell(open);
        crowd.push((client, handle));
    }
    let mut published = 1;
    while !bench.shard.arrivals.is_empty() || published == 1 {
        publish(&bench, "crowd", "meanwhile");
        published += 1;
        bench.shard.round();
        bench.shard.end_batch();
    }
    publish(&bench, "crowd", "the last one");
    rounds(&mut bench.shard);
    for (client, _) in &mut crowd {
        let read = read_to(client, "the last one").await;
        assert!(!read.contains("before the request"));
        let seq = |text: &str| -> u64 {
            let digits = text.split("\"seq\":").nth(1).unwrap();
            digits
                .chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .unwrap()
        };
        let welcome: u64 = seq(&read);
        let missed = read.matches("meanwhile").count() as u64;
        assert_eq!(welcome + missed, published, "{read}");
    }
}
