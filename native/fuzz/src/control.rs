//! Fuzzing of a client's text frames. Any text is a request or gets an error frame, and a rewritten request parses to
//! the same.

use dev_websocket_core::internals::reading::{self, Request};
use serde_json::{Map, Value as Json, json};

use super::frame;

const CODES: [&str; 14] = [
    "bad_json",
    "unsupported_json",
    "bad_message",
    "bad_id",
    "unknown_type",
    "unknown_field",
    "bad_field",
    "bad_topic",
    "bad_regex",
    "regex_too_big",
    "bad_template",
    "bad_since",
    "too_many_matches",
    "bad_frame",
];

/// Checks the parser of control messages with any bytes.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let json: Result<Json, _> = serde_json::from_str(text);
    match reading::request(text) {
        Ok(request) => {
            let Ok(Json::Object(fields)) = json else {
                panic!("a request is a JSON object");
            };
            is_what_was_asked(&fields, &request);
            let again = reading::request(&written(&request));
            assert_eq!(again, Ok(request));
        }
        Err(error) => is_the_answer(json.as_ref().ok(), &error),
    }
}

fn is_what_was_asked(fields: &Map<String, Json>, request: &Request) {
    let given = |field: &str| fields.get(field).filter(|value| !value.is_null());
    assert_eq!(fields["type"], request.kind);
    assert_eq!(given("id"), request.id.as_ref());
    assert!(
        request
            .id
            .as_ref()
            .is_none_or(|id| id.is_string() || id.is_number())
    );
    let allowed: &[&str] = match request.kind {
        "subscribe" => &["id", "type", "topics", "match", "template", "since"],
        "unsubscribe" => &["id", "type", "topics", "match", "template"],
        "send" => &["id", "type", "data"],
        "auth" => &["id", "type", "token"],
        _ => &["id", "type"],
    };
    assert!(fields.keys().all(|key| allowed.contains(&key.as_str())));
    let mut named = 0;
    for kind in ["topics", "match", "template"] {
        let items = fields
            .get(kind)
            .and_then(Json::as_array)
            .map_or(0, Vec::len);
        let there = request
            .subscriptions
            .iter()
            .filter(|chosen| chosen.kind == kind);
        assert_eq!(there.count(), items, "{kind}");
        named += items;
    }
    assert_eq!(named > 0, request.kind.ends_with("subscribe"));
    let since = given("since").map(|since| {
        since
            .as_str()
            .map_or_else(|| since.to_string(), str::to_owned)
    });
    assert_eq!(since.is_some(), request.since.is_some());
    if let (Some(since), Some((epoch, seq))) = (since, &request.since) {
        let number = since.rsplit(':').next().expect("a part");
        assert_eq!(number.parse(), Ok(*seq));
        assert_eq!(epoch.is_some(), since.contains(':'));
    }
    let field = match request.kind {
        "auth" => "token",
        _ => "data",
    };
    assert_eq!(
        request.data.is_some(),
        ["send", "auth"].contains(&request.kind)
    );
    match (fields.get(field), &request.data) {
        (Some(Json::String(given)), Some(data)) => assert_eq!(given, data),
        (Some(given), Some(data)) => {
            let data: Json = serde_json::from_str(data).expect("what is no text stays JSON");
            assert_eq!(*given, data);
        }
        _ => {}
    }
}

fn is_the_answer(json: Option<&Json>, error: &[u8]) {
    // An error frame must not be much larger than the client's frame.
    assert!(error.len() < 2048, "{} bytes", error.len());
    let frame = frame::json(error);
    assert_eq!(frame["type"], "error");
    let code = frame["code"].as_str().expect("a code");
    assert!(CODES.contains(&code), "{code}");
    assert!(!frame["message"].as_str().expect("a message").is_empty());
    // No value can represent this JSON, yet its id may be readable.
    if code == "unsupported_json" {
        assert!(json.is_none());
        return;
    }
    assert_eq!(json.is_none(), code == "bad_json");
    let fields = json.and_then(Json::as_object);
    let given = fields
        .and_then(|fields| fields.get("id"))
        .filter(|id| !id.is_null());
    if code == "bad_id" {
        assert!(given.is_some());
    } else {
        assert_eq!(frame.get("id"), given);
    }
}

/// Writes an equivalent request in a client's notation.
fn written(request: &Request) -> String {
    let mut fields = Map::from_iter([("type".to_owned(), request.kind.into())]);
    if let Some(id) = &request.id {
        fields.insert("id".to_owned(), id.clone());
    }
    for kind in ["topics", "match", "template"] {
        let chosen = request
            .subscriptions
            .iter()
            .filter(|chosen| chosen.kind == kind);
        let shown: Vec<_> = chosen.map(|chosen| chosen.shown.clone()).collect();
        if !shown.is_empty() {
            fields.insert(kind.to_owned(), shown.into());
        }
    }
    if let Some((epoch, seq)) = &request.since {
        let since = epoch
            .as_ref()
            .map_or(json!(seq), |epoch| json!(format!("{epoch}:{seq}")));
        fields.insert("since".to_owned(), since);
    }
    if let Some(data) = &request.data {
        let field = match request.kind {
            "auth" => "token",
            _ => "data",
        };
        fields.insert(field.to_owned(), data.as_str().into());
    }
    Json::Object(fields).to_string()
}
