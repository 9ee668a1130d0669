//! Parsers of client input, with results as plain data for fuzz targets.

use futures::FutureExt;
use http_body_util::BodyExt;
use serde_json::Value as Json;

use crate::http::query;
use crate::settings::Settings;
use crate::subscription::pattern::Pattern;
use crate::subscription::template::Template;
use crate::subscription::template_index::TemplateIndex;
use crate::subscription::{Kind, Quota, Subscription};
use crate::wire::control::{self, Reply};
use crate::wire::cursor::From as Start;
use crate::wire::format::{Format, SlowPolicy};

/// A subscription and the limit that it counts against.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The name of its request field: `topics`, `match` or `template`.
    pub kind: &'static str,
    /// The form that the server reports to the client.
    pub shown: Json,
    subscription: Subscription,
}

impl Chosen {
    fn of(subscription: Subscription) -> Self {
        Self {
            kind: match subscription.kind() {
                Kind::Topic => "topics",
                Kind::Match => "match",
                Kind::Template => "template",
            },
            shown: subscription.shown(),
            subscription,
        }
    }
}

/// The parsed query of a handshake URL.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The distinct subscriptions.
    pub subscriptions: Vec<Chosen>,
    /// True for `format=raw`.
    pub is_raw: bool,
    /// The slow policy: `gap`, `latest` or `close`.
    pub slow: &'static str,
    /// The epoch and the sequence number of `since`.
    pub since: Option<(Option<String>, u64)>,
    /// The number of `last`.
    pub last: Option<usize>,
    /// The parameters that the server ignores.
    pub ignored: Vec<String>,
}

/// Parses the query of a URL, without the question mark.
///
/// # Errors
/// The call returns the status and the body of the refusal.
pub fn query(text: &str, settings: &Settings) -> Result<Query, (u16, Vec<u8>)> {
    let query = query::Query::parse(text, settings).map_err(|refusal| {
        let (parts, body) = refusal.into_response().into_parts();
        let body = body.collect().now_or_never().and_then(Result::ok);
        let body = body.map_or_else(Vec::new, |body| body.to_bytes().to_vec());
        (parts.status.as_u16(), body)
    })?;
    let (since, last) = match query.from {
        None => (None, None),
        Some(Start::Since(since)) => (Some((since.epoch, since.seq)), None),
        Some(Start::Last(count)) => (None, Some(count)),
    };
    Ok(Query {
        subscriptions: query.subscriptions.into_iter().map(Chosen::of).collect(),
        is_raw: query.format == Format::Raw,
        slow: match query.slow {
            SlowPolicy::Gap => "gap",
            SlowPolicy::Latest => "latest",
            SlowPolicy::Close => "close",
        },
        since,
        last,
        ignored: query.ignored,
    })
}

/// The parsed text frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The message type.
    pub kind: &'static str,
    /// The request's id.
    pub id: Option<Json>,
    /// The subscriptions to add or to end.
    pub subscriptions: Vec<Chosen>,
    /// The epoch and the sequence number of `since`.
    pub since: Option<(Option<String>, u64)>,
    /// The JSON that the listener would receive, or the token of `auth`.
    pub data: Option<String>,
}

/// Parses a text frame of a client.
///
/// # Errors
/// The call returns the error frame that is the answer.
pub fn request(text: &str) -> Result<Request, Vec<u8>> {
    let request = control::Request::parse(
        text,
        Quota::of(&Settings::default()),
        control::Permitted::ALL,
    )
    .map_err(|fault| {
        let reply = Reply::Error {
            id: &fault.id,
            code: fault.code,
            message: &fault.message,
            timestamp: 0,
        };
        reply.encode().to_vec()
    })?;
    let mut read = Request {
        kind: "ping",
        id: None,
        subscriptions: Vec::new(),
        since: None,
        data: None,
    };
    let subscriptions = match request {
        control::Request::Subscribe {
            id,
            subscriptions,
            since,
            ..
        } => {
            read.kind = "subscribe";
            read.id = id;
            read.since = since.map(|since| (since.epoch, since.seq));
            subscriptions
        }
        control::Request::Unsubscribe { id, subscriptions } => {
            read.kind = "unsubscribe";
            read.id = id;
            subscriptions
        }
        control::Request::Ping { id } => {
            read.id = id;
            Vec::new()
        }
        control::Request::Auth { id, token } => {
            read.kind = "auth";
            read.id = id;
            read.data = Some(token.text().to_owned());
            Vec::new()
        }
        control::Request::Authorized { id, .. } => {
            read.id = id;
            Vec::new()
        }
        control::Request::Send { id, data } => {
            read.kind = "send";
            read.id = id;
            read.data = Some(data);
            Vec::new()
        }
    };
    read.subscriptions = subscriptions.into_iter().map(Chosen::of).collect();
    Ok(read)
}

/// Returns whether a glob matches a topic.
///
/// # Errors
/// The call returns the error text for the client when the glob is invalid.
pub fn glob(text: &str, topic: &str) -> Result<bool, String> {
    let glob = Pattern::glob(text).map_err(|error| error.to_string())?;
    Ok(glob.is_match(topic))
}

/// Returns whether a regular expression matches a topic.
///
/// # Errors
/// The call returns the error text for the client when the expression is invalid.
pub fn regex(text: &str, topic: &str) -> Result<bool, String> {
    let regex = Pattern::regex(text).map_err(|error| error.to_string())?;
    Ok(regex.is_match(topic))
}

/// Templates in a shard's index, with the plain list to compare against.
#[derive(Debug)]
pub struct Templates {
    index: TemplateIndex<usize>,
    templates: Vec<Template>,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            index: TemplateIndex::new(),
            templates: Vec::new(),
        }
    }
}

impl Templates {
    /// Adds a template unless an equal one exists; returns its position and the form that is shown to clients.
    ///
    /// # Errors
    /// The call returns the error text for the client when the template is invalid.
    pub fn add(&mut self, text: &str) -> Result<(usize, Json), String> {
        let template = Template::parse(text).map_err(|error| error.to_string())?;
        let shown = template.shown();
        let place = self.templates.iter().position(|there| *there == template);
        let place = place.unwrap_or_else(|| {
            let place = self.templates.len();
            self.index.add(template.clone(), place);
            self.templates.push(template);
            place
        });
        Ok((place, shown))
    }

    /// Returns the positions of the matching templates; each template is compared alone.
    #[must_use]
    pub fn each_matching(&self, message: &Json) -> Vec<usize> {
        let matches = |place: &usize| self.templates[*place].matches(message);
        (0..self.templates.len()).filter(matches).collect()
    }

    /// Returns the positions of the matching templates; the index finds them as in a shard.
    #[must_use]
    pub fn found_matching(&self, message: &Json) -> Vec<usize> {
        let mut found = Vec::new();
        self.index.matching(message, &mut found);
        found.sort_unstable();
        found
    }
}
