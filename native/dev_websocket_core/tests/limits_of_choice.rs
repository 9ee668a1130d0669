//! Every limit on what clients choose by, as in `limits`: for one connection, and for all together.
#![cfg(test)]

mod support;

use serde_json::{Value as Json, json};
use support::{
    BINARY, CLOSE, Client, Raw, TEXT, TestServer, asked, frame, message, three, upgraded,
};

/// What the reply to a request says: its type, or its error code.
fn told(client: &mut Client, request: &Json) -> String {
    let reply = client.request(request);
    let field = if reply["type"] == "error" {
        "code"
    } else {
        "type"
    };
    reply[field].as_str().unwrap().to_owned()
}

/// Two and three of something are taken in a URL and on a socket, four are refused whole.
fn subscriptions_are_refused(
    server: &TestServer,
    status: u16,
    code: &str,
    url: &str,
    field: &str,
    items: [Json; 4],
) {
    let query = |count: usize| {
        let parameters: Vec<_> = items[..count]
            .iter()
            .map(|item| format!("{url}={}", percent(item)))
            .collect();
        format!("?{}", parameters.join("&"))
    };
    assert_eq!(asked(server, &query(2)), upgraded());
    assert_eq!(asked(server, &query(3)), upgraded());
    assert_eq!(asked(server, &query(4)), (status, code.to_owned()));
    server.until_stat("connections", 0);
    let mut client = Client::connect(server, "");
    let subscribe = |items: &[Json]| json!({"type": "subscribe", field: items});
    assert_eq!(
        told(&mut client, &subscribe(&items[..2])),
        "subscription_response"
    );
    assert_eq!(told(&mut client, &subscribe(&items[2..])), code);
    assert_eq!(
        told(&mut client, &subscribe(&items[2..3])),
        "subscription_response"
    );
    assert_eq!(told(&mut client, &subscribe(&items[3..])), code);
    // What is held already counts once.
    assert_eq!(
        told(&mut client, &subscribe(&items[..3])),
        "subscription_response"
    );
}

