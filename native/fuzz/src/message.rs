//! A message that comes as JSON text, on its way to a frame.

use dev_websocket_core::internals::Frame;
use dev_websocket_core::message::Value;
use dev_websocket_core::message::provenance::Provenance;
use dev_websocket_core::{Rejected, Settings};
use serde_json::{Value as Json, json};

use super::frame;
use super::values::shown;

/// See the module's text.
pub fn check(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(input) else {
        return;
    };
    let message = Value::from(&json);
    let set = Settings::default().topic_rules().topics_of(&message);
    for commitments in [false, true] {
        let encode = |limit| {
            Frame::encode(
                set.topics.clone(),
                &message,
                &Provenance::default(),
                limit,
                commitments,
                7,
            )
        };
        let whole = encode(usize::MAX).expect("no limit");
        let data = frame::payload(&whole.raw_bytes()).to_owned();
        assert_eq!(encode(data.len()).map(|_| ()), Ok(()));
        assert_eq!(encode(data.len() - 1).map(|_| ()), Err(Rejected::TooLarge));
        let data: Json = serde_json::from_str(&data).expect("data is JSON");
        stays_within_the_node(&data, commitments);
        let expected = shown(&message, commitments);
        assert_eq!(data, expected);
        let frame = frame::json(whole.bytes());
        assert_eq!(frame["data"], data);
        assert!(frame["timestamp"].is_u64());
        let topics: Vec<&str> = set.topics.iter().map(|topic| topic.name()).collect();
        assert_eq!(frame["topics"], json!(topics));
        assert_eq!(frame["topic"], json!(topics.first()));
        assert_eq!(
            (&frame["type"], &frame["seq"]),
            (&json!("message"), &json!(7))
        );
        assert_eq!(frame.as_object().map(serde_json::Map::len), Some(6));
        // Nothing is known of it, so templates see it as it is sent.
        assert_eq!(whole.message(), Some(data));
    }
}

/// Keys that start with `priv` never leave the node, and commitments only when the settings say so.
pub fn stays_within_the_node(data: &Json, commitments: bool) {
    match data {
        Json::Array(items) => items
            .iter()
            .for_each(|item| stays_within_the_node(item, commitments)),
        Json::Object(fields) => {
            for (key, value) in fields {
                let key = key.to_ascii_lowercase();
                assert!(
                    !key.starts_with("priv") && (commitments || key != "commitments"),
                    "{key}"
                );
                stays_within_the_node(value, commitments);
            }
        }
        _ => {}
    }
}
