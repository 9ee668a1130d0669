//! The control protocol: JSON text frames with a `type` in both directions. docs/PROTOCOL.md describes each type.

mod reading;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use self::reading::regex;
use self::reading::{
    data, edges, keep_large_integers, request_id, since, slots, subscriptions, token, unread,
};
use crate::access::{Session, Token};
use crate::error_code::ErrorCode;
use crate::settings::{Access, Settings};
use crate::subscription::{Kind, Quota, Subscription};
use crate::wire::cursor::Since;
use crate::wire::format::Format;
use crate::wire::frame;
use crate::wire::slots::SlotStart;

/// The protocol version that `connection_established` reports.
pub(crate) const PROTOCOL: u32 = 1;

/// A request's `id`, which the reply repeats.
pub(crate) type RequestId = Option<Value>;

/// A request of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Subscribe {
        id: RequestId,
        subscriptions: Vec<Subscription>,
        since: Option<Since>,
        slots: Option<SlotStart>,
    },
    Unsubscribe {
        id: RequestId,
        subscriptions: Vec<Subscription>,
    },
    Ping {
        id: RequestId,
    },
    /// Hands over a token that is not verified yet.
    Auth {
        id: RequestId,
        token: Token,
    },
    /// A verified token, as the reading side passes it on.
    Authorized {
        id: RequestId,
        session: VerifiedSession,
    },
    /// Sends data to the listener.
    Send {
        id: RequestId,
        data: String,
    },
}

/// The session of a verified token. No client can name it, so two are equal only as the same object.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedSession(pub(crate) Arc<Session>);

impl PartialEq for VerifiedSession {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The error of a request that cannot be served, as its error frame reports it.
#[derive(Debug, PartialEq)]
pub(crate) struct RequestError {
    pub(crate) id: RequestId,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// A frame of the server other than a publication.
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
        /// The end of the token, in milliseconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_ends: Option<u64>,
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
    AuthResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        sub: &'a str,
        token_ends: u64,
        timestamp: u64,
    },
    /// The token ends soon, at a time in milliseconds since 1970.
    TokenExpires { at: u64 },
    Gap {
        reason: GapReason,
        dropped: u64,
        after: u64,
        next: u64,
        /// The current epoch, for a gap between two epochs.
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<&'a str>,
    },
    /// A gap of slots. Unlike the other gap it is a publication with a sequence number of its own.
    #[serde(rename = "gap")]
    SlotGap {
        reason: SlotGapReason,
        process: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        from_slot: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to_slot: Option<u64>,
        dropped: u64,
        /// None in a slot replay.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
        timestamp: u64,
    },
    Live {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        /// The process of a slot replay, and its first slot that comes live.
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        slot: Option<u64>,
        seq: u64,
    },
    /// The stream is away since a time, in milliseconds since 1970; a `live` frame follows when it is back.
    Stale { since: u64 },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a RequestId,
        code: ErrorCode,
        message: &'a str,
        timestamp: u64,
    },
}

/// The reason why publications are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GapReason {
    /// The client is a slow consumer.
    Slow,
    /// The history dropped them before the client reconnected.
    Expired,
    /// The client's cursor belongs to another epoch.
    Epoch,
    /// The publish queue was full.
    Overload,
    /// A record of the stream could not be read.
    Unreadable,
    /// The server panicked while it matched the publication.
    #[serde(rename = "fault")]
    Panic,
}

/// The reason why results of a process are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SlotGapReason {
    /// The node's cache lacks the slots, though it has later ones.
    NotCached,
    /// The node does not vouch for the slots in its cache.
    Withheld,
    /// No client was subscribed when the slots were computed.
    NotFollowed,
    /// The node already follows its maximum number of processes.
    Limit,
    /// A slot replay left the slots out.
    NotReplayed,
}

/// The subscriptions of a connection by kind, in the form that the client wrote.
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
    /// Returns the number of subscriptions of all kinds.
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

