//! The control protocol: JSON text frames with a `type`, both ways. docs/PROTOCOL.md describes each.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::frame;
use crate::settings::Settings;
use crate::subscription::Subscription;

/// The version of the protocol that `connection_established` tells.
const PROTOCOL: u32 = 1;

/// The longest `id` of a request, in bytes of its JSON.
const MAX_ID_BYTES: usize = 256;

/// A request's `id`, given back in its reply.
pub(crate) type RequestId = Option<Value>;

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Subscribe {
        id: RequestId,
        subscriptions: Vec<Subscription>,
    },
    Unsubscribe {
        id: RequestId,
        subscriptions: Vec<Subscription>,
    },
    Ping {
        id: RequestId,
    },
}

/// A request that cannot be served, as its error frame tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) id: RequestId,
    pub(crate) code: FaultCode,
    pub(crate) message: String,
}

/// The error codes of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultCode {
    /// A binary frame: control messages are text.
    BadFrame,
    /// Text that is no JSON.
    BadJson,
    /// JSON that is no object with a text `type`.
    BadMessage,
    /// An `id` that is neither text nor number, or too long.
    BadId,
    /// A `type` that is not defined.
    UnknownType,
    /// A field that the type does not have.
    UnknownField,
    /// A field of the wrong kind, or missing.
    BadField,
    /// A text that names no topic.
    BadTopic,
    /// More topics than `max_topics_per_connection`.
    TooManyTopics,
}

/// What the server says, apart from publications.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    ConnectionEstablished {
        subscribed_topics: &'a [String],
        timestamp: u64,
        protocol: u32,
        epoch: &'a str,
        seq: u64,
        limits: Limits,
        ignored: &'a [String],
    },
    SubscriptionResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        message: String,
        new_topics: &'a [String],
        subscribed_topics: &'a [String],
        seq: u64,
        timestamp: u64,
    },
    UnsubscriptionResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        message: String,
        removed_topics: &'a [String],
        subscribed_topics: &'a [String],
        seq: u64,
        timestamp: u64,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        timestamp: u64,
        seq: u64,
    },
    Gap {
        reason: GapReason,
        dropped: u64,
        after: u64,
        next: u64,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        code: FaultCode,
        message: &'a str,
        timestamp: u64,
    },
}

/// Why publications are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GapReason {
    /// The client read too slowly.
    Slow,
}

/// The limits that concern a client, told when it connects.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limits {
    max_topics_per_connection: u64,
    max_inbound_bytes: u64,
    max_inbound_rate: u64,
    max_message_bytes: u64,
    pending_bytes: u64,
    ping_interval: u64,
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            max_topics_per_connection: settings.max_topics_per_connection,
            max_inbound_bytes: settings.max_inbound_bytes,
            max_inbound_rate: settings.max_inbound_rate,
            max_message_bytes: settings.max_message_bytes,
            pending_bytes: settings.pending_bytes,
            ping_interval: settings.ping_interval,
        }
    }
}

impl<'a> Reply<'a> {
    /// The first frame of a connection.
    pub(crate) fn established(
        topics: &'a [String],
        epoch: &'a str,
        seq: u64,
        limits: Limits,
        ignored: &'a [String],
        timestamp: u64,
    ) -> Self {
        Self::ConnectionEstablished {
            subscribed_topics: topics,
            timestamp,
            protocol: PROTOCOL,
            epoch,
            seq,
            limits,
            ignored,
        }
    }

    /// The whole text frame.
    pub(crate) fn encode(&self) -> Bytes {
        // Text written to memory cannot fail; an empty frame would be valid all the same.
        frame::text(&serde_json::to_vec(self).unwrap_or_default()).into()
    }
}

