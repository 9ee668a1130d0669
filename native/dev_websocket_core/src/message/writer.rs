//! Writing of a message value by value, without a tree of it.
//!
//! The embedder walks its own terms once and hands over what it meets. The writer makes the JSON and remembers the few
//! values that may become topics, so a message costs its caller one walk and no memory of its own. Most messages are
//! maps of texts; only parts with other rules are read as a [`Value`] first ([`MessageWriter::wants_tree`]).

use std::borrow::Cow;
use std::cell::OnceCell;

use super::Value;
use super::candidates::{Candidates, Level};
use super::json::{JsonWriter, TooLong, leaves_node};
use super::tags::{ItemKey, is_tags_key, name_and_value, tags_of};
use super::topic::trimmed;
use super::topic_keys::Meaning;
use super::topics::TopicRules;

/// Trees that were read for their tags. They live as long as the writer, which borrows from them.
#[derive(Debug, Default)]
pub(crate) struct Trees<'a>(OnceCell<Box<(Value<'a>, Self)>>);

impl<'a> Trees<'a> {
    fn keep(&self, value: Value<'a>) -> &Value<'a> {
        let mut last = self;
        while let Some(kept) = last.0.get() {
            last = &kept.1;
        }
        &last.0.get_or_init(|| Box::new((value, Self::default()))).0
    }
}

/// Writes one message. Values come in the order of the source: containers begin and end, and each value of a map
/// follows its key.
#[derive(Debug)]
pub struct MessageWriter<'w, 'a> {
    json: JsonWriter<'w>,
    rules: &'w TopicRules,
    trees: &'w Trees<'a>,
    candidates: Candidates<'w>,
    commitments: bool,
    /// The number of open containers.
    depth: usize,
    /// The value of a `tags` key at the top level while it is open.
    tags: Tags,
    /// The tag of the open item of a list of tags.
    item: Item<'a>,
    needs_comma: bool,
    next: Next<'w>,
}

/// The open value of a `tags` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tags {
    None,
    /// Each entry is a tag.
    Map,
    /// Each item is a tag.
    List,
}

/// A map of `name` and `value` that is being written. The first entry of each kind counts.
#[derive(Debug, Default)]
struct Item<'a> {
    name: Option<Value<'a>>,
    value: Option<Value<'a>>,
}

/// The number of open containers around an entry or an item of `tags`.
const IN_TAGS: usize = 2;

/// The number of open containers around an entry of an item of `tags`.
const IN_ITEM: usize = 3;

/// The meaning of the next value.
#[derive(Debug, Clone, Copy)]
enum Next<'w> {
    /// The value is data alone.
    Data,
    /// The message itself.
    Message,
    /// The value of a tag, with its trimmed key.
    Tag(Level, Meaning, &'w str),
    /// The value of a `tags` key.
    Tags,
    /// An item of a list of tags.
    Item,
    /// The name or the value of such an item.
    OfItem(ItemKey),
}

