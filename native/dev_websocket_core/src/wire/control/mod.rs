//! The control protocol: JSON text frames with a `type`, both ways. docs/PROTOCOL.md describes each.

mod reading;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::reading::regex;
use self::reading::{data, keep_large_integers, request_id, since, subscriptions, unread};
use crate::error_code::ErrorCode;
use crate::settings::Settings;
use crate::subscription::{Kind, Quota, Subscription};
use crate::wire::cursor::Since;
use crate::wire::frame;

/// The version of the protocol that `connection_established` tells.
pub(crate) const PROTOCOL: u32 = 1;

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
pub(crate) struct RequestError {
    pub(crate) id: RequestId,
    pub(crate) code: ErrorCode,
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
    /// Unlike the other gap it is a publication, with a number of its own.
    #[serde(rename = "gap")]
    SlotGap {
        reason: SlotGapReason,
        process: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        from_slot: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to_slot: Option<u64>,
        dropped: u64,
        seq: u64,
        timestamp: u64,
    },
    Live {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        seq: u64,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        code: ErrorCode,
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
    /// The server failed to match the publication.
    RequestError,
}

/// Why results of a process are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SlotGapReason {
    /// The node's cache does not have the slots, but later ones.
    NotCached,
    /// The node does not vouch for the slots that it has.
    Withheld,
    /// Nobody was subscribed when they were computed.
    NotFollowed,
    /// The node follows too many processes already.
    Limit,
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
    max_regexes_per_connection: u64,
    max_templates_per_connection: u64,
    max_last: u64,
    max_inbound_bytes: u64,
    max_inbound_rate: u64,
    max_message_bytes: u64,
    send_buffer_bytes: u64,
    ping_interval: u64,
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            max_topics_per_connection: settings.max_topics_per_connection,
            max_regexes_per_connection: settings.max_regexes_per_connection,
            max_templates_per_connection: settings.max_templates_per_connection,
            max_last: settings.max_last,
            max_inbound_bytes: settings.max_inbound_bytes,
            max_inbound_rate: settings.max_inbound_rate,
            max_message_bytes: settings.max_message_bytes,
            send_buffer_bytes: settings.send_buffer_bytes,
            ping_interval: u64::try_from(settings.ping_interval.as_millis()).unwrap_or(u64::MAX),
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
    /// Reads a client's text frame. A request with more expressions or templates than a connection may have is refused
    /// before they are read: to compile one can take a large part of a millisecond.
    ///
    /// # Errors
    /// The [`RequestError`] to answer with. It names the field, and carries the request's `id` when that could be read.
    pub(crate) fn parse(text: &str, quota: Quota) -> Result<Self, RequestError> {
        let fault = |code, message: String| RequestError {
            id: None,
            code,
            message,
        };
        let json: Value = serde_json::from_str(text).map_err(|error| unread(text, &error))?;
        let Value::Object(mut fields) = json else {
            return Err(fault(
                ErrorCode::BadMessage,
                "a message must be a JSON object".into(),
            ));
        };
        let id =
            request_id(fields.remove("id")).map_err(|message| fault(ErrorCode::BadId, message))?;
        let kind = match fields.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => {
                return Err(RequestError {
                    id,
                    code: ErrorCode::BadMessage,
                    message: "type must be a string".into(),
                });
            }
            None => {
                return Err(RequestError {
                    id,
                    code: ErrorCode::BadMessage,
                    message: "type is missing".into(),
                });
            }
        };
        if let Some(template) = fields.get_mut("template") {
            keep_large_integers(template, text);
        }
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
                ErrorCode::UnknownType,
                format!("unknown type {:?}", shown(&kind)),
            )),
        };
        result
            .and_then(|request| match fields.keys().next() {
                None => Ok(request),
                Some(field) => Err((
                    ErrorCode::UnknownField,
                    format!("{kind} has no field {:?}", shown(field)),
                )),
            })
            .map_err(|(code, message)| RequestError { id, code, message })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