impl Request {
    /// Reads a client's text frame.
    ///
    /// # Errors
    /// The [`Fault`] to answer with. It names the field, and carries the request's `id` when that could be read.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |code, message: String| Fault {
            id: None,
            code,
            message,
        };
        let json: Value = serde_json::from_str(text)
            .map_err(|error| fault(FaultCode::BadJson, format!("not JSON: {error}")))?;
        let Value::Object(mut fields) = json else {
            return Err(fault(
                FaultCode::BadMessage,
                "a message is a JSON object".into(),
            ));
        };
        let id = match fields.remove("id") {
            None | Some(Value::Null) => None,
            Some(id @ (Value::String(_) | Value::Number(_)))
                if id.to_string().len() <= MAX_ID_BYTES =>
            {
                Some(id)
            }
            Some(_) => {
                return Err(fault(
                    FaultCode::BadId,
                    format!("id is text or a number of at most {MAX_ID_BYTES} bytes"),
                ));
            }
        };
        let kind = match fields.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => {
                return Err(Fault {
                    id,
                    code: FaultCode::BadMessage,
                    message: "type is a text".into(),
                });
            }
            None => {
                return Err(Fault {
                    id,
                    code: FaultCode::BadMessage,
                    message: "type is missing".into(),
                });
            }
        };
        let result = match kind.as_str() {
            "subscribe" => subscriptions(&mut fields).map(|subscriptions| Self::Subscribe {
                id: id.clone(),
                subscriptions,
            }),
            "unsubscribe" => subscriptions(&mut fields).map(|subscriptions| Self::Unsubscribe {
                id: id.clone(),
                subscriptions,
            }),
            "ping" => Ok(Self::Ping { id: id.clone() }),
            _ => Err((
                FaultCode::UnknownType,
                format!("unknown type {:?}", shown(&kind)),
            )),
        };
        result
            .and_then(|request| match fields.keys().next() {
                None => Ok(request),
                Some(field) => Err((
                    FaultCode::UnknownField,
                    format!("{kind} has no field {:?}", shown(field)),
                )),
            })
            .map_err(|(code, message)| Fault { id, code, message })
    }
}

fn subscriptions(
    fields: &mut Map<String, Value>,
) -> Result<Vec<Subscription>, (FaultCode, String)> {
    let topics = match fields.remove("topics") {
        Some(Value::Array(topics)) if !topics.is_empty() => topics,
        Some(_) => {
            return Err((
                FaultCode::BadField,
                "topics is a list of at least one text".into(),
            ));
        }
        None => return Err((FaultCode::BadField, "topics is missing".into())),
    };
    topics
        .iter()
        .map(|topic| match topic {
            Value::String(name) => {
                Subscription::parse(name).map_err(|error| (FaultCode::BadTopic, error.to_string()))
            }
            _ => Err((FaultCode::BadField, "topics is a list of texts".into())),
        })
        .collect()
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn code(text: &str) -> (RequestId, FaultCode) {
        let fault = Request::parse(text).unwrap_err();
        assert!(!fault.message.is_empty());
        (fault.id, fault.code)
    }

    #[test]
    fn requests_are_read_with_their_ids() {
        assert_eq!(
            Request::parse(r#"{"type":"subscribe","id":1,"topics":["a","*"]}"#),
            Ok(Request::Subscribe {
                id: Some(json!(1)),
                subscriptions: vec![Subscription::parse("a").unwrap(), Subscription::Everything]
            })
        );
        assert_eq!(
            Request::parse(r#"{"type":"ping","id":"x"}"#),
            Ok(Request::Ping {
                id: Some(json!("x"))
            })
        );
        assert_eq!(
            Request::parse(r#"{"type":"ping"}"#),
            Ok(Request::Ping { id: None })
        );
    }

    #[test]
    fn each_fault_has_its_code_and_keeps_the_id() {
        for (text, id, expected) in [
            ("", None, FaultCode::BadJson),
            ("{", None, FaultCode::BadJson),
            ("[1]", None, FaultCode::BadMessage),
            ("\"ping\"", None, FaultCode::BadMessage),
            (r#"{"id":1}"#, Some(json!(1)), FaultCode::BadMessage),
            (r#"{"type":7}"#, None, FaultCode::BadMessage),
            (r#"{"type":"ping","id":[]}"#, None, FaultCode::BadId),
            (
                r#"{"type":"dance","id":2}"#,
                Some(json!(2)),
                FaultCode::UnknownType,
            ),
            (
                r#"{"type":"ping","id":2,"extra":1}"#,
                Some(json!(2)),
                FaultCode::UnknownField,
            ),
            (
                r#"{"type":"subscribe","id":3}"#,
                Some(json!(3)),
                FaultCode::BadField,
            ),
            (
                r#"{"type":"subscribe","topics":[]}"#,
                None,
                FaultCode::BadField,
            ),
            (
                r#"{"type":"subscribe","topics":"a"}"#,
                None,
                FaultCode::BadField,
            ),
            (
                r#"{"type":"subscribe","topics":[1]}"#,
                None,
                FaultCode::BadField,
            ),
            (
                r#"{"type":"unsubscribe","topics":["a,b"]}"#,
                None,
                FaultCode::BadTopic,
            ),
            (
                r#"{"type":"subscribe","topics":[""]}"#,
                None,
                FaultCode::BadTopic,
            ),
        ] {
            assert_eq!(code(text), (id, expected), "{text}");
        }
        let id = "i".repeat(MAX_ID_BYTES);
        assert_eq!(
            code(&json!({"type": "ping", "id": id}).to_string()).1,
            FaultCode::BadId
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
            let _ = Request::parse(&text);
        }
    }
}
