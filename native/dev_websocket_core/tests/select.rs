//! Who gets what: globs, regular expressions and templates, alone and together, from the URL and over the socket.
#![cfg(test)]

mod support;

use dev_websocket_core::message::Value;
use serde_json::{Value as Json, json};

use support::{Client, TestServer, seqs};

/// Percent-encodes a parameter.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn map(entries: &[(&'static str, &'static str)]) -> Value<'static> {
    let entries = entries.iter();
    Value::Map(
        entries
            .map(|(key, value)| ((*key).into(), Value::Text((*value).into())))
            .collect(),
    )
}

#[test]
fn a_glob_and_an_expression_choose_by_topics() {
    let server = TestServer::start();
    let mut glob = Client::connect(&server, "?topic=action:*");
    let mut regex = Client::connect(&server, &format!("?match={}", encoded("^room:[0-9]+$")));
    let mut both = Client::connect(&server, "?topic=a*,*b&match=c");
    assert_eq!(
        regex.established["subscribed_match"],
        json!(["^room:[0-9]+$"])
    );
    assert_eq!(both.established["subscribed_topics"], json!(["a*", "*b"]));
    let mut last = 0;
    for topics in [
        "action:Mint",
        "room:12",
        "room:x",
        "ab",
        "xcx",
        "action:,b",
        "none",
    ] {
        last = server.send(topics, "x");
    }
    assert_eq!(seqs(&glob.up_to(last)), [1, 6]);
    assert_eq!(seqs(&regex.up_to(last)), [2]);
    // A publication of several of its topics comes once.
    assert_eq!(seqs(&both.up_to(last)), [1, 4, 5, 6]);
}

#[test]
fn a_template_chooses_by_the_message_and_narrows_topics() {
    let server = TestServer::start();
    let template = encoded(r#"{"Action":"Mint"}"#);
    let mut alone = Client::connect(&server, &format!("?template={template}"));
    let mut narrowed = Client::connect(&server, &format!("?topic=gold&template={template}"));
    let mut path = Client::connect(
        &server,
        &format!("?template={}", encoded("/compute.*slot=7")),
    );
    assert_eq!(
        narrowed.established["subscribed_template"],
        json!([{"Action": "Mint"}])
    );
    let mut last = 0;
    for message in [
        map(&[("action", "Mint"), ("topic", "gold")]),
        map(&[("Action", "Mint"), ("topic", "silver")]),
        map(&[("action", "Burn"), ("topic", "gold")]),
        map(&[("path", "/abc~process@1.0/compute&slot=7")]),
    ] {
        last = server.publish(&message).unwrap();
    }
    assert_eq!(seqs(&alone.up_to(last)), [1, 2]);
    assert_eq!(seqs(&narrowed.up_to(last)), [1]);
    assert_eq!(seqs(&path.up_to(last)), [4]);
}

#[test]
fn subscriptions_of_every_kind_change_on_a_live_connection() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "");
    server.send("a1", "before");
    client.up_to(1);
    let reply = client.request(&json!({"type": "subscribe", "id": 1, "topics": ["a*", "b"],
        "match": ["^c"], "template": [{"topic": "a1"}, {"topic": "b"}]}));
    assert_eq!(reply["new_topics"], json!(["a*", "b"]));
    assert_eq!(reply["new_match"], json!(["^c"]));
    assert_eq!(
        reply["new_template"],
        json!([{"topic": "a1"}, {"topic": "b"}])
    );
    assert_eq!(reply["seq"], 1);
    for topic in ["a1", "a2", "b", "c"] {
        server.send(topic, "x");
    }
    assert_eq!(seqs(&client.up_to(5)), [2, 4]);
    let reply = client.request(&json!({"type": "unsubscribe", "topics": ["a*"],
        "template": [{"topic": "a1"}, {"topic": "b"}]}));
    assert_eq!(reply["removed_topics"], json!(["a*"]));
    assert_eq!(reply["subscribed_match"], json!(["^c"]));
    assert_eq!(reply.get("subscribed_template"), None);
    for topic in ["a1", "b", "c"] {
        server.send(topic, "x");
    }
    assert_eq!(seqs(&client.up_to(8)), [7, 8]);
}

#[test]
fn a_topic_that_is_not_held_can_be_unsubscribed_from_and_a_pattern_still_brings_it() {
    let server = TestServer::start();
    let mut client = Client::connect(&server, "?topic=a*");
    let unsubscribe = |topics: &[&str]| json!({"type": "unsubscribe", "id": 1, "topics": topics});
    let reply = client.request(&unsubscribe(&["ab", "b"]));
    assert_eq!(reply["removed_topics"], json!([]));
    server.send("ab", "x");
    assert_eq!(client.message()["topic"], "ab");
    let reply = client.request(&unsubscribe(&["ab", "a*"]));
    assert_eq!(reply["removed_topics"], json!(["a*"]));
}

