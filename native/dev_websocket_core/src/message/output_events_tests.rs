//! Tests of the events in outputs, with lines as a stranger may have them printed.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::message::json::JsonWriter;
use crate::message::provenance::Provenance;
use crate::message::topic_keys::TopicKeys;
use crate::message::topics::TopicRules;

const ID: &str = "ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ";

fn lines_of(text: &[u8], max: usize) -> (Vec<&str>, u64) {
    let found = events_in(text, max);
    let lines = found.lines.into_iter().map(|line| &text[line]);
    (
        lines
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect(),
        found.omitted,
    )
}

fn json_of(line: &str) -> Json {
    let event = event_of(line.as_bytes(), ID).unwrap();
    let mut buffer = Vec::new();
    JsonWriter::new(&mut buffer, usize::MAX, false)
        .write(&event)
        .unwrap();
    serde_json::from_slice(&buffer).unwrap()
}

fn topics_of(line: &str) -> Vec<String> {
    let rules = TopicRules {
        keys: TopicKeys::new(["data"]),
        max_topics: 64,
    };
    let origin = Provenance {
        process: Some(ID.into()),
        from: vec![Cow::Borrowed(ID)],
        ..Provenance::default()
    };
    let event = event_of(line.as_bytes(), ID).unwrap();
    let set = rules.topics_with(&event, &origin);
    let mut names: Vec<_> = set
        .topics
        .iter()
        .map(|topic| topic.name().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn events_are_found_among_other_lines_in_order() {
    let text = "hello\n{\"_e\":1,\"a\":1}\n  {\"b\":\"x\", \"_e\" : 1}\r\n{\"_e\":2}\n[{\"_e\":1}]\n\"_e\"\n{\"_e\":1}";
    let expected = vec![
        "{\"_e\":1,\"a\":1}",
        "  {\"b\":\"x\", \"_e\" : 1}\r",
        "{\"_e\":1}",
    ];
    assert_eq!(lines_of(text.as_bytes(), 10), (expected, 0));
    assert_eq!(lines_of(b"", 10), (vec![], 0));
    assert_eq!(lines_of(b"\n\n\"_e\"", 10), (vec![], 0));
}

#[test]
fn only_an_object_with_the_number_1_is_an_event() {
    for line in [
        r#"{"_e":true}"#,
        r#"{"_e":"1"}"#,
        r#"{"_e":1.0}"#,
        r#"{"_e":[1]}"#,
        r#"{"_e":-1}"#,
        r#"{"_E":1}"#,
        r#"{"a":{"_e":1}}"#,
        r#"{"a":"\"_e\":1"}"#,
        r#"{"_e":1"#,
        r#"{"_e":1} x"#,
        r#"{"_e":1}{"_e":1}"#,
        r#"{"_e":1,}"#,
        r#"{"_e":1,"a":"\ud800"}"#,
        r#"{"_e":1,"a":1e999}"#,
        r#"{"_e":1,"_e":2}"#,
        r#"[{"_e":1}]"#,
    ] {
        assert_eq!(
            lines_of(line.as_bytes(), 10).0,
            Vec::<&str>::new(),
            "{line}"
        );
        assert_eq!(event_of(line.as_bytes(), ID), None, "{line}");
    }
    for line in [
        b"{\"_e\":1,\"a\":\"\xff\"}".as_slice(),
        b"{\"_e\":1}\0",
        b"{\"_e\":1,\"\x01\":1}",
    ] {
        assert_eq!(events_in(line, 10), OutputEvents::default());
    }
    // The last one of equal keys counts, as in casts over HTTP.
    assert_eq!(json_of(r#"{"_e":2,"_e":1,"a":1,"a":2}"#)["a"], 2);
}

#[test]
fn each_limit_is_told() {
    let event = "{\"_e\":1}\n";
    let text = event.repeat(5);
    assert_eq!(lines_of(text.as_bytes(), 5).1, 0);
    assert_eq!(
        (
            lines_of(text.as_bytes(), 4).0.len(),
            lines_of(text.as_bytes(), 4).1
        ),
        (4, 1)
    );
    assert_eq!(lines_of(text.as_bytes(), 0), (vec![], 5));
    let of_length = |length: usize| format!("{{\"_e\":1,\"a\":\"{}\"}}", "x".repeat(length - 15));
    let (longest, longer) = (of_length(MAX_LINE_BYTES), of_length(MAX_LINE_BYTES + 1));
    assert_eq!(longest.len(), MAX_LINE_BYTES);
    let text = format!("{longer}\n{longest}");
    assert_eq!(lines_of(text.as_bytes(), 9), (vec![&*longest], 1));
    assert_eq!(event_of(longer.as_bytes(), ID), None);
    // Lines that are no events count as well once enough were parsed.
    let text = format!("{}{event}", "{\"_e\":2}\n".repeat(MAX_LINES));
    assert_eq!(lines_of(text.as_bytes(), 9), (vec![], 1));
    assert_eq!(lines_of(&text.as_bytes()[9..], 9).0.len(), 1);
}

#[test]
fn a_million_lines_are_counted() {
    let text = "{\"_e\":1}\nx\n".repeat(500_000);
    let found = events_in(text.as_bytes(), 100);
    assert_eq!((found.lines.len(), found.omitted), (100, 499_900));
    let text = "print\n".repeat(1_000_000);
    assert_eq!(events_in(text.as_bytes(), 100), OutputEvents::default());
}

#[test]
fn deep_and_wide_lines_are_bounded() {
    let nested = |depth: usize| {
        format!(
            "{{\"_e\":1,\"a\":{}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(event_of(nested(100).as_bytes(), ID).is_some());
    assert_eq!(event_of(nested(200).as_bytes(), ID), None);
    assert_eq!(event_of(nested(30_000).as_bytes(), ID), None);
    let wide = format!("{{\"_e\":1,\"a\":[{}0]}}", "0,".repeat(30_000));
    assert!(event_of(wide.as_bytes(), ID).is_some());
}

#[test]
fn a_line_claims_no_place_of_the_node() {
    let claims = r#"{"_e":1,"process":"other","From":"other","SLOT":7," process ":"other","topic":"process:other, from:other","topics":["process:other","mine"],
        "tags":{"process":"other","from":"other"},"Tags":[{"name":"From","value":"other"}],"process:other":"x","process\u0000":"x","a":"process:other","priv_key":"x"}"#
        .replace('\n', " ");
    let json = json_of(&claims);
    assert_eq!((&json["process"], &json["from"]), (&ID.into(), &ID.into()));
    for key in ["From", "SLOT", "slot", " process ", "priv_key"] {
        assert_eq!(json.get(key), None, "{key}");
    }
    let (process, from) = (format!("process:{ID}"), format!("from:{ID}"));
    assert_eq!(
        topics_of(&claims),
        ["_e:1", "a:process:other", &from, "mine", &process]
    );
}

#[test]
fn keys_are_topics_as_in_any_message() {
    let line = r#"{"_e":1,"Action":"Buy","qty":7,"big":99999999999999999999,"ok":true,"none":null,"data":"x","nested":{"a":1},"price":1.5}"#;
    let topics = topics_of(line);
    for topic in ["_e:1", "action:Buy", "qty:7", "ok:true", "price:1.5"] {
        assert!(
            topics.iter().any(|name| name == topic),
            "{topic} of {topics:?}"
        );
    }
    assert!(!topics.iter().any(|name| name.starts_with("data")
        || name.starts_with("nested")
        || name.starts_with("none")));
    assert_eq!(
        json_of(r#"{"_e":1,"Action":"Buy","n":9007199254740993}"#)["Action"],
        "Buy"
    );
    assert_eq!(
        json_of(r#"{"_e":1,"n":9007199254740993}"#)["n"],
        "9007199254740993"
    );
}

/// Lines of pieces that strangers would use.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"{\"_e\":1}".to_vec()),
        Just(b"{\"_e\":1,\"process\":\"x\"}".to_vec()),
        Just(b"\"_e\"".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"{".to_vec()),
        Just(b"}".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_lines_are_those_that_are_events(text in text(), max in 0..5_usize) {
        let found = events_in(&text, max);
        let mut expected = Vec::new();
        let mut start = 0;
        for line in text.split(|byte| *byte == b'\n') {
            if event_of(line, ID).is_some() {
                expected.push(start..start + line.len());
            }
            start += line.len() + 1;
        }
        prop_assert_eq!(&found.lines[..], &expected[..expected.len().min(max)]);
        prop_assert!(found.omitted >= expected.len().saturating_sub(max) as u64);
    }
}
