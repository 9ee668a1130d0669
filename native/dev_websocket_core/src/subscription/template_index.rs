//! Which of many templates a message matches, without trying each.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr;

use serde_json::Value as Json;
use slab::Slab;
use smallvec::SmallVec;

use crate::message::fields::Fields;
use crate::subscription::template::{MAX_TEMPLATE_BYTES, Template};

/// Keys of templates that may match the same messages.
type Bucket = Vec<u32>;

/// Templates with their handles, by a scalar that every message has which they match.
#[derive(Debug)]
pub(crate) struct TemplateIndex<H> {
    held: Slab<Held<H>>,
    keys: HashMap<Template, u32>,
    /// By key, then by text, so that a text is looked at only when somebody asks for its key.
    by_scalar: HashMap<Box<str>, HashMap<Box<str>, Bucket>>,
    /// Those that are filed under no scalar.
    others: Bucket,
    /// How often a template was compared with a message.
    compared: Cell<u64>,
}

#[derive(Debug)]
struct Held<H> {
    template: Template,
    handle: H,
    /// Where it stands in its bucket.
    position: usize,
}

impl<H: Copy> TemplateIndex<H> {
    /// Without templates.
    pub(crate) fn new() -> Self {
        Self {
            held: Slab::new(),
            keys: HashMap::new(),
            by_scalar: HashMap::new(),
            others: Vec::new(),
            compared: Cell::new(0),
        }
    }

    /// Adds a template. One that is there already gets the new handle.
    pub(crate) fn add(&mut self, template: Template, handle: H) {
        if let Some(key) = self.keys.get(&template) {
            self.held[*key as usize].handle = handle;
            return;
        }
        let key = self.held.vacant_key() as u32;
        let bucket = match template.filed_scalar() {
            Some((name, text)) => self
                .by_scalar
                .entry(name.into())
                .or_default()
                .entry(text.into())
                .or_default(),
            None => &mut self.others,
        };
        let position = bucket.len();
        bucket.push(key);
        self.keys.insert(template.clone(), key);
        self.held.insert(Held {
            template,
            handle,
            position,
        });
    }

    /// Removes a template.
    pub(crate) fn remove(&mut self, template: &Template) {
        let Some(key) = self.keys.remove(template) else {
            return;
        };
        let Held {
            template, position, ..
        } = self.held.remove(key as usize);
        let moved = match template.filed_scalar() {
            None => remove_at(&mut self.others, position),
            Some((name, text)) => self.remove_scalar(name, text, position),
        };
        if let Some(moved) = moved {
            self.held[moved as usize].position = position;
        }
    }

    fn remove_scalar(&mut self, name: &str, text: &str, position: usize) -> Option<u32> {
        let texts = self.by_scalar.get_mut(name)?;
        let bucket = texts.get_mut(text)?;
        let moved = remove_at(bucket, position);
        if bucket.is_empty() {
            texts.remove(text);
            if texts.is_empty() {
                self.by_scalar.remove(name);
            }
        }
        moved
    }

    /// The handle of a template, if it is there.
    pub(crate) fn get(&self, template: &Template) -> Option<H> {
        let key = self.keys.get(template)?;
        Some(self.held[*key as usize].handle)
    }

    /// The handles of all.
    pub(crate) fn handles(&self) -> impl Iterator<Item = H> {
        self.held.iter().map(|(_, held)| held.handle)
    }

    /// Whether there are no templates.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How often a template was compared with a message.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn compared(&self) -> u64 {
        self.compared.get()
    }

    /// Appends the handles of the templates that match, each template's once, in no particular order.
    pub(crate) fn matching(&self, message: &Json, found: &mut Vec<H>) {
        let Some(fields) = Fields::of(message) else {
            return;
        };
        let mut buckets: SmallVec<[&[u32]; 8]> = SmallVec::new();
        if !self.by_scalar.is_empty() {
            fields.each_scalar(&mut |key, text| {
                // No template is that long: not worth a hash.
                if text.len() <= MAX_TEMPLATE_BYTES
                    && let Some(bucket) = self.by_scalar.get(key).and_then(|texts| texts.get(text))
                {
                    buckets.push(bucket);
                }
            });
        }
        // A message may have the same tag twice. Two buckets are never at the same place, for none is empty.
        buckets.sort_unstable_by_key(|bucket| bucket.as_ptr());
        buckets.dedup_by(|left, right| ptr::eq(left.as_ptr(), right.as_ptr()));
        for key in buckets
            .into_iter()
            .chain([self.others.as_slice()])
            .flatten()
        {
            let held = &self.held[*key as usize];
            self.compared.set(self.compared.get() + 1);
            if held.template.matches_fields(&fields) {
                found.push(held.handle);
            }
        }
    }
}

