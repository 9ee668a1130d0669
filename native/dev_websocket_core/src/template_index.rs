//! Which of many templates a message matches, without trying each.

use std::collections::HashMap;
use std::ptr;

use serde_json::Value as Json;
use smallvec::SmallVec;

use crate::message::template::{MAX_TEMPLATE_BYTES, Template, each_tag};

/// Templates that may match the same messages.
type Bucket<H> = Vec<(Template, H)>;

/// Templates with their handles, by a tag that every message has which they match.
#[derive(Debug)]
pub(crate) struct TemplateIndex<H> {
    /// By key, then by text, so that a text is looked at only when somebody asks for its key.
    by_tag: HashMap<Box<str>, HashMap<Box<str>, Bucket<H>>>,
    /// Those that ask for no scalar at the top level.
    others: Bucket<H>,
}

impl<H: Copy> TemplateIndex<H> {
    /// Without templates.
    pub(crate) fn new() -> Self {
        Self {
            by_tag: HashMap::new(),
            others: Vec::new(),
        }
    }

    /// Adds a template. One that is there already gets the new handle.
    pub(crate) fn add(&mut self, template: Template, handle: H) {
        let bucket = match template.index() {
            Some((key, text)) => self
                .by_tag
                .entry(key.into())
                .or_default()
                .entry(text.into())
                .or_default(),
            None => &mut self.others,
        };
        match bucket.iter_mut().find(|(there, _)| *there == template) {
            Some((_, there)) => *there = handle,
            None => bucket.push((template, handle)),
        }
    }

    /// Removes a template.
    pub(crate) fn remove(&mut self, template: &Template) {
        let Some((key, text)) = template.index() else {
            remove_from(&mut self.others, template);
            return;
        };
        let Some(texts) = self.by_tag.get_mut(key) else {
            return;
        };
        if let Some(bucket) = texts.get_mut(text) {
            remove_from(bucket, template);
            if bucket.is_empty() {
                texts.remove(text);
            }
        }
        if texts.is_empty() {
            self.by_tag.remove(key);
        }
    }

    /// Whether there are no templates.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_tag.is_empty() && self.others.is_empty()
    }

    /// Appends the handles of the templates that match, each template's once, in no particular order.
    pub(crate) fn matching(&self, message: &Json, found: &mut Vec<H>) {
        let mut buckets: SmallVec<[&[(Template, H)]; 8]> = SmallVec::new();
        if !self.by_tag.is_empty() {
            each_tag(message, &mut |key, text| {
                // No template is that long: not worth a hash.
                if text.len() <= MAX_TEMPLATE_BYTES
                    && let Some(bucket) = self.by_tag.get(key).and_then(|texts| texts.get(text))
                {
                    buckets.push(bucket);
                }
            });
        }
        // A message may have the same tag twice. Two buckets are never at the same place, for none is empty.
        buckets.sort_unstable_by_key(|bucket| bucket.as_ptr());
        buckets.dedup_by(|left, right| ptr::eq(left.as_ptr(), right.as_ptr()));
        let candidates = buckets.into_iter().chain([self.others.as_slice()]);
        found.extend(
            candidates
                .flatten()
                .filter(|(template, _)| template.matches(message))
                .map(|(_, handle)| *handle),
        );
    }
}

fn remove_from<H>(bucket: &mut Bucket<H>, template: &Template) {
    if let Some(place) = bucket.iter().position(|(there, _)| there == template) {
        bucket.swap_remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::template::tests::{random_pair, random_template};
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
