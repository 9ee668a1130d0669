//! The example of a client in Rust, against a server that restarts.
#![cfg(test)]

mod support;

#[path = "../../../examples/rust/prices.rs"]
mod prices;

use support::TestServer;

#[test]
fn the_example_goes_on_where_it_was() {
    let server = TestServer::start();
    server.send("prices", "1");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let url = format!("ws://{}/ws", server.address());
    let follow = |cursor: Option<String>, count: usize| {
        let mut seen = Vec::new();
        let cursor = runtime.block_on(prices::follow(&url, "prices", cursor, |frame| {
            seen.push(frame["seq"].as_u64().unwrap());
            seen.len() < count
        }));
        (cursor, seen)
    };
    let (cursor, seen) = follow(None, 1);
    assert_eq!(seen, [1]);
    for number in 2..=5 {
        server.send("prices", &number.to_string());
    }
    let (cursor, seen) = follow(cursor, 4);
    assert_eq!(seen, [2, 3, 4, 5]);
    assert!(cursor.unwrap().ends_with(":5"));
}
