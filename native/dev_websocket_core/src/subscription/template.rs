//! The node's own grammar for choosing messages: a part of the message, or an expression over its path.
//!
//! As `hb_message:match` does it in the mode `primary`, every key of a template must be in the message with an equal
//! value; what else the message has does not matter. Objects inside match in the same way and lists item by item.
//! Letter case of keys does not matter; scalars are equal when their texts are, as the network writes numbers as text.
//! A key that the message does not have at its top level is looked for among its tags, as for [topics](super::topics).
//! If two keys of a message differ in letter case only, one of the two has to match.

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

/// The longest template, in bytes of its JSON text.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 4096;

/// How deep objects and lists may be nested, the template itself being the first level.
pub(crate) const MAX_TEMPLATE_DEPTH: usize = 16;

/// A longer path matches no expression: the time of a search grows with its length.
const MAX_PATH_BYTES: usize = 4096;

/// Which messages somebody wants. Compared and hashed by what it asks for, however that was written.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    inner: Arc<Inner>,
}

/// A template that may be gone.
#[derive(Debug)]
pub(crate) struct WeakTemplate(Weak<Inner>);

impl WeakTemplate {
    /// The template, if anybody has it.
    pub(crate) fn upgrade(&self) -> Option<Template> {
        self.0.upgrade().map(|inner| Template { inner })
    }

    /// Whether nobody has it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

#[derive(Debug)]
struct Inner {
    shown: Json,
    wanted: Kind,
    /// Look-ups of comparing it with a message.
    look_ups: usize,
    filing: OnceLock<Filing>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    Message(Fields),
    Path(Pattern),
}

/// Keys in lower case, in order. One may be there twice, written in different letter case: both values are asked for.
type Fields = Vec<(String, Wanted)>;

/// A value that a template asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wanted {
    Null,
    /// A scalar with this text.
    Text(String),
    List(Vec<Wanted>),
    Object(Fields),
}

/// Why something is no template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TemplateError {
    /// Neither an object nor text that begins like an object or a path.
    #[error("a template must be a JSON object, or a regular expression that begins with a slash")]
    NotAnObjectOrPath,
    /// It begins like an object.
    #[error("a template must be JSON: {0}")]
    NotJson(String),
    /// An object without keys: that would be every message.
    #[error("a template must not be empty")]
    Empty,
    /// More than [`MAX_TEMPLATE_BYTES`].
    #[error("a template must not be longer than {MAX_TEMPLATE_BYTES} bytes of JSON")]
    TooLong,
    /// More than [`MAX_TEMPLATE_DEPTH`].
    #[error("a template must not have more than {MAX_TEMPLATE_DEPTH} levels")]
    TooDeep,
    /// The expression over the path is none.
    #[error(transparent)]
    Path(#[from] PatternError),
}

impl Template {
    /// Reads a template from a URL: a JSON object when it begins with `{`, a regular expression over the message's
    /// path when it begins with `/`.
    ///
    /// # Errors
    /// [`TemplateError`] tells what is wrong.
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
    /// [`TemplateError`] tells what is wrong.
    pub(crate) fn from_json(value: Json) -> Result<Self, TemplateError> {
        match value {
            Json::String(text) => Self::parse(&text),
            Json::Object(object) => Self::of_object(object),
            _ => Err(TemplateError::NotAnObjectOrPath),
        }
    }

    /// Whether it is an expression over the path.
    pub(crate) fn is_expression(&self) -> bool {
        matches!(self.inner.wanted, Kind::Path(_))
    }

    /// Does not keep it.
    pub(crate) fn downgrade(&self) -> WeakTemplate {
        WeakTemplate(Arc::downgrade(&self.inner))
    }

    /// Whether both are the same in memory.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Files it, which is done once.
    ///
    /// # Errors
    /// The filing is given back where there is one already.
    pub(crate) fn file(&self, filing: Filing) -> Result<(), Filing> {
        self.inner.filing.set(filing)
    }

    fn of_object(object: Map<String, Json>) -> Result<Self, TemplateError> {
        if object.is_empty() {
            return Err(TemplateError::Empty);
        }
        let wanted = Kind::Message(fields(&object, 1)?);
        let shown = Json::Object(object);
        // What is shown must be taken back, and JSON may become longer when it is written anew.
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

    /// As the client gave it: an object, or the text of an expression.
    pub(crate) fn shown(&self) -> Json {
        self.inner.shown.clone()
    }

    /// Whether a message, the `data` of a frame, is what the template asks for.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn matches(&self, message: &Json) -> bool {
        Message::of(message).is_some_and(|message| self.matches_fields(&message))
    }

    /// The same of a message whose fields are looked up many times: at most one look-up for each key of the template.
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

    /// What comparing it with a message of so many bytes costs, in look-ups.
    pub(crate) fn steps(&self, bytes: usize) -> usize {
        let path = match &self.inner.wanted {
            Kind::Message(_) => 0,
            Kind::Path(path) => path.steps(bytes.min(MAX_PATH_BYTES)),
        };
        self.inner.look_ups + path
    }

    /// The scalars that it asks for at its top level, each a key in lower case and a text. [`Message::each_scalar`] visits
    /// all of them in every message that matches.
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

    /// The scalar under which an index finds it, if it is filed under one.
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

/// What a value asks for that stands on the given level.
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

/// Whether the message has that field; its tags count only where its top level does not have the key.
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