/// The limits that concern a client; the first frame reports them.
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
    /// Makes the first frame of a connection.
    pub(crate) fn established(
        subscribed: Subscribed,
        epoch: &'a str,
        seq: u64,
        limits: Limits,
        ignored: &'a [String],
        token_ends: Option<u64>,
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
            token_ends,
        }
    }

    /// Returns whether the client is current with this frame, so that its number can be a cursor.
    pub(crate) fn is_current(&self) -> bool {
        matches!(self, Self::ConnectionEstablished { .. } | Self::Live { .. })
    }

    /// Returns the whole text frame.
    pub(crate) fn encode(&self) -> Bytes {
        // Serialization to memory cannot fail; an empty frame would still be valid.
        frame::text(&serde_json::to_vec(self).unwrap_or_default()).into()
    }
}

/// The requests that the settings permit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permitted {
    /// Changes of subscriptions and messages to the listener.
    control: bool,
    /// Tokens. An open server does not know the type of such a request.
    tokens: bool,
    /// Processes alone, whose edges the client gets.
    edges: bool,
}

impl Permitted {
    /// Permits everything.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) const ALL: Self = Self {
        control: true,
        tokens: true,
        edges: false,
    };

    pub(crate) fn of(settings: &Settings, format: Format) -> Self {
        Self {
            control: settings.control,
            tokens: settings.access == Access::Token,
            edges: format == Format::Edges,
        }
    }
}

/// Requests that the setting `control` permits. A ping is a sign of life, so it is always permitted.
const CONTROLLED: [&str; 3] = ["subscribe", "unsubscribe", "send"];

impl Request {
    /// Parses a client's text frame. The parser counts expressions and templates against the connection's limits
    /// before it compiles any, because one can take a large part of a millisecond.
    ///
    /// # Errors
    /// The call returns the [`RequestError`] to answer with. It names the field, and has the request's `id` if
    /// readable.
    pub(crate) fn parse(
        text: &str,
        quota: Quota,
        permitted: Permitted,
    ) -> Result<Self, RequestError> {
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
        if kind == "auth" && !permitted.tokens {
            return Err(unknown_type(id, &kind));
        }
        if !permitted.control && CONTROLLED.contains(&kind.as_str()) {
            return Err(RequestError {
                id,
                code: ErrorCode::Forbidden,
                message: format!("control is off: this server does not take {kind} requests"),
            });
        }
        if let Some(template) = fields.get_mut("template") {
            keep_large_integers(template, text);
        }
        let wanted = |fields: &mut Map<String, Value>| {
            if permitted.edges {
                edges(fields)
            } else {
                subscriptions(fields, quota)
            }
        };
        let result = match kind.as_str() {
            "subscribe" => wanted(&mut fields).and_then(|subscriptions| {
                let since = since(&mut fields)?;
                if since.is_some() && permitted.edges {
                    let message = "since is not available with format=edges; use from-slot";
                    return Err((ErrorCode::BadSince, message.into()));
                }
                Ok(Self::Subscribe {
                    id: id.clone(),
                    subscriptions,
                    slots: slots(&mut fields, since.is_some())?,
                    since,
                })
            }),
            "unsubscribe" => wanted(&mut fields).map(|subscriptions| {
                fields.remove("process");
                Self::Unsubscribe {
                    id: id.clone(),
                    subscriptions,
                }
            }),
            "ping" => Ok(Self::Ping { id: id.clone() }),
            "auth" => token(&mut fields).map(|token| Self::Auth {
                id: id.clone(),
                token,
            }),
            "send" => data(&mut fields, text).map(|data| Self::Send {
                id: id.clone(),
                data,
            }),
            _ => return Err(unknown_type(id, &kind)),
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

/// Returns the error of a request whose type is not defined.
fn unknown_type(id: RequestId, kind: &str) -> RequestError {
    RequestError {
        id,
        code: ErrorCode::UnknownType,
        message: format!("unknown type {:?}", shown(kind)),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
