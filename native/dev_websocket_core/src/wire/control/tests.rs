use super::reading::MAX_ID_BYTES;
use super::*;
use crate::subscription::template::Template;
use proptest::prelude::*;
use serde_json::json;

fn parse(text: &str) -> Result<Request, RequestError> {
    Request::parse(text, Quota::of(&Settings::default()), Permitted::ALL)
}

fn code(text: &str) -> (RequestId, ErrorCode) {
    let fault = parse(text).unwrap_err();
    assert!(!fault.message.is_empty());
    (fault.id, fault.code)
}

#[test]
fn requests_are_read_with_their_ids() {
    assert_eq!(
        parse(r#"{"type":"subscribe","id":1,"topics":["a","*"]}"#),
        Ok(Request::Subscribe {
            id: Some(json!(1)),
            subscriptions: vec![Subscription::parse("a").unwrap(), Subscription::Everything],
            since: None,
            slots: None,
        })
    );
    assert_eq!(
        parse(r#"{"type":"ping","id":"x"}"#),
        Ok(Request::Ping {
            id: Some(json!("x"))
        })
    );
    assert_eq!(parse(r#"{"type":"ping"}"#), Ok(Request::Ping { id: None }));
}

#[test]
fn more_expressions_than_a_connection_may_have_are_refused_before_they_are_read() {
    let quota = Quota::of(&Settings {
        max_regexes_per_connection: 2,
        max_templates_per_connection: 1,
        ..Settings::default()
    });
    let code = |kind: &str, field: &str, items: &[&str]| {
        let request = json!({"type": kind, field: items}).to_string();
        Request::parse(&request, quota, Permitted::ALL)
            .unwrap_err()
            .code
    };
    for kind in ["subscribe", "unsubscribe"] {
        assert_eq!(code(kind, "match", &["(", "a"]), ErrorCode::BadRegex);
        assert_eq!(
            code(kind, "match", &["(", "a", "b"]),
            ErrorCode::TooManyMatches
        );
        assert_eq!(code(kind, "template", &["/("]), ErrorCode::BadTemplate);
        assert_eq!(
            code(kind, "template", &["/(", "/a"]),
            ErrorCode::TooManyTemplates
        );
    }
}

/// A client that numbers its requests with `Math.random()` recognizes them by these digits.
#[test]
fn an_id_comes_back_with_the_digits_that_it_came_with() {
    for id in ["0.9073038322028689", "8.888888888889889e38", "1842"] {
        let text = format!(r#"{{"type":"ping","id":{id}}}"#);
        let Ok(Request::Ping { id: Some(read) }) = parse(&text) else {
            panic!("{text}");
        };
        assert_eq!(read.to_string().replace("e+", "e"), id);
    }
}

#[test]
fn sent_data_is_a_text_or_json_as_it_was_written() {
    for (text, expected) in [
        (r#"{"type":"send","data":"a\u0062 \"c\""}"#, "ab \"c\""),
        (r#"{"type":"send","data":""}"#, ""),
        (r#"{"type":"send","data":null}"#, "null"),
        (
            r#"{"data": {"b": 1.50,"a":12345678901234567890123},"type":"send"}"#,
            r#"{"b": 1.50,"a":12345678901234567890123}"#,
        ),
        (r#"{"type":"send","data":1,"data":[2]}"#, "[2]"),
    ] {
        let data = expected.to_owned();
        assert_eq!(parse(text), Ok(Request::Send { id: None, data }));
    }
}

#[test]
fn each_fault_has_its_code_and_keeps_the_id() {
    for (text, id, expected) in [
        ("", None, ErrorCode::BadJson),
        ("{", None, ErrorCode::BadJson),
        ("[1]", None, ErrorCode::BadMessage),
        ("\"ping\"", None, ErrorCode::BadMessage),
        (r#"{"id":1}"#, Some(json!(1)), ErrorCode::BadMessage),
        (r#"{"type":7}"#, None, ErrorCode::BadMessage),
        (r#"{"type":"ping","id":[]}"#, None, ErrorCode::BadId),
        (
            r#"{"type":"dance","id":2}"#,
            Some(json!(2)),
            ErrorCode::UnknownType,
        ),
        (
            r#"{"type":"ping","id":2,"extra":1}"#,
            Some(json!(2)),
            ErrorCode::UnknownField,
        ),
        (
            r#"{"type":"subscribe","id":3}"#,
            Some(json!(3)),
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"subscribe","topics":[]}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"subscribe","topics":"a"}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"subscribe","topics":[1]}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"unsubscribe","topics":["a,b"]}"#,
            None,
            ErrorCode::BadTopic,
        ),
        (
            r#"{"type":"subscribe","topics":[""]}"#,
            None,
            ErrorCode::BadTopic,
        ),
        (
            r#"{"type":"subscribe","match":["("]}"#,
            None,
            ErrorCode::BadRegex,
        ),
        (
            r#"{"type":"subscribe","match":[]}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"subscribe","match":[1]}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"subscribe","match":["\\w{1000}"]}"#,
            None,
            ErrorCode::RegexTooBig,
        ),
        (
            r#"{"type":"subscribe","template":["x"]}"#,
            None,
            ErrorCode::BadTemplate,
        ),
        (
            r#"{"type":"subscribe","template":[{}]}"#,
            None,
            ErrorCode::BadTemplate,
        ),
        (
            r#"{"type":"subscribe","topics":["a"],"since":"x"}"#,
            None,
            ErrorCode::BadSince,
        ),
        (
            r#"{"type":"subscribe","topics":["a"],"since":[]}"#,
            None,
            ErrorCode::BadField,
        ),
        (
            r#"{"type":"unsubscribe","topics":["a"],"since":1}"#,
            None,
            ErrorCode::UnknownField,
        ),
        (
            r#"{"type":"send","id":5}"#,
            Some(json!(5)),
            ErrorCode::BadField,
        ),
    ] {
        assert_eq!(code(text), (id, expected), "{text}");
    }
    let id = "i".repeat(MAX_ID_BYTES);
    assert_eq!(
        code(&json!({"type": "ping", "id": id}).to_string()).1,
        ErrorCode::BadId
    );
}

#[test]
fn replies_without_a_request_id_have_none() {
    let bytes = Reply::Pong {
        id: &None,
        timestamp: 5,
        seq: 6,
    }
    .encode();
    assert_eq!(&bytes[2..], br#"{"type":"pong","timestamp":5,"seq":6}"#);
    let bytes = Reply::Pong {
        id: &Some(json!(3)),
        timestamp: 5,
        seq: 6,
    }
    .encode();
    assert_eq!(
        &bytes[2..],
        br#"{"type":"pong","id":3,"timestamp":5,"seq":6}"#
    );
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = parse(&text);
    }
}

#[test]
fn templates_of_a_request_keep_integers_beyond_64_bits() {
    let text =
        r#"{"type":"subscribe","id":99999999999999999999,"template":[{"n":99999999999999999999}]}"#;
    let Ok(Request::Subscribe {
        id, subscriptions, ..
    }) = parse(text)
    else {
        panic!("{text} is a request");
    };
    assert!(id.is_some_and(|id| id.is_number()));
    let expected = Template::parse(r#"{"n":"99999999999999999999"}"#).unwrap();
    assert_eq!(subscriptions, [Subscription::Template(expected)]);
}

#[test]
fn json_that_cannot_be_held_is_told_from_what_is_none_and_keeps_the_id() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let fault = |text: &str| parse(text).unwrap_err();
    let held = format!(r#"{{"type":"send","id":1,"data":{}}}"#, nested(126));
    assert!(parse(&held).is_ok());
    for data in [
        nested(127),
        nested(10_000),
        r#""\ud800""#.to_owned(),
        r#""\udc00x""#.to_owned(),
        r#"{"\ud800":1}"#.to_owned(),
        "1e999".to_owned(),
    ] {
        for (written, id) in [("7,", json!(7)), (r#""a\u0062","#, json!("ab"))] {
            for text in [
                format!(r#"{{"type":"send","id":{written}"data":{data}}}"#),
                format!(r#"{{"data":{data},"id":{written}"type":"send"}}"#),
            ] {
                let fault = fault(&text);
                assert_eq!(
                    (fault.code, fault.id),
                    (ErrorCode::UnsupportedJson, Some(id.clone())),
                    "{text}"
                );
                assert!(!fault.message.contains("not JSON"), "{}", fault.message);
            }
        }
        // An invalid or unreadable id is omitted; the error is the same.
        for id in [
            r#""\ud800""#,
            "1e999",
            "[]",
            "null",
            &format!("\"{}\"", "i".repeat(300)),
        ] {
            let fault = fault(&format!(r#"{{"type":"send","id":{id},"data":{data}}}"#));
            assert_eq!(
                (fault.code, fault.id),
                (ErrorCode::UnsupportedJson, None),
                "{id}"
            );
        }
        // JSON that is not an object has no id.
        assert_eq!(fault(&format!("[{data}]")).code, ErrorCode::UnsupportedJson);
    }
    for text in [
        "",
        "{",
        "{\"id\":1",
        "\u{1}",
        "{\"id\":1}}",
        "[1,]",
        r#"{"id":1,"data":"\ud8"}"#,
    ] {
        let fault = fault(text);
        assert_eq!((fault.code, fault.id), (ErrorCode::BadJson, None), "{text}");
    }
}
