//! What is published in the soak, and what a client can choose of it.
//!
//! A message has a topic `soak:<number>` and a `kind`, which is a second topic. Both together are its class, and what a
//! client is to get is a table over classes: it is made here from the meaning of each choice, not by the engine's rules.

use std::fmt::Write as _;

/// Topics `soak:0`, `soak:1`, ..
pub(crate) const TOPICS: usize = 64;
/// Kinds `k0`, `k1`, ..
pub(crate) const KINDS: usize = 8;
const CLASSES: usize = 1 + TOPICS * KINDS;

/// Topic and kind of a message in one number; 0 has neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(pub(crate) u16);

impl Class {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(topic: usize, kind: usize) -> Self {
        Self((1 + topic * KINDS + kind) as u16)
    }

    /// The class of a message with these tags.
    pub(crate) fn parse(topic: &str, kind: &str) -> Option<Self> {
        let topic: usize = topic.strip_prefix("soak:")?.parse().ok()?;
        let kind: usize = kind.strip_prefix('k')?.parse().ok()?;
        (topic < TOPICS && kind < KINDS).then(|| Self::new(topic, kind))
    }

    pub(crate) fn topic(self) -> Option<usize> {
        (self.0 > 0).then(|| (self.0 as usize - 1) / KINDS)
    }

    fn kind(self) -> Option<usize> {
        (self.0 > 0).then(|| (self.0 as usize - 1) % KINDS)
    }
}

/// One subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// `*`
    Everything,
    /// `soak:7`
    Topic(usize),
    /// `kind:k3`
    Kind(usize),
    /// `soak:1*`
    GlobStart(usize),
    /// `s*k:*7`
    GlobEnd(usize),
    /// `^soak:[0-9]$`, `^soak:1[0-9]$`, ..
    MatchDecade(usize),
    /// `^kind:k[0-2]$`
    MatchKinds(usize),
    /// `{"kind":"k3"}`
    Template(usize),
}

/// By which field of a request, or parameter of the URL, it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Topic,
    Match,
    Template,
}

impl Choice {
    pub(crate) fn random() -> Self {
        match fastrand::u8(..16) {
            0..6 => Self::Topic(fastrand::usize(..TOPICS)),
            6 | 7 => Self::Kind(fastrand::usize(..KINDS)),
            8 => Self::GlobStart(fastrand::usize(1..7)),
            9 => Self::GlobEnd(fastrand::usize(..10)),
            10 => Self::MatchDecade(fastrand::usize(..7)),
            11 => Self::MatchKinds(fastrand::usize(..3)),
            _ => Self::Template(fastrand::usize(..KINDS)),
        }
    }

    pub(crate) fn field(self) -> Field {
        match self {
            Self::MatchDecade(_) | Self::MatchKinds(_) => Field::Match,
            Self::Template(_) => Field::Template,
            _ => Field::Topic,
        }
    }

    /// As it is written in the URL; in a request a template stands as the object that it is.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Everything => "*".to_owned(),
            Self::Topic(topic) => format!("soak:{topic}"),
            Self::Kind(kind) => format!("kind:k{kind}"),
            Self::GlobStart(digit) => format!("soak:{digit}*"),
            Self::GlobEnd(digit) => format!("s*k:*{digit}"),
            Self::MatchDecade(0) => "^soak:[0-9]$".to_owned(),
            Self::MatchDecade(tens) => format!("^soak:{tens}[0-9]$"),
            Self::MatchKinds(last) => format!("^kind:k[0-{last}]$"),
            Self::Template(kind) => format!(r#"{{"kind":"k{kind}"}}"#),
        }
    }

    /// Whether it chooses by names of topics in a way that brings more than one.
    fn is_pattern(self) -> bool {
        !matches!(self, Self::Topic(_) | Self::Kind(_) | Self::Template(_))
    }

    fn chooses(self, class: Class) -> bool {
        let (Some(topic), Some(kind)) = (class.topic(), class.kind()) else {
            return self == Self::Everything;
        };
        let tens = topic / 10;
        match self {
            Self::Everything => true,
            Self::Topic(number) => topic == number,
            Self::Kind(number) | Self::Template(number) => kind == number,
            Self::GlobStart(digit) => topic == digit || tens == digit,
            Self::GlobEnd(digit) => topic % 10 == digit,
            Self::MatchDecade(decade) => tens == decade,
            Self::MatchKinds(last) => kind <= last,
        }
    }
}

/// What a connection is subscribed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Choice>);

impl Selection {
    pub(crate) fn of(choices: impl IntoIterator<Item = Choice>) -> Self {
        let mut selection = Self::default();
        choices.into_iter().for_each(|choice| selection.add(choice));
        selection
    }

