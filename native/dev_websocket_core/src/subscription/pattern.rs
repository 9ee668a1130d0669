//! What a client subscribes to when it is not a single topic name: a glob or a regular expression over names.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};

use thiserror::Error;

use crate::message::topic::{self, TopicError};
use crate::subscription::automaton::{Automaton, CompileError};
use crate::subscription::filters::{Filing, Place};

/// The longest regular expression, in bytes of its text.
pub(crate) const MAX_REGEX_BYTES: usize = 256;

/// Bytes that an expression reads in the time of a look-up: each character takes some nanoseconds.
const REGEX_BYTES_PER_STEP: usize = 16;

/// The longest reason for refusing an expression.
const REASON_CHARS: usize = 200;

/// A glob or a regular expression over topic names. Compared and hashed by kind and text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    inner: Arc<Inner>,
}

/// A pattern that may be gone.
#[derive(Debug)]
pub(crate) struct WeakPattern(Weak<Inner>);

impl WeakPattern {
    /// The pattern, if anybody has it.
    pub(crate) fn upgrade(&self) -> Option<Pattern> {
        self.0.upgrade().map(|inner| Pattern { inner })
    }

    /// Whether nobody has it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

#[derive(Debug)]
struct Inner {
    text: Box<str>,
    kind: Kind,
    filing: OnceLock<Filing>,
}

#[derive(Debug)]
enum Kind {
    Glob,
    Regex(Box<Automaton>),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PatternError {
    /// A glob that no topic could have as its name.
    #[error(transparent)]
    Glob(#[from] TopicError),
    /// A regular expression without text.
    #[error("a regular expression must not be empty")]
    Empty,
    /// More than [`MAX_REGEX_BYTES`].
    #[error("a regular expression must not be longer than {MAX_REGEX_BYTES} bytes")]
    TooLong,
    /// Its table would be too large.
    #[error("the regular expression is too big when compiled")]
    TooBig,
    /// No regular expression; the reason has one line and names the place when it has one.
    #[error("invalid regular expression: {0}")]
    Invalid(String),
}

impl Pattern {
    /// A name in which `*` stands for any run of characters, also for none. The whole topic must match.
    ///
    /// # Errors
    /// [`PatternError::Glob`] when the text breaks the rules of topic names.
    pub(crate) fn glob(text: &str) -> Result<Self, PatternError> {
        topic::check(text)?;
        Ok(Self::new(text, Kind::Glob))
    }

    /// A regular expression, which matches a topic when it is found anywhere in it.
    ///
    /// # Errors
    /// [`PatternError`] when it is empty, too long, too big or malformed.
    pub(crate) fn regex(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_REGEX_BYTES {
            return Err(PatternError::TooLong);
        }
        let automaton = Automaton::compile(text).map_err(|error| match error {
            CompileError::TooBig => PatternError::TooBig,
            CompileError::Syntax(error) => PatternError::Invalid(reason(&error)),
        })?;
        Ok(Self::new(text, Kind::Regex(Box::new(automaton))))
    }

    fn new(text: &str, kind: Kind) -> Self {
        Self {
            inner: Arc::new(Inner {
                text: text.into(),
                kind,
                filing: OnceLock::new(),
            }),
        }
    }

    /// Does not keep it.
    pub(crate) fn downgrade(&self) -> WeakPattern {
        WeakPattern(Arc::downgrade(&self.inner))
    }

    /// Whether both are the same in memory.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// As the client wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.inner.text
    }

    /// Whether it is a regular expression, not a glob.
    pub(crate) fn is_regex(&self) -> bool {
        matches!(self.inner.kind, Kind::Regex(_))
    }

    /// Whether it matches a topic of that name.
    pub(crate) fn is_match(&self, topic: &str) -> bool {
        match &self.inner.kind {
            Kind::Glob => glob_matches(&self.inner.text, topic),
            Kind::Regex(automaton) => automaton.is_match(topic),
        }
    }

    /// What comparing it with a text of so many bytes costs, in look-ups of a topic.
    pub(crate) fn steps(&self, bytes: usize) -> usize {
        match &self.inner.kind {
            Kind::Glob => 1,
            Kind::Regex(_) => 1 + bytes / REGEX_BYTES_PER_STEP,
        }
    }

    /// What every topic begins with that it matches; empty where they have nothing in common.
    pub(crate) fn beginning(&self) -> &[u8] {
        match &self.inner.kind {
            Kind::Glob => {
                let text = self.inner.text.as_bytes();
                let star = text.iter().position(|byte| *byte == b'*');
                &text[..star.unwrap_or(text.len())]
            }
            Kind::Regex(automaton) => automaton.beginning(),
        }
    }

    /// What every such topic ends with.
    pub(crate) fn ending(&self) -> &[u8] {
        match &self.inner.kind {
            Kind::Glob => {
                let text = self.inner.text.as_bytes();
                let star = text.iter().rposition(|byte| *byte == b'*');
                &text[star.map_or(0, |star| star + 1)..]
            }
            Kind::Regex(automaton) => automaton.ending(),
        }
    }

    /// Files it, which is done once.
    ///
    /// # Errors
    /// The filing is given back where there is one already.
    pub(crate) fn file(&self, filing: Filing) -> Result<(), Filing> {
        self.inner.filing.set(filing)
    }

    /// Under which of its literals an index finds it.
    pub(crate) fn place(&self) -> Place {
        match self.inner.filing.get() {
            Some(filing) => filing.place(),
            None if !self.beginning().is_empty() => Place::Beginning,
            None if !self.ending().is_empty() => Place::Ending,
            None => Place::Anywhere,
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.is_regex() == other.is_regex() && self.text() == other.text()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_regex().hash(state);
        self.text().hash(state);
    }
}

/// The literal pieces between the stars, each at the first place where it stands: a later place never helps.
pub(crate) fn glob_matches(glob: &str, topic: &str) -> bool {
    let mut pieces = glob.split('*');
    let (Some(first), Some(last)) = (pieces.next(), pieces.next_back()) else {
        return glob == topic;
    };
    // The end is cut off what the start left, so that the two do not overlap.
    let Some(mut rest) = topic
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last))
    else {
        return false;
    };
    pieces.all(|piece| match rest.split_once(piece) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// One line of the crate's four: a title, the expression, carets below the bad place, the reason. An expression of
/// several lines is shown in another way, and its place not told.
fn reason(error: &str) -> String {
    let lines: Vec<&str> = error.lines().collect();
    let last = lines.last().copied().unwrap_or_default();
    let text = last.strip_prefix("error: ").unwrap_or(last);
    let mut reason: String = text.chars().take(REASON_CHARS - 30).collect();
    if let [_, _, carets, _] = lines.as_slice()
        && let Some(column) = carets.find('^')
    {
        // The expression is indented by four.
        reason.push_str(&format!(
            " at character {}",
            column.saturating_sub(4).saturating_add(1)
        ));
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Pattern {
        Pattern::glob(text).unwrap()
    }

    fn regex(text: &str) -> Pattern {
        Pattern::regex(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (text, topic, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("action:*", "action:Transfer", true),
            ("action:*", "action:", true),
            ("action:*", "Action:Transfer", false),
            ("action:*", "my action:Transfer", false),
            ("*:Transfer", "action:Transfer", true),
            ("*:Transfer", "action:Transfers", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a**b", "ab", true),
            ("a***b", "axb", true),
            ("**", "x", true),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("*aab*", "aaab", true),
            ("a*a", "a", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("a.c*", "abc", false),
            ("a.c*", "a.c", true),
            ("[a]*?", "[a]b?", true),
            ("ü*ü", "üü", true),
            ("*ü", "aü", true),
        ] {
            assert_eq!(glob(text).is_match(topic), expected, "{text} {topic}");
        }
    }

    #[test]
    fn a_glob_obeys_the_rules_of_topics() {
        for (text, reason) in [
            ("", TopicError::Empty),
            ("a,*", TopicError::Comma),
            ("a\n*", TopicError::ControlCharacter),
            ("\u{85}*", TopicError::ControlCharacter),
        ] {
            assert_eq!(Pattern::glob(text), Err(PatternError::Glob(reason)));
        }
        assert!(Pattern::glob(&"*".repeat(255)).is_ok());
        assert_eq!(
            Pattern::glob(&"*".repeat(256)),
            Err(PatternError::Glob(TopicError::TooLong))
        );
    }

    #[test]
    fn an_expression_is_found_anywhere_unless_anchored() {
        for (text, topic, expected) in [
            ("price", "my prices", true),
            ("^price", "my prices", false),
            ("^price:(eth|btc)$", "price:btc", true),
            ("^price:(eth|btc)$", "price:btcs", false),
            (r"^\w+:\d+$", "größe:12", true),
            ("(?i)PRICE", "prices", true),
            (r"\bü\b", "a ü b", true),
            ("a|", "", true),
        ] {
            assert_eq!(regex(text).is_match(topic), expected, "{text} {topic}");
        }
    }

    #[test]
    fn a_bad_expression_is_refused_in_one_line_with_the_place() {
        for (text, expected) in [
            ("a(b", "unclosed group at character 2"),
            ("ü[b", "unclosed character class at character 2"),
            (
                "*a",
                "repetition operator missing expression at character 1",
            ),
        ] {
            assert_eq!(
                Pattern::regex(text),
                Err(PatternError::Invalid(expected.to_owned()))
            );
        }
        assert_eq!(
            Pattern::regex("a\n(b"),
            Err(PatternError::Invalid("unclosed group".to_owned()))
        );
        assert!(matches!(
            Pattern::regex("(?=a)"),
            Err(PatternError::Invalid(_))
        ));
        assert!(matches!(
            Pattern::regex(r"(a)\1"),
            Err(PatternError::Invalid(_))
        ));
        assert_eq!(Pattern::regex(""), Err(PatternError::Empty));
        assert!(Pattern::regex(&"a".repeat(256)).is_ok());
        assert_eq!(Pattern::regex(&"a".repeat(257)), Err(PatternError::TooLong));
    }

    #[test]
    fn an_expression_that_is_big_compiled_is_refused() {
        for text in [
            "((a{100}){100}){100}",
            r"(a?\w){200}",
            r"\w{2000}",
            "[01]*1[01]{30}x",
        ] {
            assert_eq!(Pattern::regex(text), Err(PatternError::TooBig), "{text}");
        }
    }

    #[test]
    fn no_expression_explodes() {
        let long = "a".repeat(254) + "!";
        let mixed = "abbabaaab".repeat(28) + "!";
        for text in [
            "(a+)+$",
            "((a*)*)*b$",
            "(a|aa)+$",
            "(a|a?)+b$",
            "(.*a){20}$",
            "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
            "[ab]*a[ab]{8}$",
        ] {
            let pattern = regex(text);
            for _ in 0..1000 {
                assert!(!pattern.is_match(&long), "{text}");
                assert!(!pattern.is_match(&mixed), "{text}");
            }
        }
    }

    #[test]
    fn patterns_are_the_same_by_kind_and_text() {
        assert_eq!(glob("a*"), glob("a*"));
        assert_ne!(glob("a*"), regex("a*"));
        assert_ne!(glob("a*"), glob("a**"));
        assert_eq!(glob("a**").text(), "a**");
        let set = std::collections::HashSet::from([glob("a*"), regex("a*"), glob("a*")]);
        assert_eq!(set.len(), 2);
    }

    proptest! {
        #[test]
        fn a_glob_is_its_anchored_expression(text in "[ab*ü]{1,12}", topic in "[abü]{0,12}") {
            let literals: Vec<String> = text.split('*').map(regex::escape).collect();
            let expression = regex::Regex::new(&format!("(?s)\\A{}\\z", literals.join(".*"))).unwrap();
            prop_assert_eq!(glob(&text).is_match(&topic), expression.is_match(&topic));
        }

        #[test]
        fn a_glob_made_from_a_topic_matches_it(topic in "[^\\pC,*]{1,30}", stars in prop::collection::vec(any::<bool>(), 30)) {
            let text: String = topic
                .chars()
                .zip(&stars)
                .map(|(character, star)| if *star { '*' } else { character })
                .collect();
            prop_assert!(glob(&text).is_match(&topic));
        }

        #[test]
        fn any_text_gives_a_pattern_or_a_reason(text in any::<String>(), topic in any::<String>()) {
            for made in [Pattern::glob(&text), Pattern::regex(&text)] {
                match made {
                    Ok(pattern) => {
                        pattern.is_match(&topic);
                        prop_assert_eq!(pattern.text(), text.as_str());
                    }
                    Err(PatternError::Invalid(reason)) => {
                        prop_assert!(reason.chars().count() <= REASON_CHARS);
                        prop_assert!(!reason.contains('\n') && !reason.is_empty());
                    }
                    Err(reason) => prop_assert!(!reason.to_string().is_empty()),
                }
            }
        }
    }
}
