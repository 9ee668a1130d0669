//! Templates select messages by a part of the message, or by a regular expression over its path.
//!
//! As in `hb_message:match` with the mode `primary`, the message must have every key of the template with an equal
//! value; other keys of the message do not matter. Nested objects match in the same way, and lists match item by item.
//!
//! Keys are case-insensitive. Scalars are equal when their texts are, because the network writes numbers as text. A
//! key that is missing at the top level is looked up among the tags, as for [topics](super::topics). If two keys of a
//! message differ only in letter case, one of them has to match.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};

use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::message::fields::Fields as Message;
use crate::message::fields::lower_case;
use crate::message::fields::scalar_text;
use crate::message::numbers::large_as_text;
use crate::subscription::filters::{Filing, Place};
use crate::subscription::pattern::{Pattern, PatternError};

/// The maximum length of a template, in bytes of its JSON text.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 4096;

/// The maximum nesting of objects and lists; the template itself is the first level.
pub(crate) const MAX_TEMPLATE_DEPTH: usize = 16;

/// The maximum length of a path that expressions match, in bytes, because the time of a search grows with the length.
const MAX_PATH_BYTES: usize = 4096;

/// A filter over messages. Equality and hash depend on the content, not on its notation.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    inner: Arc<Inner>,
}

/// A weak reference to a template.
#[derive(Debug)]
pub(crate) struct WeakTemplate(Weak<Inner>);

impl WeakTemplate {
    /// Returns the template if it is still in use.
    pub(crate) fn upgrade(&self) -> Option<Template> {
        self.0.upgrade().map(|inner| Template { inner })
    }

    /// Returns whether the template is no longer in use.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

#[derive(Debug)]
struct Inner {
    shown: Json,
    wanted: Kind,
    /// The number of look-ups in a comparison with a message.
    look_ups: usize,
    filing: OnceLock<Filing>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    Message(Fields),
    Path(Pattern),
}

/// Keys in lower case, in order. A key may occur twice, from different letter cases; a message must then match both
/// values.
type Fields = Vec<(String, Wanted)>;

/// A value that a template requires.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wanted {
    Null,
    /// A scalar with this text.
    Text(String),
    List(Vec<Wanted>),
    Object(Fields),
}

/// The reason why a value is not a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TemplateError {
    /// The value is neither an object nor a text that begins like an object or a path.
    #[error("a template must be a JSON object, or a regular expression that begins with a slash")]
    NotAnObjectOrPath,
    /// The text begins like an object but is not JSON.
    #[error("a template must be JSON: {0}")]
    NotJson(String),
    /// The object has no keys and would match every message.
    #[error("a template must not be empty")]
    Empty,
    /// The text is longer than [`MAX_TEMPLATE_BYTES`].
    #[error("a template must not be longer than {MAX_TEMPLATE_BYTES} bytes of JSON")]
    TooLong,
    /// The nesting is deeper than [`MAX_TEMPLATE_DEPTH`].
    #[error("a template must not have more than {MAX_TEMPLATE_DEPTH} levels")]
    TooDeep,
    /// The expression over the path is invalid.
    #[error(transparent)]
    Path(#[from] PatternError),
}

