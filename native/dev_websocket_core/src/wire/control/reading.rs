//! Parsing of the fields of a client's request.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{RequestError, RequestId};
use crate::access::Token;
use crate::error_code::ErrorCode;
use crate::message::numbers::large_as_text;
use crate::subscription::pattern::{Pattern, PatternError};
use crate::subscription::template::Template;
use crate::subscription::{Kind, Quota, Subscription, TooMany};
use crate::wire::cursor::Since;
use crate::wire::slots::{SlotStart, SlotStartError};

/// The maximum length of a request's `id`, in bytes of its JSON.
pub(super) const MAX_ID_BYTES: usize = 256;

/// An error code and its message.
pub(crate) type Problem = (ErrorCode, String);

/// Reads a request's `id`.
pub(super) fn request_id(field: Option<Value>) -> Result<RequestId, String> {
    match field {
        None | Some(Value::Null) => Ok(None),
        Some(id @ (Value::String(_) | Value::Number(_)))
            if id.to_string().len() <= MAX_ID_BYTES =>
        {
            Ok(Some(id))
        }
        Some(_) => Err(format!(
            "id must be a string or a number of at most {MAX_ID_BYTES} bytes"
        )),
    }
}

/// Makes the error of a text that could not be parsed: it is not JSON, or no value can represent it. Its `id` may
/// still be readable.
pub(super) fn unread(text: &str, error: &serde_json::Error) -> RequestError {
    #[derive(Deserialize)]
    struct Written<'t> {
        #[serde(borrow)]
        id: Option<&'t RawValue>,
    }
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return RequestError {
            id: None,
            code: ErrorCode::BadJson,
            message: format!("not JSON: {error}"),
        };
    }
    let id = serde_json::from_str(text).ok().and_then(|Written { id }| {
        let id = serde_json::from_str(id?.get()).ok();
        request_id(id).ok().flatten()
    });
    RequestError {
        id,
        code: ErrorCode::UnsupportedJson,
        message: format!("unsupported JSON: {error}"),
    }
}

/// Reads the fields `topics`, `match`, `template` and `process`, of which at least one must have an entry. Duplicates
/// are removed. The limits per connection also apply to `unsubscribe`, because the shard looks up each subscription.
pub(super) fn subscriptions(
    fields: &mut Map<String, Value>,
    quota: Quota,
) -> Result<Vec<Subscription>, Problem> {
    let (mut subscriptions, mut distinct) = (Vec::new(), HashSet::new());
    let mut is_missing = true;
    for (field, kind, read) in READERS {
        let items = match fields.remove(field) {
            None => continue,
            Some(Value::Array(items)) if !items.is_empty() => items,
            Some(_) => {
                let message = format!("{field} must be a list with at least one item");
                return Err((ErrorCode::BadField, message));
            }
        };
        is_missing = false;
        let too_many = |TooMany { code, message }: TooMany| (code, message);
        // Topics are cheap to read, so only distinct ones count.
        if kind != Kind::Topic {
            quota.check_count(kind, items.len()).map_err(too_many)?;
        }
        let before = subscriptions.len();
        for item in items {
            let subscription = read(item)?;
            if distinct.insert(subscription.clone()) {
                subscriptions.push(subscription);
                quota
                    .check_count(kind, subscriptions.len() - before)
                    .map_err(too_many)?;
            }
        }
    }
    // The field is short for a topic, as in a URL. A slot replay reads it again.
    if let Some(process) = fields.get("process") {
        is_missing = false;
        let subscription = of_process(process)?;
        if distinct.insert(subscription.clone()) {
            subscriptions.push(subscription);
            let topics = subscriptions
                .iter()
                .filter(|subscription| subscription.kind() == Kind::Topic);
            quota
                .check_count(Kind::Topic, topics.count())
                .map_err(|TooMany { code, message }| (code, message))?;
        }
    }
    if is_missing {
        return Err((ErrorCode::BadField, "topics is missing".into()));
    }
    Ok(subscriptions)
}

/// Reads the field `process` of a connection for edges, which has no other subscriptions.
pub(super) fn edges(fields: &mut Map<String, Value>) -> Result<Vec<Subscription>, Problem> {
    for (field, _, _) in READERS {
        if fields.contains_key(field) {
            let message = format!("{field} is not available with format=edges; use process");
            return Err((ErrorCode::BadField, message));
        }
    }
    let id = match fields.get("process") {
        Some(Value::String(id)) => id,
        Some(_) => return Err((ErrorCode::BadField, "process must be a string".into())),
        None => return Err((ErrorCode::BadField, "process is missing".into())),
    };
    let subscription = Subscription::edges_of(id).ok_or_else(|| {
        let message = "process must be an id of 43 characters with format=edges";
        (ErrorCode::BadProcess, message.to_owned())
    })?;
    Ok(vec![subscription])
}

