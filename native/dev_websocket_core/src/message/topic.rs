//! Topic names: what is one, and how a subscriber or a message writes it.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use compact_str::CompactString;
use smallvec::SmallVec;
use thiserror::Error;

/// The longest topic name, in bytes of UTF-8.
pub const MAX_TOPIC_BYTES: usize = 255;

/// Keys that only the node itself may publish under: a stranger must not be able to pose as a process.
pub const RESERVED_KEYS: [&str; 5] = ["process", "from", "slot", "owner", "hashpath"];

/// Seeded once per program, so that no client can choose names that collide.
static HASH_STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A valid topic name with its hash, which is computed once where the name is made.
///
/// A name is 1 to 255 bytes of UTF-8 without control characters and commas; case matters.
#[derive(Clone)]
pub struct Topic {
    hash: u64,
    name: CompactString,
}

/// The topics of a message. Most have one or two, which need no memory of their own.
pub type Topics = SmallVec<[Topic; 2]>;

/// Why a text is no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Nothing is left after trimming.
    #[error("a topic must not be empty")]
    Empty,
    /// More than [`MAX_TOPIC_BYTES`].
    #[error("a topic must not be longer than {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// A control character: it would not survive logs and terminals.
    #[error("a topic must not contain control characters")]
    ControlCharacter,
    /// A comma: it separates topics.
    #[error("a topic must not contain a comma")]
    Comma,
}

impl Topic {
    /// The topic of that name.
    ///
    /// The path form of a process, `/<id>~process@1.0`, names the same topic as `process:<id>`.
    ///
    /// # Errors
    /// [`TopicError`] when the text is not a topic name.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        check(name)?;
        Ok(match process_of_path(name) {
            Some(process) => Self::from_checked(compact_str::format_compact!("process:{process}")),
            None => Self::from_checked(CompactString::new(name)),
        })
    }

    /// The topic `key:value` with the key in lower case, the form that a tag makes.
    ///
    /// # Errors
    /// [`TopicError`] when the two together are not a topic name.
    pub fn of_tag(key: &str, value: &str) -> Result<Self, TopicError> {
        if key.len() + 1 + value.len() > MAX_TOPIC_BYTES {
            return Err(TopicError::TooLong);
        }
        let mut name = CompactString::with_capacity(key.len() + 1 + value.len());
        if key.is_ascii() {
            name.push_str(key);
            name.make_ascii_lowercase();
        } else {
            name.push_str(&key.to_lowercase());
        }
        name.push(':');
        name.push_str(value);
        check(&name)?;
        Ok(Self::from_checked(name))
    }

    fn from_checked(name: CompactString) -> Self {
        Self {
            hash: HASH_STATE.hash_one(name.as_bytes()),
            name,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether only the node may publish under this name, or under the one that it is read as.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let key = self.name.split_once(':').map(|(key, _)| key);
        key.is_some_and(is_reserved_key) || process_of_path(&self.name).is_some()
    }

    /// Bytes of memory that one copy takes.
    pub(crate) fn footprint(&self) -> usize {
        size_of::<Self>()
            + if self.name.is_heap_allocated() {
                self.name.len()
            } else {
                0
            }
    }
}

/// Whether a tag of that key is the node's to set, in any letter case.
#[must_use]
pub fn is_reserved_key(key: &str) -> bool {
    RESERVED_KEYS
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(key))
}

/// A text without the blanks around it, found at once in nearly all that have none.
#[inline]
pub(crate) fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [only] if only.is_ascii_graphic() => text,
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

/// The rules of a name, also those of a glob over names.
pub(crate) fn check(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    // No early end, so that the compiler looks at many bytes at once.
    let suspicious = |byte: &u8| (*byte < 0x20) | (*byte == b',') | (*byte >= 0x7f);
    if !name
        .as_bytes()
        .iter()
        .fold(false, |found, byte| found | suspicious(byte))
    {
        return Ok(());
    }
    if name.contains(',') {
        return Err(TopicError::Comma);
    }
    if name.chars().any(char::is_control) {
        return Err(TopicError::ControlCharacter);
    }
    Ok(())
}

fn process_of_path(name: &str) -> Option<&str> {
    let id = name.strip_prefix('/')?.strip_suffix("~process@1.0")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), formatter)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// For maps whose keys carry a hash, or are unique numbers: hashing again would only cost.
pub(crate) type PrecomputedHash = BuildHasherDefault<Precomputed>;

/// See [`PrecomputedHash`].
#[derive(Default)]
pub(crate) struct Precomputed(u64);

impl Hasher for Precomputed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_bounded_at_255_bytes() {
        assert!(Topic::new(&"t".repeat(254)).is_ok());
        assert!(Topic::new(&"t".repeat(255)).is_ok());
        assert_eq!(Topic::new(&"t".repeat(256)), Err(TopicError::TooLong));
        assert_eq!(Topic::new(&"ü".repeat(128)), Err(TopicError::TooLong));
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
    }

    #[test]
    fn commas_and_control_characters_are_refused() {
        assert_eq!(Topic::new("a,b"), Err(TopicError::Comma));
        assert_eq!(Topic::new("ü,b"), Err(TopicError::Comma));
        for bad in ["a\nb", "\0", "a\u{7f}", "ü\u{85}"] {
            assert_eq!(
                Topic::new(bad),
                Err(TopicError::ControlCharacter),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_tag_with_a_long_value_is_no_topic() {
        assert!(Topic::of_tag("k", &"v".repeat(253)).is_ok());
        assert_eq!(
            Topic::of_tag("k", &"v".repeat(254)),
            Err(TopicError::TooLong)
        );
    }

    #[test]
    fn the_path_form_of_a_process_is_its_topic() {
        assert_eq!(Topic::new("/abc~process@1.0"), Topic::new("process:abc"));
        assert_eq!(
            Topic::new("/a/b~process@1.0").unwrap().name(),
            "/a/b~process@1.0"
        );
        assert!(Topic::new("/abc~process@1.0").unwrap().is_reserved());
    }

    #[test]
    fn reserved_names_are_known_in_any_letter_case() {
        for name in ["process:x", "From:x", "SLOT:1", "owner:", "hashpath:a"] {
            assert!(Topic::new(name).unwrap().is_reserved(), "{name}");
        }
        for name in ["processes:x", "process", "a:process:x"] {
            assert!(!Topic::new(name).unwrap().is_reserved(), "{name}");
        }
        for (key, value) in [("process:x", "y"), ("FROM:", "x"), ("/a", "b~process@1.0")] {
            assert!(Topic::of_tag(key, value).unwrap().is_reserved(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn equal_names_are_equal_topics(a in "\\PC{0,20}", b in "\\PC{0,20}") {
            if let (Ok(left), Ok(right)) = (Topic::new(&a), Topic::new(&b)) {
                prop_assert_eq!(left == right, left.name() == right.name());
            }
        }

        #[test]
        fn any_text_gives_a_topic_or_a_reason(text in any::<String>()) {
            match Topic::new(&text) {
                Ok(topic) => prop_assert!((1..=MAX_TOPIC_BYTES).contains(&topic.name().len())),
                Err(reason) => prop_assert!(!reason.to_string().is_empty()),
            }
        }
    }
}