impl<'w, 'a: 'w> MessageWriter<'w, 'a> {
    /// Makes a writer that appends at most `limit` bytes of JSON to a buffer.
    pub(crate) fn new(
        buffer: &'w mut Vec<u8>,
        limit: usize,
        commitments: bool,
        rules: &'w TopicRules,
        trees: &'w Trees<'a>,
    ) -> Self {
        Self {
            json: JsonWriter::new(buffer, limit, commitments),
            rules,
            trees,
            candidates: Candidates::default(),
            commitments,
            depth: 0,
            tags: Tags::None,
            item: Item::default(),
            needs_comma: false,
            next: Next::Message,
        }
    }

    /// Returns the values that may become topics.
    pub(crate) fn into_candidates(self) -> Candidates<'w> {
        self.candidates
    }

    /// Returns whether the next value, if it is a list, must come as a tree through [`Self::value`].
    #[must_use]
    pub fn wants_tree(&self) -> bool {
        matches!(
            self.peek_next(),
            Next::Tag(_, Meaning::Explicit, _) | Next::Item | Next::OfItem(ItemKey::Value)
        )
    }

    /// Writes a whole value.
    ///
    /// # Errors
    /// Every method fails with [`TooLong`] when the JSON exceeds its limit. The message is then lost.
    pub fn value(&mut self, value: Value<'a>) -> Result<(), TooLong> {
        self.separate()?;
        self.json.write(&value)?;
        match self.take_next() {
            Next::Data => {}
            Next::OfItem(key) => self.item.set(key, value),
            Next::Item => {
                if let Some((name, value)) = name_and_value(self.trees.keep(value)) {
                    self.candidates.add(self.rules, Level::Tags, name, value);
                }
            }
            Next::Tag(level, meaning, key) => {
                self.candidates.add_owned(level, meaning, key, value);
            }
            Next::Tags => {
                for (key, value) in tags_of([("tags", self.trees.keep(value))].into_iter()) {
                    self.candidates.add(self.rules, Level::Tags, key, value);
                }
            }
            Next::Message => self.candidates.add_all(self.rules, self.trees.keep(value)),
        }
        self.needs_comma = true;
        Ok(())
    }

    /// Begins a map. Its keys must differ.
    ///
    /// # Errors
    /// See [`Self::value`].
    pub fn begin_map(&mut self) -> Result<(), TooLong> {
        match self.begin("{")? {
            Next::Tags => self.tags = Tags::Map,
            Next::Item => self.item = Item::default(),
            // A map is neither a name nor a value of a tag, but it takes the place of one.
            Next::OfItem(key) => self.item.set(key, Value::Null),
            _ => {}
        }
        Ok(())
    }

    /// Writes a key, unless its value must not leave the node. Returns whether the value has to follow.
    ///
    /// # Errors
    /// See [`Self::value`].
    pub fn key(&mut self, key: &'a str) -> Result<bool, TooLong> {
        if !leaves_node(key, self.commitments) {
            return Ok(false);
        }
        self.json.key(key, self.needs_comma)?;
        self.needs_comma = false;
        self.next = self.meaning_of(key);
        Ok(true)
    }

    /// Begins a list.
    ///
    /// # Errors
    /// See [`Self::value`].
    pub fn begin_list(&mut self) -> Result<(), TooLong> {
        match self.begin("[")? {
            Next::Tags => self.tags = Tags::List,
            Next::OfItem(key) => self.item.set(key, Value::Null),
            _ => {}
        }
        Ok(())
    }

    /// Ends a map.
    ///
    /// # Errors
    /// See [`Self::value`].
    pub fn end_map(&mut self) -> Result<(), TooLong> {
        self.end("}")?;
        if self.tags == Tags::List && self.depth == IN_TAGS {
            self.end_item();
        }
        Ok(())
    }

    /// Ends a list.
    ///
    /// # Errors
    /// See [`Self::value`].
    pub fn end_list(&mut self) -> Result<(), TooLong> {
        self.end("]")
    }

    /// Writes a value as an embedder does: containers in place, unless the writer wants a list as a tree.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn walk(&mut self, value: &'a Value<'a>) -> Result<(), TooLong> {
        match value {
            Value::Map(entries) => {
                self.begin_map()?;
                for (key, value) in entries {
                    if self.key(key)? {
                        self.walk(value)?;
                    }
                }
                self.end_map()
            }
            Value::List(items) if !self.wants_tree() => {
                self.begin_list()?;
                for item in items {
                    self.walk(item)?;
                }
                self.end_list()
            }
            value => self.value(value.clone()),
        }
    }

    fn meaning_of(&self, key: &'w str) -> Next<'w> {
        let level = match (self.depth, self.tags) {
            (1, _) if is_tags_key(key) => return Next::Tags,
            (1, _) => Level::Top,
            (IN_TAGS, Tags::Map) => Level::Tags,
            (IN_ITEM, Tags::List) => return ItemKey::of(key).map_or(Next::Data, Next::OfItem),
            _ => return Next::Data,
        };
        let key = trimmed(key);
        match self.rules.keys.meaning_of(key) {
            Meaning::Nothing => Next::Data,
            meaning => Next::Tag(level, meaning, key),
        }
    }

    fn begin(&mut self, bracket: &str) -> Result<Next<'w>, TooLong> {
        self.separate()?;
        self.json.raw(bracket)?;
        let next = self.take_next();
        self.depth += 1;
        self.needs_comma = false;
        Ok(next)
    }

    fn end(&mut self, bracket: &str) -> Result<(), TooLong> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth < IN_TAGS {
            self.tags = Tags::None;
        }
        self.needs_comma = true;
        self.json.raw(bracket)
    }

    /// Takes the tag of an item that ends.
    fn end_item(&mut self) {
        let Item { name, value } = std::mem::take(&mut self.item);
        let (Some(name), Some(value)) = (name, value) else {
            return;
        };
        let name = match name {
            Value::Text(Cow::Borrowed(name)) => name,
            name => match self.trees.keep(name) {
                Value::Text(name) => name,
                _ => return,
            },
        };
        let key = trimmed(name);
        let meaning = self.rules.keys.meaning_of(key);
        self.candidates.add_owned(Level::Tags, meaning, key, value);
    }

    fn peek_next(&self) -> Next<'w> {
        if self.tags == Tags::List && self.depth == IN_TAGS {
            Next::Item
        } else {
            self.next
        }
    }

    fn take_next(&mut self) -> Next<'w> {
        let next = self.peek_next();
        self.next = Next::Data;
        next
    }

    fn separate(&mut self) -> Result<(), TooLong> {
        if self.needs_comma {
            self.json.raw(",")
        } else {
            Ok(())
        }
    }
}

impl<'a> Item<'a> {
    fn set(&mut self, key: ItemKey, value: Value<'a>) {
        match key {
            ItemKey::Name => self.name.get_or_insert(value),
            ItemKey::Value => self.value.get_or_insert(value),
        };
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