fn of_process(process: &Value) -> Result<Subscription, Problem> {
    let Value::String(id) = process else {
        let message = "process must be a string".into();
        return Err((ErrorCode::BadField, message));
    };
    if id.is_empty() {
        return Err((ErrorCode::BadTopic, "process must not be empty".into()));
    }
    Subscription::parse(&format!("process:{id}"))
        .map_err(|error| (ErrorCode::BadTopic, format!("process: {error}")))
}

type Reader = fn(Value) -> Result<Subscription, Problem>;

const READERS: [(&str, Kind, Reader); 3] = [
    ("topics", Kind::Topic, |item| match item {
        Value::String(name) => {
            Subscription::parse(&name).map_err(|error| (ErrorCode::BadTopic, error.to_string()))
        }
        _ => Err((
            ErrorCode::BadField,
            "topics must be a list of strings".into(),
        )),
    }),
    ("match", Kind::Match, |item| match item {
        Value::String(text) => regex(&text),
        _ => Err((
            ErrorCode::BadField,
            "match must be a list of strings".into(),
        )),
    }),
    ("template", Kind::Template, |item| {
        Template::from_json(item)
            .map(Subscription::Template)
            .map_err(|error| (ErrorCode::BadTemplate, format!("template: {error}")))
    }),
];

/// Reads a client's regular expression over topics.
pub(crate) fn regex(text: &str) -> Result<Subscription, Problem> {
    Pattern::regex(text)
        .map(Subscription::Pattern)
        .map_err(|error| {
            let code = match error {
                PatternError::TooBig => ErrorCode::RegexTooBig,
                _ => ErrorCode::BadRegex,
            };
            (code, format!("match: {error}"))
        })
}

/// Parses templates again if a number exceeds the range of the JSON parser.
pub(super) fn keep_large_integers(template: &mut Value, text: &str) {
    #[derive(Deserialize)]
    struct Written {
        template: Value,
    }
    // This fails only for a duplicate `template`; the last one counts, as for every field.
    if let Cow::Owned(text) = large_as_text(text)
        && let Ok(written) = serde_json::from_str::<Written>(&text)
    {
        *template = written.template;
    }
}

pub(super) fn since(fields: &mut Map<String, Value>) -> Result<Option<Since>, Problem> {
    let text = match fields.remove("since") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            let message = "since must be a string or a number".into();
            return Err((ErrorCode::BadField, message));
        }
    };
    Since::parse(&text)
        .map(Some)
        .map_err(|error| (ErrorCode::BadSince, error.to_string()))
}

/// Reads the fields `process` and `from-slot`, the start of a slot replay.
pub(super) fn slots(
    fields: &mut Map<String, Value>,
    has_since: bool,
) -> Result<Option<SlotStart>, Problem> {
    let process = fields.remove("process");
    let text = match fields.remove("from-slot") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            let message = "from-slot must be a string or a number".into();
            return Err((ErrorCode::BadField, message));
        }
    };
    let read = || {
        let slot = SlotStart::parse_slot(&text)?;
        let Some(Value::String(process)) = process else {
            return Err(SlotStartError::NoProcess);
        };
        if has_since {
            return Err(SlotStartError::WithCursor);
        }
        SlotStart::new(&process, slot)
    };
    read()
        .map(Some)
        .map_err(|error| (error.code(), error.to_string()))
}

/// Returns the data of a request: a text as such, any other value in its original notation.
pub(super) fn data(fields: &mut Map<String, Value>, text: &str) -> Result<String, Problem> {
    #[derive(Deserialize)]
    struct Written<'t> {
        #[serde(borrow)]
        data: &'t RawValue,
    }
    match fields.remove("data") {
        Some(Value::String(data)) => Ok(data),
        // This fails only for a duplicate `data`; the last one counts, as for every field.
        Some(data) => Ok(serde_json::from_str(text).map_or_else(
            |_| data.to_string(),
            |Written { data }| data.get().to_owned(),
        )),
        None => Err((ErrorCode::BadField, "data is missing".into())),
    }
}

/// Reads the token of an `auth` request.
pub(super) fn token(fields: &mut Map<String, Value>) -> Result<Token, Problem> {
    match fields.remove("token") {
        Some(Value::String(token)) => Ok(Token::new(token)),
        Some(_) => Err((ErrorCode::BadField, "token must be a string".into())),
        None => Err((ErrorCode::BadField, "token is missing".into())),
    }
}
