//! The tags of a message: where they stand, and in which forms. The same walk for terms of Erlang and for JSON.

use serde_json::{Map, Value as Json};

use super::Value;

/// A value that may hold tags.
pub(crate) trait Tagged: Sized {
    /// Keys and values of a map, nothing for any other kind.
    fn entries(&self) -> impl Iterator<Item = (&str, &Self)>;
    /// Items of a list, nothing for any other kind.
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

/// Keys and values of an object.
pub(crate) fn entries_of(object: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    object.iter().map(|(key, value)| (key.as_str(), value))
}

/// Whether a key holds tags.
pub(crate) fn is_tags_key(key: &str) -> bool {
    key.eq_ignore_ascii_case("tags")
}

/// The tags below the keys `tags` of a message, given by its entries: entries of a map, and pairs of a list.
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

/// A tag as a map of `name` and `value`, in any letter case, or as a pair.
fn name_and_value<T: Tagged>(item: &T) -> Option<(&str, &T)> {
    let entry = |wanted: &str| {
        item.entries()
            .find(|(key, _)| key.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let (name, value) = match item.items() {
        [name, value] => (name, value),
        [] => (entry("name")?, entry("value")?),
        _ => return None,
    };
    Some((name.text()?, value))
}
