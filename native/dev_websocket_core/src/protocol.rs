//! The control protocol: JSON text frames with a `type`, both ways. docs/PROTOCOL.md describes each.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cursor::Since;
use crate::fault_code::FaultCode;
use crate::frame;
use crate::message::template::Template;
use crate::pattern::{Pattern, PatternError};
use crate::settings::Settings;
use crate::subscription::{Kind, Quota, Subscription, TooMany};

/// The version of the protocol that `connection_established` tells.
pub(crate) const PROTOCOL: u32 = 1;

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
        since: Option<Since>,
    },
    Unsubscribe {
        id: RequestId,
        subscriptions: Vec<Subscription>,
    },
    Ping {
        id: RequestId,
    },
    /// For the listener, which gets the data.
    Send {
        id: RequestId,
        data: String,
    },
}

/// A request that cannot be served, as its error frame tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) id: RequestId,
    pub(crate) code: FaultCode,
    pub(crate) message: String,
}

/// What the server says, apart from publications.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    ConnectionEstablished {
        #[serde(flatten)]
        subscribed: Subscribed,
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
        new_topics: Vec<Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        new_match: Vec<Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        new_template: Vec<Value>,
        #[serde(flatten)]
        subscribed: Subscribed,
        seq: u64,
        timestamp: u64,
    },
    UnsubscriptionResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        message: String,
        removed_topics: Vec<Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        removed_match: Vec<Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        removed_template: Vec<Value>,
        #[serde(flatten)]
        subscribed: Subscribed,
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
    Live {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        seq: u64,
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
    /// The server forgot them before the client came back.
    Expired,
    /// The client's cursor is of another epoch.
    Epoch,
    /// More was cast than could be sent.
    Overload,
}

/// What a connection is subscribed to, each kind as the client writes it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Subscribed {
    #[serde(rename = "subscribed_topics")]
    pub(crate) topics: Vec<Value>,
    #[serde(rename = "subscribed_match", skip_serializing_if = "Vec::is_empty")]
    pub(crate) matches: Vec<Value>,
    #[serde(rename = "subscribed_template", skip_serializing_if = "Vec::is_empty")]
    pub(crate) templates: Vec<Value>,
}

impl Subscribed {
    /// How many there are of all kinds.
    pub(crate) fn count(&self) -> usize {
        self.topics.len() + self.matches.len() + self.templates.len()
    }

    pub(crate) fn add(&mut self, subscription: &Subscription) {
        match subscription.kind() {
            Kind::Topic => &mut self.topics,
            Kind::Match => &mut self.matches,
            Kind::Template => &mut self.templates,
        }
        .push(subscription.shown());
    }
}

/// The limits that concern a client, told when it connects.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limits {
    max_topics_per_connection: u64,
    max_matches_per_connection: u64,
    max_templates_per_connection: u64,
    max_last: u64,
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
            max_matches_per_connection: settings.max_matches_per_connection,
            max_templates_per_connection: settings.max_templates_per_connection,
            max_last: settings.max_last,
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
        subscribed: Subscribed,
        epoch: &'a str,
        seq: u64,
        limits: Limits,
        ignored: &'a [String],
        timestamp: u64,
    ) -> Self {
        Self::ConnectionEstablished {
            subscribed,
            timestamp,
            protocol: PROTOCOL,
            epoch,
            seq,
            limits,
            ignored,
        }
    }

    /// Up to where a client has had everything, which holds only when it has nothing to get from the past.
    pub(crate) fn cursor(&self) -> Option<u64> {
        match self {
            Self::ConnectionEstablished { seq, .. } | Self::Live { seq, .. } => Some(*seq),
            _ => None,
        }
    }

    /// The whole text frame.
    pub(crate) fn encode(&self) -> Bytes {
        // Text written to memory cannot fail; an empty frame would be valid all the same.
        frame::text(&serde_json::to_vec(self).unwrap_or_default()).into()
    }
}