fn percent(item: &Json) -> String {
    let text = item
        .as_str()
        .map_or_else(|| item.to_string(), str::to_owned);
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn at_the_limit_of_max_topics_per_connection() {
    let server = three(|settings, n| settings.max_topics_per_connection = n);
    let topics = ["a", "b*", "c", "d"].map(Json::from);
    subscriptions_are_refused(&server, 400, "too_many_topics", "topic", "topics", topics);
}

#[test]
fn at_the_limit_of_max_regexes_per_connection() {
    let server = three(|settings, n| settings.max_regexes_per_connection = n);
    let expressions = ["a", "b", "c", "d"].map(Json::from);
    subscriptions_are_refused(
        &server,
        400,
        "too_many_matches",
        "match",
        "match",
        expressions,
    );
}

#[test]
fn at_the_limit_of_max_regexes() {
    let server = three(|settings, n| settings.max_regexes = n);
    let expressions = ["a", "b", "c", "d"].map(Json::from);
    subscriptions_are_refused(
        &server,
        503,
        "too_many_expressions",
        "match",
        "match",
        expressions,
    );
    // They are counted over all connections, and the same ones once.
    server.until_stat("regexes", 0);
    let _first = Client::connect(&server, "?match=a&match=b");
    let second = Client::connect(&server, "?match=b&template=/c");
    assert_eq!(server.stat("regexes"), 3);
    assert_eq!(
        asked(&server, "?match=d"),
        (503, "too_many_expressions".into())
    );
    drop(second);
    server.until_stat("regexes", 2);
    Client::connect(&server, "?match=d");
}

#[test]
fn at_the_limit_of_max_templates_per_connection() {
    let server = three(|settings, n| settings.max_templates_per_connection = n);
    let templates = [
        json!({"a": 1}),
        json!({"b": 1}),
        json!({"c": 1}),
        json!({"d": 1}),
    ];
    subscriptions_are_refused(
        &server,
        400,
        "too_many_templates",
        "template",
        "template",
        templates,
    );
}

/// A glob that a literal finds is counted apart from those that none finds.
#[test]
fn at_the_limit_of_max_globs() {
    let server = three(|settings, n| settings.max_globs = n);
    let globs = ["a*", "*b", "*c*", "d*"].map(Json::from);
    subscriptions_are_refused(&server, 503, "too_many_globs", "topic", "topics", globs);
    is_counted_over_all(
        &server,
        "globs",
        ["topic=a*", "topic=*b", "topic=c*d", "topic=e*"],
        "too_many_globs",
    );
}

#[test]
fn at_the_limit_of_max_templates() {
    let server = three(|settings, n| settings.max_templates = n);
    let templates = [
        json!({"a": 1}),
        json!({"b": 1}),
        json!("/c"),
        json!({"d": 1}),
    ];
    let code = "too_many_distinct_templates";
    subscriptions_are_refused(&server, 503, code, "template", "template", templates);
    let queries = [
        "template={%22a%22:1}",
        "template={%22b%22:1}",
        "template=/c",
        "template={%22d%22:{}}",
    ];
    is_counted_over_all(&server, "templates", queries, code);
}

#[test]
fn at_the_limit_of_max_unindexed_patterns() {
    let server = three(|settings, n| settings.max_unindexed_patterns = n);
    let code = "too_many_unindexed_patterns";
    let expressions = ["a", "b+", "c|d", "e"].map(Json::from);
    subscriptions_are_refused(&server, 503, code, "match", "match", expressions);
    let queries = [
        "topic=*a*",
        "match=b",
        "template=/c",
        "template={%22d%22:[1]}",
    ];
    is_counted_over_all(&server, "unindexed_patterns", queries, code);
    // What a literal finds is served on.
    let _indexed = Client::connect(&server, "?topic=a*,*b&match=^c,d$&template={%22e%22:1}");
    assert_eq!(server.stat("unindexed_patterns"), 0);
}

/// Three of all connections together, the same ones once; a fourth when one has gone.
fn is_counted_over_all(server: &TestServer, stat: &str, queries: [&str; 4], code: &str) {
    server.until_stat(stat, 0);
    let [first, second, third, fourth] = queries;
    let client = Client::connect(server, &format!("?{first}&{second}"));
    let other = Raw::upgraded(server, &format!("?{second}&{third}&format=raw"));
    let stream = Raw::events(server, &format!("/events?{first}&{third}"), "");
    assert_eq!(server.stat(stat), 3);
    assert_eq!(asked(server, &format!("?{fourth}")), (503, code.into()));
    drop(client);
    // The others have the same.
    server.until_stat("connections", 2);
    assert_eq!(server.stat(stat), 3);
    drop(other);
    server.until_stat(stat, 2);
    let last = Client::connect(server, &format!("?{fourth}"));
    drop((stream, last));
    server.until_stat(stat, 0);
}

const STATS: [&str; 4] = ["globs", "regexes", "templates", "unindexed_patterns"];

/// Something of each kind, as a query.
const QUERY: &str = "?topic=a,b*,*c*&match=d&match=^e&template={%22f%22:1}&template=/g";

#[test]
fn what_is_held_is_given_back_however_a_connection_ends() {
    let server = TestServer::with(|settings| {
        settings.max_inbound_rate = 3;
        settings.send_buffer_bytes = 1024;
    });
    let held = [2, 3, 2, 3];
    let counts = || STATS.map(|stat| server.stat(stat));
    type End = fn(&TestServer, Raw);
    let ends: [(&str, End); 7] = [
        ("reset", |_, raw| raw.reset()),
        ("half-closed", |_, raw| {
            raw.half_close();
            raw.drain();
        }),
        ("dropped", |_, raw| drop(raw)),
        ("closed", |_, mut raw| {
            raw.send(CLOSE, &[]);
            raw.drain();
        }),
        ("a broken rule", |_, mut raw| {
            raw.write([0xff; 16]);
            raw.drain();
        }),
        ("too fast", |_, mut raw| {
            for _ in 0..4 {
                raw.try_write(frame(TEXT, b"{}"));
            }
            raw.drain();
        }),
        ("cut off in a frame", |_, mut raw| {
            raw.write(&frame(BINARY, &[0; 100])[..50]);
            raw.reset();
        }),
    ];
    for format in ["json", "raw", "events"] {
        for (way, end) in ends {
            let raw = match format {
                "events" => Raw::events(&server, &format!("/events{QUERY}"), ""),
                "raw" => {
                    let mut raw = Raw::upgraded(&server, &format!("{QUERY}&format=raw"));
                    raw.settle();
                    raw
                }
                _ => {
                    let mut raw = Raw::upgraded(&server, QUERY);
                    raw.json();
                    raw
                }
            };
            assert_eq!(counts(), held, "{format} {way}");
            // A stream of events does not listen to its client.
            if format == "events" && ["closed", "a broken rule", "too fast"].contains(&way) {
                drop(raw);
            } else {
                end(&server, raw);
            }
            STATS.iter().for_each(|stat| server.until_stat(stat, 0));
        }
    }
    let mut client = Client::connect(&server, "");
    let topics =
        json!({"topics": ["b*", "*c*"], "match": ["d", "^e"], "template": [{"f": 1}, "/g"]});
    let request = |kind: &str| {
        let mut request = topics.clone();
        request["type"] = kind.into();
        request
    };
    client.request(&request("subscribe"));
    assert_eq!(counts(), held);
    client.request(&request("unsubscribe"));
    assert_eq!(counts(), [0; 4]);
}

#[test]
fn a_request_that_is_refused_holds_nothing() {
    let server = TestServer::with(|settings| settings.max_templates = 1);
    let query = format!("{QUERY}&template={{%22h%22:1}}");
    assert_eq!(asked(&server, &query).0, 503);
    STATS.iter().for_each(|stat| server.until_stat(stat, 0));
    let mut client = Client::connect(&server, "");
    let request = json!({"type": "subscribe", "topics": ["a*"], "template": [{"a": 1}, {"b": 1}]});
    assert_eq!(told(&mut client, &request), "too_many_distinct_templates");
    assert_eq!(STATS.map(|stat| server.stat(stat)), [0; 4]);
    let refused_by_the_quota = json!({"type": "subscribe", "topics": (0..200).map(|n| format!("{n}*")).collect::<Vec<_>>()});
    assert_eq!(told(&mut client, &refused_by_the_quota), "too_many_topics");
    server.until_stat("globs", 0);
}

#[test]
fn an_expression_whose_automaton_does_not_fit_is_refused_when_it_is_asked_for() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "");
    for text in ["[01]*1[01]{30}x", "((a{100}){100}){100}"] {
        let query: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(
            asked(&server, &format!("?match={query}")),
            (400, "regex_too_big".into())
        );
        let request = json!({"type": "subscribe", "id": 1, "match": [text]});
        assert_eq!(told(&mut client, &request), "regex_too_big");
        let path = json!({"type": "subscribe", "id": 2, "template": [format!("/{text}")]});
        assert_eq!(told(&mut client, &path), "bad_template");
    }
    assert_eq!(server.stat("regexes"), 0);
    server.publish(&message("0101", "x")).unwrap();
}
