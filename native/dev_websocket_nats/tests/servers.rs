//! Three servers that keep the stream together.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use async_nats::jetstream;
use support::client::Client;
use support::{Engine, Node};
use tokio::time::sleep;

/// Makes the stream and its bucket on all servers, as soon as these have found each other.
async fn make(context: &jetstream::Context) {
    let mut stream = support::stream_config();
    stream.num_replicas = 3;
    while context.create_stream(stream.clone()).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    let mut bucket = support::bucket_config();
    bucket.num_replicas = 3;
    while context.create_stream(bucket.clone()).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_three_servers_may_be_killed() {
    let Some((mut engines, urls)) = Engine::start_cluster(3) else {
        return;
    };
    const EACH: u64 = 3000;
    let client = async_nats::connect(urls.split(',').collect::<Vec<_>>())
        .await
        .unwrap();
    let context = jetstream::new(client);
    make(&context).await;
    let nodes = [Node::start(&urls), Node::start(&urls)];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect(&node.uri(), "").await);
    }
    for round in 1..=3 {
        let begin = (round - 1) * EACH + 1;
        std::thread::scope(|scope| {
            for (node, topic) in nodes.iter().zip(["a", "b"]) {
                scope.spawn(move || {
                    (begin..begin + EACH).for_each(|number| node.publish(topic, number))
                });
            }
        });
        // The messages are on their way when the leader of the stream ends.
        let leader = async {
            loop {
                let info = match context.get_stream("dev_websocket").await {
                    Ok(stream) => stream.cached_info().cluster.clone(),
                    Err(_) => None,
                };
                match info.and_then(|cluster| cluster.leader) {
                    Some(leader) => return leader,
                    None => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let leader: usize = leader.await.trim_start_matches('s').parse().unwrap();
        engines[leader].kill();
        for client in &mut clients {
            client.take_messages((2 * EACH * round) as usize).await;
        }
        engines[leader].start_again();
    }
    for client in &clients {
        for topic in ["a", "b"] {
            assert_eq!(
                client.numbers(topic),
                (1..=3 * EACH).collect::<Vec<_>>(),
                "{topic}"
            );
        }
        assert!(client.gaps().is_empty());
    }
    assert_eq!(clients[0].messages, clients[1].messages);
}