#[test]
fn a_request_names_as_many_different_topics_as_a_connection_may_have_and_no_more() {
    let server = TestServer::with(|settings| settings.max_topics_per_connection = 3);
    let mut client = Client::connect(&server, "?topic=a,b,c");
    for kind in ["subscribe", "unsubscribe"] {
        let mut ask = |topics: &[&str]| client.request(&json!({"type": kind, "topics": topics}));
        let reply = ask(&["x", "y*", "*", "z"]);
        assert_eq!(reply["code"], "too_many_topics", "{kind}");
        // Those that are there twice count once.
        let reply = ask(&["a", "b", "c", "a", "b", "c", " a"]);
        assert_eq!(
            reply["type"],
            format!("{}_response", kind.replace("scribe", "scription"))
        );
    }
}

#[test]
fn limits_of_each_kind_hold_at_n_and_refuse_one_more() {
    let server = TestServer::with(|settings| {
        settings.max_regexes_per_connection = 2;
        settings.max_templates_per_connection = 1;
    });
    let mut client = Client::connect(&server, "?match=a&match=b");
    for (request, code) in [
        (
            json!({"type": "subscribe", "match": ["c"]}),
            "too_many_matches",
        ),
        (
            json!({"type": "subscribe", "template": [{"a": 1}, {"b": 2}]}),
            "too_many_templates",
        ),
    ] {
        assert_eq!(client.request(&request)["code"], code);
    }
    for request in [
        json!({"type": "subscribe", "match": ["a", "b"]}),
        json!({"type": "subscribe", "template": [{"a": 1}]}),
    ] {
        assert_eq!(client.request(&request)["type"], "subscription_response");
    }
}

/// Random steps against plain sets and loops.
#[test]
fn a_reference_model_agrees_on_who_gets_what() {
    let cases: u64 = std::env::var("CASES").map_or(2_000, |cases| cases.parse().unwrap());
    let server = TestServer::with(|settings| {
        settings.history_bytes = 0;
        settings.max_globs = 2;
        settings.max_regexes = 3;
        settings.max_templates = 2;
        settings.max_unindexed_patterns = 1;
    });
    let mut refusals = std::collections::BTreeMap::<&str, u32>::new();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut pick = move |count: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % count as u64) as usize
    };
    let names = ["a", "ab", "abc", "b", "ba", "k:v", "k:w", "c d"];
    let topics = ["a", "ab", "k:v", "*", "a*", "*b*", "k:*", "b"];
    let matches = ["^a", "b$", "^k:[vw]$", "c d", "x"];
    let templates = [
        json!({"k": "v"}),
        json!({"K": "w"}),
        json!({"topic": "a"}),
        json!({"k": "v", "topic": "ab"}),
    ];
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&server, "")).collect();
    let mut held = vec![[Vec::<Json>::new(), vec![], vec![]]; clients.len()];
    // What was cast, and up to where each client's share of it has been compared.
    let mut cast: Vec<(Vec<String>, &str, &str)> = Vec::new();
    let mut settled = vec![0_usize; clients.len()];
    let share = |selection: &[Vec<Json>; 3], cast: &[(Vec<String>, &str, &str)], from: usize| {
        let chosen = cast.iter().enumerate().skip(from);
        let chosen =
            chosen.filter(|(_, (topics, name, tag))| model_chooses(selection, topics, name, tag));
        chosen
            .map(|(place, _)| place as u64 + 1)
            .collect::<Vec<_>>()
    };
    for case in 0..cases {
        let who = pick(clients.len());
        let step = pick(4);
        if step < 2 {
            let name = names[pick(names.len())];
            let tag = ["v", "w", ""][pick(3)];
            let mut entries = vec![("topic".into(), Value::Text(name.into()))];
            let mut topics = vec![name.to_owned()];
            if !tag.is_empty() {
                entries.push(("k".into(), Value::Text(tag.into())));
                topics.push(format!("k:{tag}"));
            }
            cast.push((topics, name, tag));
            assert_eq!(server.publish(&Value::Map(entries)), Ok(cast.len() as u64));
            continue;
        }
        let (field, kind, item) = match pick(3) {
            0 => ("topics", 0, json!(topics[pick(topics.len())])),
            1 => ("match", 1, json!(matches[pick(matches.len())])),
            _ => ("template", 2, templates[pick(templates.len())].clone()),
        };
        let is_subscribe = step == 2;
        let refusal = is_subscribe
            .then(|| model_refuses(&held, kind, &item))
            .flatten();
        let request = ["unsubscribe", "subscribe"][usize::from(is_subscribe)];
        clients[who].send(&json!({"type": request, "id": case, field: [item]}));
        let mut frames = Vec::new();
        let reply = loop {
            let frame = clients[who].next();
            if frame["type"] != "message" {
                break frame;
            }
            frames.push(frame);
        };
        if reply["type"] == "error" {
            // Nothing has changed, and the frame tells no place.
            let refusal = refusal.unwrap_or_else(|| panic!("case {case}: {reply}"));
            assert_eq!(reply["code"], refusal);
            *refusals.entry(refusal).or_default() += 1;
            let got = seqs(&frames);
            let all = share(&held[who], &cast, settled[who]);
            assert_eq!(got, all[..got.len()], "case {case}");
            settled[who] = got.last().map_or(settled[who], |seq| *seq as usize);
            continue;
        }
        assert_eq!(refusal, None, "case {case}");
        // Up to the reply's number the old subscriptions hold, behind it the new ones.
        let seq = reply["seq"].as_u64().unwrap() as usize;
        let expected = share(&held[who], &cast[..seq], settled[who]);
        assert_eq!(seqs(&frames), expected, "case {case}");
        settled[who] = seq;
        let mine = &mut held[who][kind];
        mine.retain(|held| *held != item);
        if is_subscribe {
            mine.push(item);
        }
    }
    let last = cast.len() as u64;
    for (place, client) in clients.iter_mut().enumerate() {
        let expected = share(&held[place], &cast, settled[place]);
        assert_eq!(seqs(&client.up_to(last)), expected);
    }
    assert_eq!(refusals.len(), 4, "each code once at least: {refusals:?}");
}