impl Template {
    /// Reads a template from a URL. A text that begins with `{` is a JSON object, and one that begins with `/` is a
    /// regular expression over the message's path.
    ///
    /// # Errors
    /// The call returns [`TemplateError`] with the reason.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim();
        if text.starts_with('/') {
            let path = Pattern::regex(text)?;
            return Ok(Self::new(Json::String(text.to_owned()), Kind::Path(path)));
        }
        if !text.starts_with('{') {
            return Err(TemplateError::NotAnObjectOrPath);
        }
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLong);
        }
        let object = serde_json::from_str(&large_as_text(text))
            .map_err(|error| TemplateError::NotJson(error.to_string()))?;
        Self::of_object(object)
    }

    /// Reads a template from a control message: an object, or a text as in a URL.
    ///
    /// # Errors
    /// The call returns [`TemplateError`] with the reason.
    pub(crate) fn from_json(value: Json) -> Result<Self, TemplateError> {
        match value {
            Json::String(text) => Self::parse(&text),
            Json::Object(object) => Self::of_object(object),
            _ => Err(TemplateError::NotAnObjectOrPath),
        }
    }

    /// Returns whether this is an expression over the path.
    pub(crate) fn is_expression(&self) -> bool {
        matches!(self.inner.wanted, Kind::Path(_))
    }

    /// Returns a weak reference.
    pub(crate) fn downgrade(&self) -> WeakTemplate {
        WeakTemplate(Arc::downgrade(&self.inner))
    }

    /// Returns whether both are the same object in memory.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Stores the template's entry in the filter registry, once.
    ///
    /// # Errors
    /// The call returns the entry when the template already has one.
    pub(crate) fn file(&self, filing: Filing) -> Result<(), Filing> {
        self.inner.filing.set(filing)
    }

    fn of_object(object: Map<String, Json>) -> Result<Self, TemplateError> {
        if object.is_empty() {
            return Err(TemplateError::Empty);
        }
        let wanted = Kind::Message(fields(&object, 1)?);
        let shown = Json::Object(object);
        // The server must accept the form that it shows, and JSON may become longer when it is written again.
        if shown.to_string().len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLong);
        }
        Ok(Self::new(shown, wanted))
    }

    fn new(shown: Json, wanted: Kind) -> Self {
        Self {
            inner: Arc::new(Inner {
                look_ups: match &wanted {
                    Kind::Message(fields) => look_ups(fields),
                    Kind::Path(_) => 1,
                },
                shown,
                wanted,
                filing: OnceLock::new(),
            }),
        }
    }

    /// Returns the client's form: an object, or the text of an expression.
    pub(crate) fn shown(&self) -> Json {
        self.inner.shown.clone()
    }

    /// Returns whether a message, the `data` of a frame, matches the template.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn matches(&self, message: &Json) -> bool {
        Message::of(message).is_some_and(|message| self.matches_fields(&message))
    }

    /// Returns whether a message with indexed fields matches; this takes at most one look-up per key of the template.
    pub(crate) fn matches_fields(&self, message: &Message<'_>) -> bool {
        match &self.inner.wanted {
            Kind::Message(fields) => fields
                .iter()
                .all(|(key, wanted)| has_field(message, key, wanted)),
            Kind::Path(path) => message
                .at_top("path")
                .iter()
                .filter_map(|value| scalar_text(value))
                .any(|text| text.len() <= MAX_PATH_BYTES && path.is_match(&text)),
        }
    }

    /// Returns the cost of a comparison with a message of `bytes` bytes, in look-ups.
    pub(crate) fn steps(&self, bytes: usize) -> usize {
        let path = match &self.inner.wanted {
            Kind::Message(_) => 0,
            Kind::Path(path) => path.steps(bytes.min(MAX_PATH_BYTES)),
        };
        self.inner.look_ups + path
    }

    /// Returns the scalars at the template's top level, each as a key in lower case and a text.
    /// [`Message::each_scalar`] visits all of them in every matching message.
    pub(crate) fn scalars(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = match &self.inner.wanted {
            Kind::Message(fields) => fields.as_slice(),
            Kind::Path(_) => &[],
        };
        fields.iter().filter_map(|(key, wanted)| match wanted {
            Wanted::Text(text) => Some((key.as_str(), text.as_str())),
            _ => None,
        })
    }

    /// Returns the scalar by which an index finds the template, if it has one.
    pub(crate) fn filed_scalar(&self) -> Option<(&str, &str)> {
        match self.inner.filing.get().map(Filing::place) {
            None => self.scalars().next(),
            Some(Place::Scalar(number)) => self.scalars().nth(number),
            Some(_) => None,
        }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.inner.wanted == other.inner.wanted
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.wanted.hash(state);
    }
}

fn fields(object: &Map<String, Json>, level: usize) -> Result<Fields, TemplateError> {
    let mut fields = object
        .iter()
        .map(|(key, value)| Ok((lower_case(key).into_owned(), wanted(value, level)?)))
        .collect::<Result<Fields, TemplateError>>()?;
    fields.sort();
    fields.dedup();
    Ok(fields)
}

fn look_ups(fields: &Fields) -> usize {
    fn of_value(wanted: &Wanted) -> usize {
        match wanted {
            Wanted::Null | Wanted::Text(_) => 1,
            Wanted::List(items) => items.iter().map(of_value).sum(),
            Wanted::Object(fields) => look_ups(fields),
        }
    }
    let values = fields.iter().map(|(_, wanted)| 1 + of_value(wanted));
    values.sum()
}

/// Reads the requirement of a value at a nesting level.
fn wanted(value: &Json, level: usize) -> Result<Wanted, TemplateError> {
    let inside = level + 1;
    Ok(match value {
        Json::Array(_) | Json::Object(_) if inside > MAX_TEMPLATE_DEPTH => {
            return Err(TemplateError::TooDeep);
        }
        Json::Array(items) => Wanted::List(
            items
                .iter()
                .map(|item| wanted(item, inside))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(object) => Wanted::Object(fields(object, inside)?),
        scalar => scalar_text(scalar).map_or(Wanted::Null, |text| Wanted::Text(text.into_owned())),
    })
}

/// Returns whether the message has a field. Tags count only if the top level lacks the key.
fn has_field(message: &Message<'_>, key: &str, wanted: &Wanted) -> bool {
    let mut values = message.at_top(key);
    if values.is_empty() {
        values = message.among_tags(key);
    }
    values
        .into_iter()
        .any(|value| is_wanted(message, wanted, value))
}

fn is_wanted<'m>(message: &Message<'m>, wanted: &Wanted, value: &'m Json) -> bool {
    match (wanted, value) {
        (Wanted::Null, Json::Null) => true,
        (Wanted::Text(text), value) => scalar_text(value).is_some_and(|there| there == *text),
        (Wanted::List(items), Json::Array(there)) => {
            items.len() == there.len()
                && items
                    .iter()
                    .zip(there)
                    .all(|(item, value)| is_wanted(message, item, value))
        }
        (Wanted::Object(fields), Json::Object(there)) => fields.iter().all(|(key, wanted)| {
            let mut values = message.inside(there, key).into_iter();
            values.any(|value| is_wanted(message, wanted, value))
        }),
        _ => false,
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
pub(crate) mod tests;