    pub(crate) fn random() -> Self {
        Self::of((0..fastrand::usize(1..5)).map(|_| Choice::random()))
    }

    pub(crate) fn add(&mut self, choice: Choice) {
        if !self.0.contains(&choice) {
            self.0.push(choice);
        }
    }

    pub(crate) fn remove(&mut self, choice: Choice) {
        self.0.retain(|held| *held != choice);
    }

    pub(crate) fn choices(&self) -> &[Choice] {
        &self.0
    }

    /// Whether the server lets go of it: a topic that a pattern goes on to bring it does not.
    pub(crate) fn can_remove(&self, choice: Choice) -> bool {
        choice.is_pattern()
            || choice.field() == Field::Template
            || !self.0.iter().any(|held| held.is_pattern())
    }

    /// The parameters of the URL.
    pub(crate) fn query(&self) -> String {
        let mut query = String::new();
        for choice in &self.0 {
            let name = match choice.field() {
                Field::Topic => "topic",
                Field::Match => "match",
                Field::Template => "template",
            };
            let _ = write!(query, "&{name}={}", percent_encoded(&choice.text()));
        }
        query
    }

    pub(crate) fn table(&self) -> Table {
        let (templates, topics): (Vec<Choice>, Vec<Choice>) = self
            .0
            .iter()
            .partition(|choice| choice.field() == Field::Template);
        let any = |choices: &[Choice], class| choices.iter().any(|choice| choice.chooses(class));
        let chosen = (0..CLASSES as u16).map(Class).map(|class| {
            match (topics.as_slice(), templates.as_slice()) {
                ([], []) => false,
                (topics, []) => any(topics, class),
                ([], templates) => any(templates, class),
                (topics, templates) => any(topics, class) && any(templates, class),
            }
        });
        Table {
            chosen: chosen.collect(),
            is_everything: templates.is_empty() && topics.contains(&Choice::Everything),
        }
    }
}

/// Which classes are chosen.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    chosen: Box<[bool]>,
    is_everything: bool,
}

impl Table {
    pub(crate) fn chooses(&self, class: Class) -> bool {
        self.chosen
            .get(class.0 as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Whether messages of every class are chosen, lost ones included.
    pub(crate) fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether a topic is chosen whatever the kind.
    pub(crate) fn has_whole(&self, topic: usize) -> bool {
        (0..KINDS).all(|kind| self.chooses(Class::new(topic, kind)))
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:*".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(choices: &[Choice]) -> Vec<(usize, usize)> {
        let table = Selection::of(choices.iter().copied()).table();
        (0..TOPICS)
            .flat_map(|topic| (0..KINDS).map(move |kind| (topic, kind)))
            .filter(|(topic, kind)| table.chooses(Class::new(*topic, *kind)))
            .collect()
    }

    fn topics(choice: Choice) -> Vec<usize> {
        let mut topics: Vec<usize> = chosen(&[choice]).into_iter().map(|(t, _)| t).collect();
        topics.dedup();
        topics
    }

    #[test]
    fn choices_mean_what_their_text_says() {
        assert_eq!(topics(Choice::GlobStart(6)), [6, 60, 61, 62, 63]);
        assert_eq!(topics(Choice::GlobEnd(3)), [3, 13, 23, 33, 43, 53, 63]);
        assert_eq!(topics(Choice::MatchDecade(0)), (0..10).collect::<Vec<_>>());
        assert_eq!(topics(Choice::MatchDecade(6)), [60, 61, 62, 63]);
        assert_eq!(chosen(&[Choice::MatchKinds(1)]).len(), TOPICS * 2);
        assert_eq!(chosen(&[Choice::Everything]).len(), TOPICS * KINDS);
    }

    #[test]
    fn with_topics_and_templates_both_must_hold() {
        assert_eq!(
            chosen(&[Choice::Topic(5), Choice::Template(2), Choice::Topic(9)]),
            [(5, 2), (9, 2)]
        );
        assert!(chosen(&[]).is_empty());
    }

    #[test]
    fn a_class_comes_from_the_tags() {
        assert_eq!(Class::parse("soak:63", "k7"), Some(Class::new(63, 7)));
        assert_eq!(Class::new(63, 7).topic(), Some(63));
        assert_eq!(Class::parse("soak:64", "k0"), None);
        assert_eq!(Class::NONE.topic(), None);
    }

    #[test]
    fn a_query_is_encoded() {
        let query = Selection::of([Choice::MatchDecade(1), Choice::Template(0)]).query();
        assert_eq!(
            query,
            "&match=%5Esoak:1%5B0-9%5D%24&template=%7B%22kind%22:%22k0%22%7D"
        );
    }
}
