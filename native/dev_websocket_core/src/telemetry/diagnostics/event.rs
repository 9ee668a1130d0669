//! An event as plain data, of a bounded size.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::Level;
use tracing::field::{Field, Visit};

/// The longest text, in bytes.
const MAX_TEXT: usize = 512;

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about, one of [`super::KINDS`].
    pub kind: &'static str,
    /// How grave it is.
    pub level: Level,
    /// When it happened.
    pub time: SystemTime,
    /// All of it in one line for people.
    pub text: String,
    /// The same for programs.
    pub fields: Vec<(&'static str, Value)>,
}

/// A detail of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A count or a number of something.
    Number(u64),
    /// Any text.
    Text(String),
    /// The kind of another event.
    Kind(&'static str),
}

impl Event {
    pub(super) fn read(kind: &'static str, time: SystemTime, event: &tracing::Event<'_>) -> Self {
        let mut told = Self {
            kind,
            level: *event.metadata().level(),
            time,
            text: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut told);
        told
    }

    /// So many events of a kind were held back.
    pub(super) fn suppressed(kind: &'static str, level: Level, count: u64) -> Self {
        Self {
            kind: "suppressed",
            level,
            time: SystemTime::now(),
            text: format!(
                "The WebSocket server suppressed {count} more log events of kind {kind}."
            ),
            fields: vec![("kind", Value::Kind(kind)), ("count", Value::Number(count))],
        }
    }
}

impl Visit for Event {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut line = Line::default();
        // An error says that the line is full.
        let _ = write!(line, "{value:?}");
        if field.name() == "message" {
            self.text = line.0;
        } else {
            self.fields.push((field.name(), Value::Text(line.0)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Value::Number(value)));
    }
}

/// Text without line breaks and other control characters, cut where it is too long.
#[derive(Default)]
struct Line(String);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const CUT: &str = "..";
        for character in text.chars() {
            if self.0.len() + character.len_utf8() + CUT.len() > MAX_TEXT {
                self.0.push_str(CUT);
                return Err(fmt::Error);
            }
            let is_break = character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
            self.0.push(if is_break { ' ' } else { character });
        }
        Ok(())
    }
}
