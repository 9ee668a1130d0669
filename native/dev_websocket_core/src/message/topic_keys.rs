//! Meanings of the keys of tags, as a table, because every tag of every message is looked up.

use super::json::is_private;
use super::tags::is_tags_key;
use super::topic::RESERVED_KEYS;

/// The meaning of a key among the tags of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Its value names topics.
    Explicit,
    /// Its scalar value makes one topic, `key:value`.
    Tag,
    /// It makes no topic.
    Nothing,
}

/// Keys up to this length are filed by their length; no others are known by heart.
const LONGEST: usize = 32;

/// The keys that make no topic or name topics, in any letter case. All others are tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicKeys {
    by_length: Box<[Vec<Filed>]>,
    /// Excluded keys that are longer.
    long: Vec<Box<str>>,
    /// Endings of excluded keys.
    endings: Vec<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Filed {
    key: Box<str>,
    meaning: Meaning,
}

impl TopicKeys {
    /// Makes the table with keys that make no topic, in lower case; a leading `*` matches any prefix.
    #[must_use]
    pub fn new<'k>(excluded: impl IntoIterator<Item = &'k str>) -> Self {
        let mut keys = Self {
            by_length: (0..=LONGEST).map(|_| Vec::new()).collect(),
            long: Vec::new(),
            endings: Vec::new(),
        };
        for key in ["topic", "topics"] {
            keys.file(key, Meaning::Explicit);
        }
        for key in RESERVED_KEYS {
            keys.file(key, Meaning::Nothing);
        }
        for pattern in excluded {
            keys.exclude(pattern);
        }
        keys
    }

    /// Excludes one more key, or all keys with an ending.
    pub fn exclude(&mut self, pattern: &str) {
        match pattern.strip_prefix('*') {
            Some(ending) => self.endings.push(ending.into()),
            None if pattern.len() > LONGEST => self.long.push(pattern.into()),
            None => self.file(pattern, Meaning::Nothing),
        }
    }

    /// Files a meaning behind those that came first, which count.
    fn file(&mut self, key: &str, meaning: Meaning) {
        self.by_length[key.len()].push(Filed {
            key: key.into(),
            meaning,
        });
    }

    /// Returns the meaning of a key without blanks around it.
    pub(crate) fn meaning_of(&self, key: &str) -> Meaning {
        let filed = self.by_length.get(key.len());
        let filed = filed.and_then(|keys| keys.iter().find(|filed| is_key(key, &filed.key)));
        match filed {
            Some(filed) => filed.meaning,
            None if self.makes_topic(key) => Meaning::Tag,
            None => Meaning::Nothing,
        }
    }

    fn makes_topic(&self, key: &str) -> bool {
        let ends = |ending: &str| {
            key.len() >= ending.len()
                && key.is_char_boundary(key.len() - ending.len())
                && is_key(&key[key.len() - ending.len()..], ending)
        };
        !key.is_empty()
            && !is_tags_key(key)
            && !is_private(key)
            && !self.long.iter().any(|long| is_key(key, long))
            && !self.endings.iter().any(|ending| ends(ending))
    }
}

fn is_key(key: &str, filed: &str) -> bool {
    key.eq_ignore_ascii_case(filed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_have_one_meaning_in_any_letter_case() {
        let long = "l".repeat(LONGEST + 1);
        let keys = TopicKeys::new(["data", "*stamp", "topic", &long]);
        for (key, expected) in [
            ("Topic", Meaning::Explicit),
            ("TOPICS", Meaning::Explicit),
            ("Action", Meaning::Tag),
            ("ü", Meaning::Tag),
            ("", Meaning::Nothing),
            ("tags", Meaning::Nothing),
            ("From", Meaning::Nothing),
            ("Data", Meaning::Nothing),
            ("Block-TimeStamp", Meaning::Nothing),
            ("stamp", Meaning::Nothing),
            ("stamps", Meaning::Tag),
            ("Private", Meaning::Nothing),
            (&long.to_uppercase(), Meaning::Nothing),
            (&"l".repeat(LONGEST + 2), Meaning::Tag),
        ] {
            assert_eq!(keys.meaning_of(key), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn an_excluded_key_makes_no_topic(key in "\\PC{1,40}", others in prop::collection::vec("\\PC{1,40}", 0..4)) {
            let excluded = key.strip_prefix('*').unwrap_or(&key);
            let keys = TopicKeys::new(others.iter().map(String::as_str).chain([excluded]));
            prop_assert_ne!(keys.meaning_of(excluded), Meaning::Tag);
            let ending = format!("*{key}");
            prop_assert_ne!(TopicKeys::new([ending.as_str()]).meaning_of(&format!("a{key}")), Meaning::Tag);
        }
    }
}
