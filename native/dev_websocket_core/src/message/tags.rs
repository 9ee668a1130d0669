//! Iteration over the tags of a message in all their forms, shared by Erlang terms and JSON.

use serde_json::{Map, Value as Json};

use super::Value;

/// A value that may contain tags.
pub(crate) trait Tagged: Sized {
    /// Returns the entries of a map; empty for any other value.
    fn entries(&self) -> impl Iterator<Item = (&str, &Self)>;
    /// Returns the items of a list; empty for any other value.
    fn items(&self) -> &[Self];
    fn text(&self) -> Option<&str>;
}

impl Tagged for Value<'_> {
    fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        Value::entries(self)
            .iter()
            .map(|(key, value)| (&**key, value))
    }

    fn items(&self) -> &[Self] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Tagged for Json {
    fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.as_object().into_iter().flat_map(entries_of)
    }

    fn items(&self) -> &[Self] {
        self.as_array().map_or(&[], Vec::as_slice)
    }

    fn text(&self) -> Option<&str> {
        self.as_str()
    }
}

/// Returns the entries of an object.
pub(crate) fn entries_of(object: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    object.iter().map(|(key, value)| (key.as_str(), value))
}

/// Returns whether a key contains tags.
pub(crate) fn is_tags_key(key: &str) -> bool {
    key.eq_ignore_ascii_case("tags")
}

/// Returns the tags under the keys `tags` among a message's entries. A map contributes its entries, a list its pairs.
pub(crate) fn tags_of<'v, T: Tagged + 'v>(
    entries: impl Iterator<Item = (&'v str, &'v T)>,
) -> impl Iterator<Item = (&'v str, &'v T)> {
    entries
        .filter(|(key, _)| is_tags_key(key))
        .flat_map(|(_, tags)| {
            let pairs = tags.items().iter().filter_map(name_and_value);
            tags.entries().chain(pairs)
        })
}

/// The keys of a tag that is a map, in any letter case. The first entry of each counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKey {
    Name,
    Value,
}

impl ItemKey {
    pub(crate) fn of(key: &str) -> Option<Self> {
        if key.eq_ignore_ascii_case("name") {
            Some(Self::Name)
        } else if key.eq_ignore_ascii_case("value") {
            Some(Self::Value)
        } else {
            None
        }
    }
}

/// Reads a tag, which is a pair or a map of `name` and `value`.
pub(crate) fn name_and_value<T: Tagged>(item: &T) -> Option<(&str, &T)> {
    let entry = |wanted| {
        item.entries()
            .find(|(key, _)| ItemKey::of(key) == Some(wanted))
            .map(|(_, value)| value)
    };
    let (name, value) = match item.items() {
        [name, value] => (name, value),
        [] => (entry(ItemKey::Name)?, entry(ItemKey::Value)?),
        _ => return None,
    };
    Some((name.text()?, value))
}
