//! The query of a URL: any text is read or refused, what is read stays within the limits, and to ask for it again
//! gives the same.

use dev_websocket_core::Settings;
use dev_websocket_core::internals::reading::{self, Query};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

const KNOWN: [&str; 8] = [
    "topic", "process", "match", "template", "since", "last", "slow", "format",
];
const ERRORS: [&str; 12] = [
    "bad_topic",
    "bad_regex",
    "regex_too_big",
    "bad_template",
    "bad_since",
    "bad_last",
    "bad_slow",
    "bad_format",
    "bad_encoding",
    "too_many_topics",
    "too_many_matches",
    "too_many_templates",
];

/// See the module's text.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // Small limits, so that they are reached.
    let settings = Settings {
        max_topics_per_connection: 4,
        max_regexes_per_connection: 2,
        max_templates_per_connection: 2,
        max_last: 100,
        ..Settings::default()
    };
    match reading::query(text, &settings) {
        Ok(query) => is_in_order(text, &query, &settings),
        Err((status, body)) => {
            assert_eq!(status, 400);
            let body: Json = serde_json::from_slice(&body).expect("a refusal is JSON");
            let error = body["error"].as_str().expect("a code");
            assert!(ERRORS.contains(&error), "{error}");
            let message = body["message"].as_str().expect("a message");
            assert!(!message.is_empty());
            // The name of a parameter may be as long as the query.
            assert!(message.len() <= 1000 + 3 * text.len());
        }
    }
}

fn is_in_order(text: &str, query: &Query, settings: &Settings) {
    for (kind, limit) in [
        ("topics", settings.max_topics_per_connection),
        ("match", settings.max_regexes_per_connection),
        ("template", settings.max_templates_per_connection),
    ] {
        let held = query
            .subscriptions
            .iter()
            .filter(|chosen| chosen.kind == kind);
        assert!(held.count() as u64 <= limit, "{kind}");
    }
    for (place, chosen) in query.subscriptions.iter().enumerate() {
        assert!(
            !query.subscriptions[..place].contains(chosen),
            "{chosen:?} stands there twice"
        );
    }
    assert!(
        query
            .last
            .is_none_or(|last| last as u64 <= settings.max_last)
    );
    assert!(query.since.is_none() || query.last.is_none());
    if query.is_raw {
        assert!(query.since.is_none() && query.slow != "gap");
    }
    let parameters: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
    let unknown = parameters
        .iter()
        .map(|(name, _)| &**name)
        .filter(|name| !KNOWN.contains(name));
    assert!(
        query.ignored.iter().eq(unknown.take(16)),
        "{:?}",
        query.ignored
    );
    // Whatever is not refused has an effect.
    for (name, kind) in [
        ("match", "match"),
        ("template", "template"),
        ("process", "topics"),
    ] {
        let asked = parameters.iter().any(|(there, _)| there == name);
        let held = query.subscriptions.iter().any(|chosen| chosen.kind == kind);
        assert!(!asked || held, "{name}");
    }
    let again = reading::query(&written(query), settings);
    assert_eq!(again.as_ref(), Ok(query));
}

/// The query as a client would write it that wants the same.
fn written(query: &Query) -> String {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for chosen in &query.subscriptions {
        let name = chosen.kind.trim_end_matches('s');
        let value = chosen
            .shown
            .as_str()
            .map_or_else(|| chosen.shown.to_string(), str::to_owned);
        parameters.push((name.to_owned(), value));
    }
    if let Some((epoch, seq)) = &query.since {
        let cursor = epoch
            .as_ref()
            .map_or(seq.to_string(), |epoch| format!("{epoch}:{seq}"));
        parameters.push(("since".to_owned(), cursor));
    }
    if let Some(last) = query.last {
        parameters.push(("last".to_owned(), last.to_string()));
    }
    parameters.push(("slow".to_owned(), query.slow.to_owned()));
    let format = if query.is_raw { "raw" } else { "json" };
    parameters.push(("format".to_owned(), format.to_owned()));
    parameters.extend(
        query
            .ignored
            .iter()
            .map(|name| (name.clone(), String::new())),
    );
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let written = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    written.collect::<Vec<_>>().join("&")
}