/// What all clients together may not hold any more.
fn model_refuses(held: &[[Vec<Json>; 3]], kind: usize, item: &Json) -> Option<&'static str> {
    let of_kind = |kind: usize| {
        let all: std::collections::BTreeSet<String> = held
            .iter()
            .flat_map(|kinds| &kinds[kind])
            .filter(|item| kind > 0 || is_glob(item))
            .map(Json::to_string)
            .collect();
        all
    };
    let mine = of_kind(kind);
    if kind == 0 && !is_glob(item) || mine.contains(&item.to_string()) {
        return None;
    }
    let (limit, code) = [
        (2, "too_many_globs"),
        (3, "too_many_expressions"),
        (2, "too_many_distinct_templates"),
    ][kind];
    let is_unindexed = |item: &String| ["\"*b*\"", "\"c d\"", "\"x\""].contains(&item.as_str());
    let mut indexes = of_kind(0);
    indexes.extend(of_kind(1));
    if mine.len() >= limit {
        Some(code)
    } else if is_unindexed(&item.to_string()) && indexes.iter().any(is_unindexed) {
        Some("too_many_unindexed_patterns")
    } else {
        None
    }
}

fn is_glob(item: &Json) -> bool {
    item.as_str()
        .is_some_and(|text| text.len() > 1 && text.contains('*'))
}

fn model_chooses(selection: &[Vec<Json>; 3], topics: &[String], name: &str, tag: &str) -> bool {
    let [names, matches, templates] = selection;
    let glob = |glob: &str, topic: &str| match glob.split_once('*') {
        None => glob == topic,
        Some(("", "")) => true,
        Some(("", "b*")) => topic.contains('b'),
        Some((start, _)) => topic.starts_with(start),
    };
    let regex = |regex: &str, topic: &str| match regex {
        "^a" => topic.starts_with('a'),
        "b$" => topic.ends_with('b'),
        "^k:[vw]$" => topic == "k:v" || topic == "k:w",
        other => topic.contains(other),
    };
    let any = |held: &[Json], test: &dyn Fn(&str, &str) -> bool| {
        held.iter().any(|item| {
            topics
                .iter()
                .any(|topic| test(item.as_str().unwrap(), topic))
        })
    };
    let by_topic = any(names, &glob) || any(matches, &regex);
    let template = |template: &Json| {
        template
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, value)| match key.as_str() {
                "topic" => *value == *name,
                _ => *value == *tag,
            })
    };
    let by_template = templates.iter().any(template);
    match (names.is_empty() && matches.is_empty(), templates.is_empty()) {
        (true, true) => false,
        (true, false) => by_template,
        (false, true) => by_topic,
        (false, false) => by_topic && by_template,
    }
}