impl Request {
    /// Reads a client's text frame. What names more expressions or templates than a connection may have is refused before
    /// they are read: to compile one can take a large part of a millisecond.
    ///
    /// # Errors
    /// The [`Fault`] to answer with. It names the field, and carries the request's `id` when that could be read.
    pub(crate) fn parse(text: &str, quota: Quota) -> Result<Self, Fault> {
        let fault = |code, message: String| Fault {
            id: None,
            code,
            message,
        };
        let json: Value = serde_json::from_str(text).map_err(|error| unread(text, &error))?;
        let Value::Object(mut fields) = json else {
            return Err(fault(
                FaultCode::BadMessage,
                "a message is a JSON object".into(),
            ));
        };
        let id =
            request_id(fields.remove("id")).map_err(|message| fault(FaultCode::BadId, message))?;
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
            "subscribe" => subscriptions(&mut fields, quota).and_then(|subscriptions| {
                Ok(Self::Subscribe {
                    id: id.clone(),
                    subscriptions,
                    since: since(&mut fields)?,
                })
            }),
            "unsubscribe" => {
                subscriptions(&mut fields, quota).map(|subscriptions| Self::Unsubscribe {
                    id: id.clone(),
                    subscriptions,
                })
            }
            "ping" => Ok(Self::Ping { id: id.clone() }),
            "send" => data(&mut fields, text).map(|data| Self::Send {
                id: id.clone(),
                data,
            }),
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

/// The `id` of a request, from its field.
fn request_id(field: Option<Value>) -> Result<RequestId, String> {
    match field {
        None | Some(Value::Null) => Ok(None),
        Some(id @ (Value::String(_) | Value::Number(_)))
            if id.to_string().len() <= MAX_ID_BYTES =>
        {
            Ok(Some(id))
        }
        Some(_) => Err(format!(
            "id is text or a number of at most {MAX_ID_BYTES} bytes"
        )),
    }
}

/// What is wrong with a text that was not read: it is no JSON, or JSON that no value can be made of. Then its `id` may
/// well be one.
fn unread(text: &str, error: &serde_json::Error) -> Fault {
    #[derive(Deserialize)]
    struct Written<'t> {
        #[serde(borrow)]
        id: Option<&'t RawValue>,
    }
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Fault {
            id: None,
            code: FaultCode::BadJson,
            message: format!("not JSON: {error}"),
        };
    }
    let id = serde_json::from_str(text).ok().and_then(|Written { id }| {
        let id = serde_json::from_str(id?.get()).ok();
        request_id(id).ok().flatten()
    });
    Fault {
        id,
        code: FaultCode::UnsupportedJson,
        message: format!("JSON that cannot be held: {error}"),
    }
}

type Problem = (FaultCode, String);

/// The fields `topics`, `match` and `template`, of which at least one must name something.
fn subscriptions(
    fields: &mut Map<String, Value>,
    quota: Quota,
) -> Result<Vec<Subscription>, Problem> {
    let mut subscriptions = Vec::new();
    let mut is_missing = true;
    for (field, kind, read) in READERS {
        let items = match fields.remove(field) {
            None => continue,
            Some(Value::Array(items)) if !items.is_empty() => items,
            Some(_) => {
                let message = format!("{field} is a list of at least one item");
                return Err((FaultCode::BadField, message));
            }
        };
        is_missing = false;
        // Topics cost little, and those that are held already do not count.
        if kind != Kind::Topic {
            quota
                .check(items.iter().map(|_| kind))
                .map_err(|TooMany { code, message }| (code, message))?;
        }
        for item in items {
            subscriptions.push(read(item)?);
        }
    }
    if is_missing {
        return Err((FaultCode::BadField, "topics is missing".into()));
    }
    Ok(subscriptions)
}

type Reader = fn(Value) -> Result<Subscription, Problem>;

const READERS: [(&str, Kind, Reader); 3] = [
    ("topics", Kind::Topic, |item| match item {
        Value::String(name) => {
            Subscription::parse(&name).map_err(|error| (FaultCode::BadTopic, error.to_string()))
        }
        _ => Err((FaultCode::BadField, "topics is a list of texts".into())),
    }),
    ("match", Kind::Match, |item| match item {
        Value::String(text) => regex(&text),
        _ => Err((FaultCode::BadField, "match is a list of texts".into())),
    }),
    ("template", Kind::Template, |item| {
        Template::from_json(item)
            .map(Subscription::Template)
            .map_err(|error| (FaultCode::BadTemplate, format!("template: {error}")))
    }),
];

/// A regular expression over topics, as a client writes it.
pub(crate) fn regex(text: &str) -> Result<Subscription, Problem> {
    Pattern::regex(text)
        .map(Subscription::Pattern)
        .map_err(|error| {
            let code = match error {
                PatternError::TooBig => FaultCode::RegexTooBig,
                _ => FaultCode::BadRegex,
            };
            (code, format!("match: {error}"))
        })
}

fn since(fields: &mut Map<String, Value>) -> Result<Option<Since>, Problem> {
    let text = match fields.remove("since") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            let message = "since is a text or a number".into();
            return Err((FaultCode::BadField, message));
        }
    };
    Since::parse(&text)
        .map(Some)
        .map_err(|error| (FaultCode::BadSince, error.to_string()))
}

/// The data of a request: a text itself, anything else as it is written in the request.
fn data(fields: &mut Map<String, Value>, text: &str) -> Result<String, (FaultCode, String)> {
    #[derive(Deserialize)]
    struct Written<'t> {
        #[serde(borrow)]
        data: &'t RawValue,
    }
    match fields.remove("data") {
        Some(Value::String(data)) => Ok(data),
        // It fails only where `data` stands twice; the last one counts, as for every field.
        Some(data) => Ok(serde_json::from_str(text).map_or_else(
            |_| data.to_string(),
            |Written { data }| data.get().to_owned(),
        )),
        None => Err((FaultCode::BadField, "data is missing".into())),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
