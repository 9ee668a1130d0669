//! Topic names: their rules, and the forms that subscribers and messages use.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use arrayvec::ArrayString;
use compact_str::CompactString;
use smallvec::SmallVec;
use thiserror::Error;

/// The maximum length of a topic name, in bytes of UTF-8.
pub const MAX_TOPIC_BYTES: usize = 255;

/// Keys that only the node may publish under, because a stranger must not be able to pose as a process.
pub const RESERVED_KEYS: [&str; 6] = ["process", "from", "slot", "owner", "hashpath", EDGES];

/// The key of the topic for the edges of a process.
pub(crate) const EDGES: &str = "edges";

/// The hash seed of this program run, so that clients cannot choose names that collide.
static HASH_STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A valid topic name with its hash, which is computed once, at construction.
///
/// A name is 1 to 255 bytes of UTF-8 without control characters and commas. Names are case-sensitive.
#[derive(Clone)]
pub struct Topic {
    hash: u64,
    name: CompactString,
}

/// The topics of a message. Most messages have one or two, which need no allocation.
pub type Topics = SmallVec<[Topic; 2]>;

/// The reason why a text is not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The text is empty or has only blanks.
    #[error("a topic must not be empty")]
    Empty,
    /// The text is longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic must not be longer than {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// The text has a control character, which would not survive logs and terminals.
    #[error("a topic must not contain control characters")]
    ControlCharacter,
    /// The text has a comma, which separates topics.
    #[error("a topic must not contain a comma")]
    Comma,
    /// The text names the edges of a process, which have a format of their own.
    #[error("edges are available with format=edges&process=<id>, and not as a topic")]
    Edges,
}

impl Topic {
    /// Makes the topic of a name.
    ///
    /// The path form of a process, `/<id>~process@1.0`, names the same topic as `process:<id>`.
    ///
    /// # Errors
    /// The call returns [`TopicError`] when the text is not a topic name.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        check(name)?;
        Ok(match process_of_path(name) {
            Some(process) => Self::from_checked(compact_str::format_compact!("process:{process}")),
            None => Self::from_checked(CompactString::new(name)),
        })
    }

    /// Makes the topic `key:value` of a tag, with the key in lower case.
    ///
    /// # Errors
    /// The call returns [`TopicError`] when the combined text is not a topic name.
    pub fn of_tag(key: &str, value: &str) -> Result<Self, TopicError> {
        if key.len() + 1 + value.len() > MAX_TOPIC_BYTES {
            return Err(TopicError::TooLong);
        }
        let lowered: Cow<'_, str> = match key.is_ascii() {
            true => key.into(),
            false => key.to_lowercase().into(),
        };
        // The name is put together on the stack, so that one of up to 24 bytes needs no memory.
        let mut name = ArrayString::<MAX_TOPIC_BYTES>::new();
        for part in [&*lowered, ":", value] {
            name.try_push_str(part).map_err(|_| TopicError::TooLong)?;
        }
        name[..lowered.len()].make_ascii_lowercase();
        check(&name)?;
        Ok(Self::from_checked(CompactString::new(&*name)))
    }

    /// Returns the topic of a process's edges.
    pub(crate) fn of_edges(process: &str) -> Result<Self, TopicError> {
        Self::of_tag(EDGES, process)
    }

    /// Returns the process whose edges the topic names.
    pub(crate) fn edges_of(&self) -> Option<&str> {
        self.name.strip_prefix(EDGES)?.strip_prefix(':')
    }

    fn from_checked(name: CompactString) -> Self {
        Self {
            hash: HASH_STATE.hash_one(name.as_bytes()),
            name,
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether only the node may publish under this name or its canonical form.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let key = self.name.split_once(':').map(|(key, _)| key);
        key.is_some_and(is_reserved_key) || process_of_path(&self.name).is_some()
    }

    /// Returns the bytes of memory that one copy takes.
    pub(crate) fn footprint(&self) -> usize {
        size_of::<Self>()
            + if self.name.is_heap_allocated() {
                self.name.len()
            } else {
                0
            }
    }
}

/// Returns whether a key is reserved for the node, regardless of letter case.
#[must_use]
pub fn is_reserved_key(key: &str) -> bool {
    RESERVED_KEYS
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(key))
}

/// Trims blanks. Nearly all texts have none, so the first check is fast.
#[inline]
pub(crate) fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [only] if only.is_ascii_graphic() => text,
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

/// Checks the rules of a topic name, which also apply to globs.
pub(crate) fn check(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    // The loop has no early exit so that the compiler can vectorize it.
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

/// Hasher for maps whose keys carry a hash or are unique numbers, so that they are not hashed again.
pub(crate) type PrecomputedHash = BuildHasherDefault<Precomputed>;

/// Passes on the number that a key writes as its hash.
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
