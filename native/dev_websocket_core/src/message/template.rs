//! The node's own grammar for choosing messages: a part of the message, or an expression over its path.
//!
//! As `hb_message:match` does it in the mode `primary`, every key of a template must be in the message with an equal
//! value; what else the message has does not matter. Objects inside match in the same way and lists item by item.
//! Letter case of keys does not matter; scalars are equal when their texts are, as the network writes numbers as text.
//! A key that the message does not have at its top level is looked for among its tags, as for [topics](super::topics).
//! If two keys of a message differ in letter case only, one of the two has to match.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::pattern::{Pattern, PatternError};

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

#[derive(Debug)]
struct Inner {
    shown: Json,
    wanted: Kind,
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
    #[error("a template is a JSON object, or an expression that begins with a slash")]
    NotAnObjectOrPath,
    /// It begins like an object.
    #[error("a template is no JSON: {0}")]
    NotJson(String),
    /// An object without keys: that would be every message.
    #[error("a template must not be empty")]
    Empty,
    /// More than [`MAX_TEMPLATE_BYTES`].
    #[error("a template has at most {MAX_TEMPLATE_BYTES} bytes of JSON")]
    TooLong,
    /// More than [`MAX_TEMPLATE_DEPTH`].
    #[error("a template has at most {MAX_TEMPLATE_DEPTH} levels")]
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
        let object = serde_json::from_str(text)
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

    /// Its expression over the path, if it is one. Only of a template that has just been read, and is nowhere else yet.
    pub(crate) fn expression_mut(&mut self) -> Option<&mut Pattern> {
        match &mut Arc::get_mut(&mut self.inner)?.wanted {
            Kind::Path(path) => Some(path),
            Kind::Message(_) => None,
        }
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
            inner: Arc::new(Inner { shown, wanted }),
        }
    }

    /// As the client gave it: an object, or the text of an expression.
    pub(crate) fn shown(&self) -> Json {
        self.inner.shown.clone()
    }

    /// Whether a message, the `data` of a frame, is what the template asks for.
    pub(crate) fn matches(&self, message: &Json) -> bool {
        let Json::Object(message) = message else {
            return false;
        };
        match &self.inner.wanted {
            Kind::Message(fields) => fields
                .iter()
                .all(|(key, wanted)| has_field(message, key, wanted)),
            Kind::Path(path) => message
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case("path"))
                .filter_map(|(_, value)| scalar_text(value))
                .any(|text| text.len() <= MAX_PATH_BYTES && path.is_match(&text)),
        }
    }

    /// A key in lower case and the text of a scalar that [`each_tag`] visits in every message that matches, if the
    /// template asks for one at its top level.
    pub(crate) fn index(&self) -> Option<(&str, &str)> {
        let Kind::Message(fields) = &self.inner.wanted else {
            return None;
        };
        fields.iter().find_map(|(key, wanted)| match wanted {
            Wanted::Text(text) => Some((key.as_str(), text.as_str())),
            _ => None,
        })
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

/// Calls `visit` with the key in lower case and the text of each scalar at a message's top level and among its tags,
/// for a look-up of the templates that may match.
pub(crate) fn each_tag(message: &Json, visit: &mut dyn FnMut(&str, &str)) {
    let Json::Object(message) = message else {
        return;
    };
    let top = message.iter().map(|(key, value)| (key.as_str(), value));
    for (key, value) in top.chain(tags_of(message)) {
        if let Some(text) = scalar_text(value) {
            visit(&lower_case(key), &text);
        }
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
fn has_field(message: &Map<String, Json>, key: &str, wanted: &Wanted) -> bool {
    let mut at_top = message
        .iter()
        .filter(|(there, _)| same_key(key, there))
        .peekable();
    if at_top.peek().is_some() {
        return at_top.any(|(_, value)| is_wanted(wanted, value));
    }
    tags_of(message).any(|(there, value)| same_key(key, there) && is_wanted(wanted, value))
}

fn is_wanted(wanted: &Wanted, value: &Json) -> bool {
    match (wanted, value) {
        (Wanted::Null, Json::Null) => true,
        (Wanted::Text(text), value) => scalar_text(value).is_some_and(|there| there == *text),
        (Wanted::List(items), Json::Array(there)) => {
            items.len() == there.len()
                && items
                    .iter()
                    .zip(there)
                    .all(|(item, value)| is_wanted(item, value))
        }
        (Wanted::Object(fields), Json::Object(there)) => fields.iter().all(|(key, wanted)| {
            there
                .iter()
                .any(|(name, value)| same_key(key, name) && is_wanted(wanted, value))
        }),
        _ => false,
    }
}

/// The entries of a `tags` object and the pairs of a `tags` list.
fn tags_of(message: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    message
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case("tags"))
        .flat_map(|(_, tags)| {
            let entries = tags.as_object().into_iter().flatten();
            let pairs = tags.as_array().into_iter().flatten();
            entries
                .map(|(name, value)| (name.as_str(), value))
                .chain(pairs.filter_map(name_and_value))
        })
}

/// A tag as `{"name":..,"value":..}`, in any letter case, or as a pair.
fn name_and_value(item: &Json) -> Option<(&str, &Json)> {
    let (name, value) = match item {
        Json::Array(pair) => match pair.as_slice() {
            [name, value] => (name, value),
            _ => return None,
        },
        Json::Object(object) => {
            let entry = |wanted: &str| {
                object
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(wanted))
                    .map(|(_, value)| value)
            };
            (entry("name")?, entry("value")?)
        }
        _ => return None,
    };
    Some((name.as_str()?, value))
}

/// The text by which scalars are compared; none for null, lists and objects.
fn scalar_text(value: &Json) -> Option<Cow<'_, str>> {
    match value {
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn lower_case(key: &str) -> Cow<'_, str> {
    if !key.is_ascii() {
        Cow::Owned(key.to_lowercase())
    } else if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(key.to_ascii_lowercase())
    } else {
        Cow::Borrowed(key)
    }
}

/// Whether `key` is `lower` in lower case, without writing it for nearly all keys.
fn same_key(lower: &str, key: &str) -> bool {
    if key.is_ascii() {
        lower.eq_ignore_ascii_case(key)
    } else {
        lower == key.to_lowercase()
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
pub(crate) mod tests;
