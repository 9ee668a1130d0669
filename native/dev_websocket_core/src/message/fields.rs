//! The fields of a message as templates look them up: without letter case, at the top level, among the tags, and inside.
//!
//! Each object is indexed when it is first asked, so a look-up costs the same however many keys there are.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ptr;

use serde_json::{Map, Value as Json};
use smallvec::SmallVec;

use super::tags::{entries_of, tags_of};

/// Values of keys that differ in letter case only.
pub(crate) type Values<'m> = SmallVec<[&'m Json; 1]>;

type Index<'m> = HashMap<Cow<'m, str>, Values<'m>>;

/// So few keys are looked through.
const FEW: usize = 8;

/// See the module's text.
pub(crate) struct Fields<'m> {
    message: &'m Map<String, Json>,
    tags: OnceCell<Index<'m>>,
    /// By where the object lies in memory.
    objects: RefCell<HashMap<*const Map<String, Json>, Index<'m>>>,
}

impl<'m> Fields<'m> {
    /// Those of a message; none of what is no object.
    pub(crate) fn of(message: &'m Json) -> Option<Self> {
        Some(Self {
            message: message.as_object()?,
            tags: OnceCell::new(),
            objects: RefCell::default(),
        })
    }

    /// The values of a key, given in lower case, at the top level.
    pub(crate) fn at_top(&self, key: &str) -> Values<'m> {
        self.inside(self.message, key)
    }

    /// Those among the tags.
    pub(crate) fn among_tags(&self, key: &str) -> Values<'m> {
        let index = || index(tags_of(entries_of(self.message)));
        let found = self.tags.get_or_init(index).get(key);
        found.cloned().unwrap_or_default()
    }

    /// Those of an object that is somewhere in the message.
    pub(crate) fn inside(&self, object: &'m Map<String, Json>, key: &str) -> Values<'m> {
        if object.len() <= FEW {
            return object
                .iter()
                .filter(|(there, _)| same_key(key, there))
                .map(|(_, value)| value)
                .collect();
        }
        let mut objects = self.objects.borrow_mut();
        let index = objects
            .entry(ptr::from_ref(object))
            .or_insert_with(|| index(entries_of(object)));
        index.get(key).cloned().unwrap_or_default()
    }

    /// Calls `visit` with the key in lower case and the text of each scalar at the top level and among the tags.
    pub(crate) fn each_scalar(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (key, value) in entries_of(self.message).chain(tags_of(entries_of(self.message))) {
            if let Some(text) = scalar_text(value) {
                visit(&lower_case(key), &text);
            }
        }
    }
}

fn index<'m>(entries: impl Iterator<Item = (&'m str, &'m Json)>) -> Index<'m> {
    let mut index = Index::new();
    for (key, value) in entries {
        index.entry(lower_case(key)).or_default().push(value);
    }
    index
}

/// The text by which scalars are compared; none for null, lists and objects.
pub(crate) fn scalar_text(value: &Json) -> Option<Cow<'_, str>> {
    match value {
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A key as templates are compared by.
pub(crate) fn lower_case(key: &str) -> Cow<'_, str> {
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