fn remove_at(bucket: &mut Bucket, position: usize) -> Option<u32> {
    bucket.swap_remove(position);
    bucket.get(position).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::template::tests::{random_pair, random_template};
    use proptest::prelude::*;
    use serde_json::json;

    fn template(value: Json) -> Template {
        Template::from_json(value).unwrap()
    }

    fn found(index: &TemplateIndex<usize>, message: &Json) -> Vec<usize> {
        let mut found = Vec::new();
        index.matching(message, &mut found);
        found.sort_unstable();
        found
    }

    #[test]
    fn templates_are_found_by_tag_or_tried() {
        let mut index = TemplateIndex::new();
        assert!(index.is_empty());
        index.add(template(json!({"action": "Mint"})), 1);
        index.add(template(json!({"action": "Mint", "n": 2})), 2);
        index.add(template(json!({"n": 2})), 3);
        index.add(template(json!({"o": {"p": 1}})), 4);
        index.add(template(json!("/x")), 5);
        assert_eq!(
            found(&index, &json!({"Action": "Mint", "N": "2"})),
            [1, 2, 3]
        );
        assert_eq!(found(&index, &json!({"o": {"p": 1}, "path": "/x"})), [4, 5]);
        assert_eq!(found(&index, &json!(["Mint"])), [0; 0]);
    }

    #[test]
    fn a_tag_that_is_there_twice_finds_a_template_once() {
        let mut index = TemplateIndex::new();
        index.add(template(json!({"a": 1})), 1);
        index.add(template(json!({"b": 1})), 2);
        let message = json!({"a": 1, "A": "1", "tags": [["a", 1], ["b", 1], ["a", 1], ["b", "1"]]});
        assert_eq!(found(&index, &message), [1, 2]);
    }

    #[test]
    fn removed_templates_leave_nothing() {
        let mut index = TemplateIndex::new();
        let all = [
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
            json!({"a": 2}),
            json!("/x"),
        ];
        for (handle, value) in all.iter().enumerate() {
            index.add(template(value.clone()), handle);
        }
        index.add(template(json!({"A": "1"})), 9);
        assert_eq!(found(&index, &json!({"a": 1})), [9]);
        index.remove(&template(json!({"z": 1})));
        for value in all {
            assert!(!index.is_empty());
            index.remove(&template(value.clone()));
            index.remove(&template(value));
        }
        assert!(index.is_empty());
        assert_eq!(found(&index, &json!({"a": 1, "path": "/x"})), [0; 0]);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_trying_all_finds(
            added in prop::collection::vec(random_template(), 0..8),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            pairs in prop::collection::vec(random_pair(), 1..4),
        ) {
            let (related, messages): (Vec<Template>, Vec<Json>) = pairs.into_iter().unzip();
            let added = [added, related].concat();
            let mut index = TemplateIndex::new();
            let mut model: Vec<(Template, usize)> = Vec::new();
            for (handle, template) in added.iter().enumerate() {
                index.add(template.clone(), handle);
                model.retain(|(there, _)| there != template);
                model.push((template.clone(), handle));
            }
            for place in &removed {
                index.remove(place.get(&added));
                model.retain(|(there, _)| there != place.get(&added));
            }
            prop_assert_eq!(index.is_empty(), model.is_empty());
            for message in messages {
                let expected: Vec<usize> = model
                    .iter()
                    .filter(|(template, _)| template.matches(&message))
                    .map(|(_, handle)| *handle)
                    .collect();
                prop_assert_eq!(found(&index, &message), expected);
            }
        }
    }
}
