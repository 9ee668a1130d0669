//! A regular expression as a table, in which matching takes one step for each character, whatever the expression is.
//!
//! Characters that the expression does not tell apart share a symbol. The table has a column for each symbol, so a
//! Unicode class costs as little as an ASCII one, and an expression whose table would be large is refused.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

/// The largest table: enough for any text of 256 bytes.
const TABLE_BYTES: usize = 144 * 1024;

/// The memory for making the table. It bounds how long that takes, or to find out that the table would be larger: some
/// two milliseconds.
const BUILD_BYTES: usize = 40 * 1024;

/// The size of the expression before it is made a table.
const NFA_BYTES: usize = 16 * 1024;

/// Ranges of characters that the classes of an expression may have together: `\w` has some 800.
const MAX_RANGES: usize = 4096;

/// The classes that an expression may have, each character of a literal being one.
const MAX_CLASSES: usize = 64 * WORDS;
const WORDS: usize = 5;

/// The classes that a character belongs to, as bits.
type Membership = [u64; WORDS];

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Automaton {
    search: Search,
    beginning: Box<[u8]>,
    ending: Box<[u8]>,
}

#[derive(Debug)]
enum Search {
    /// The expression is a text, which needs no table.
    Text(Box<str>),
    Table(Box<Table>),
}

#[derive(Debug)]
struct Table {
    symbols: Symbols,
    states: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// Why a text makes no automaton.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// It is no regular expression, for the reason that the parser gives.
    Syntax(String),
    /// The table would be too large.
    TooBig,
}

/// Which symbol stands for a character.
#[derive(Debug)]
struct Symbols {
    ascii: [u8; 128],
    /// Where each run of characters with the same symbol begins, in order.
    runs: Box<[(u32, u8)]>,
}

impl Automaton {
    /// Compiles an expression that is found anywhere in a text.
    ///
    /// # Errors
    /// [`CompileError`] when it is malformed, or its table would be too large.
    pub(crate) fn compile(text: &str) -> Result<Self, CompileError> {
        let hir =
            regex_syntax::parse(text).map_err(|error| CompileError::Syntax(error.to_string()))?;
        let search = match hir.kind() {
            HirKind::Literal(literal) => Search::Text(characters(&literal.0)?.into()),
            _ => Search::Table(Box::new(Table::of(&hir)?)),
        };
        let properties = hir.properties();
        let literals = |is_anchored: bool, kind: ExtractKind| {
            is_anchored.then(|| Extractor::new().kind(kind).extract(&hir))
        };
        let common = |seq: Option<Seq>, common: fn(&Seq) -> Option<&[u8]>| {
            seq.as_ref().and_then(common).unwrap_or_default().into()
        };
        let is_anchored = properties.look_set_prefix().contains(Look::Start);
        let first = literals(is_anchored, ExtractKind::Prefix);
        let is_anchored = properties.look_set_suffix().contains(Look::End);
        let last = literals(is_anchored, ExtractKind::Suffix);
        Ok(Self {
            search,
            beginning: common(first, Seq::longest_common_prefix),
            ending: common(last, Seq::longest_common_suffix),
        })
    }

    /// What every text begins with in which the expression is found.
    pub(crate) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// What every such text ends with.
    pub(crate) fn ending(&self) -> &[u8] {
        &self.ending
    }

    /// Whether the expression is found in the text.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        match &self.search {
            Search::Text(wanted) => text.contains(&**wanted),
            Search::Table(table) => table.is_match(text),
        }
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    fn memory(&self) -> usize {
        match &self.search {
            Search::Text(wanted) => wanted.len(),
            Search::Table(table) => table.states.memory_usage() + size_of_val(&*table.symbols.runs),
        }
    }
}

impl Table {
    fn of(hir: &Hir) -> Result<Self, CompileError> {
        let (symbols, translated) = Classes::of(hir)?.translate(hir)?;
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(NFA_BYTES)),
            )
            .build_from_hir(&translated)
            .map_err(|_| CompileError::TooBig)?;
        let states = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .accelerate(false)
                    .dfa_size_limit(Some(TABLE_BYTES))
                    .determinize_size_limit(Some(BUILD_BYTES)),
            )
            .build_from_nfa(&nfa)
            .map_err(|_| CompileError::TooBig)?;
        let start = states
            .start_state(&start::Config::new())
            .map_err(|_| CompileError::TooBig)?;
        Ok(Self {
            symbols,
            states,
            start,
        })
    }

    /// At most one step for each character, and one more.
    fn is_match(&self, text: &str) -> bool {
        let mut state = self.start;
        for character in text.chars() {
            state = self.states.next_state(state, self.symbols.of(character));
            if self.states.is_special_state(state) {
                if self.states.is_match_state(state) {
                    return true;
                }
                if self.states.is_dead_state(state) {
                    return false;
                }
            }
        }
        self.states
            .is_match_state(self.states.next_eoi_state(state))
    }
}

impl Symbols {
    fn of(&self, character: char) -> u8 {
        match self.ascii.get(character as usize) {
            Some(symbol) => *symbol,
            None => self.in_run(character as u32),
        }
    }

    fn in_run(&self, character: u32) -> u8 {
        let behind = self.runs.partition_point(|(start, _)| *start <= character);
        self.runs[behind.saturating_sub(1)].1
    }
}

/// The classes of an expression, no two the same.
#[derive(Debug, Default)]
struct Classes {
    places: HashMap<Vec<(u32, u32)>, usize>,
    ranges: usize,
    /// The class that word boundaries look at.
    word: Option<Word>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Ascii,
    Unicode,
}

/// The symbols of each class.
type Members = Vec<Vec<u8>>;

impl Classes {
    fn of(hir: &Hir) -> Result<Self, CompileError> {
        let mut classes = Self::default();
        classes.collect(hir)?;
        Ok(classes)
    }

    fn add(&mut self, ranges: Vec<(u32, u32)>) -> Result<usize, CompileError> {
        if let Some(place) = self.places.get(&ranges) {
            return Ok(*place);
        }
        let place = self.places.len();
        self.ranges += ranges.len();
        if place >= MAX_CLASSES || self.ranges > MAX_RANGES {
            return Err(CompileError::TooBig);
        }
        self.places.insert(ranges, place);
        Ok(place)
    }

    fn collect(&mut self, hir: &Hir) -> Result<(), CompileError> {
        match hir.kind() {
            HirKind::Empty => Ok(()),
            HirKind::Literal(literal) => {
                for character in characters(&literal.0)?.chars() {
                    self.add(vec![single(character)])?;
                }
                Ok(())
            }
            HirKind::Class(class) => self.add(ranges(class)).map(drop),
            HirKind::Look(look) => self.collect_look(*look),
            HirKind::Repetition(repetition) => self.collect(&repetition.sub),
            HirKind::Capture(capture) => self.collect(&capture.sub),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().try_for_each(|part| self.collect(part))
            }
        }
    }

    fn collect_look(&mut self, look: Look) -> Result<(), CompileError> {
        let word = match look {
            Look::Start | Look::End => return Ok(()),
            Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF => {
                self.add(vec![single('\n')])?;
                return self.add(vec![single('\r')]).map(drop);
            }
            look if in_ascii(look) == look => Word::Ascii,
            _ => Word::Unicode,
        };
        if self.word.is_some_and(|other| other != word) {
            let reason = "word boundaries of ASCII and of Unicode in one expression";
            return Err(CompileError::Syntax(reason.to_owned()));
        }
        self.word = Some(word);
        self.add(word.ranges()).map(drop)
    }

    /// Gives characters their symbols, and writes the expression anew with symbols in their place.
    fn translate(self, hir: &Hir) -> Result<(Symbols, Hir), CompileError> {
        let (symbols, members) = self.symbols()?;
        let translated = self.rewrite(hir, &symbols, &members)?;
        Ok((symbols, translated))
    }

    fn symbols(&self) -> Result<(Symbols, Members), CompileError> {
        let mut edges = Vec::with_capacity(2 * self.ranges);
        for (ranges, place) in &self.places {
            for (first, last) in ranges {
                edges.push((*first, *place));
                edges.push((last + 1, *place));
            }
        }
        edges.sort_unstable();
        let word = self.word.map(|word| self.places[&word.ranges()]);
        let mut alphabet = Alphabet::new(word);
        let mut membership = Membership::default();
        let mut runs = vec![(0, alphabet.symbol(0, &membership)?)];
        for (at, edge) in edges.iter().enumerate() {
            let (start, place) = *edge;
            membership[place / 64] ^= 1 << (place % 64);
            if edges.get(at + 1).is_none_or(|(next, _)| *next != start) {
                let symbol = alphabet.symbol(start, &membership)?;
                match runs.last_mut() {
                    Some(last) if last.0 == start => last.1 = symbol,
                    _ => runs.push((start, symbol)),
                }
            }
        }
        runs.dedup_by_key(|(_, symbol)| *symbol);
        let mut symbols = Symbols {
            ascii: [0; 128],
            runs: runs.into(),
        };
        for character in 0..128_u8 {
            symbols.ascii[usize::from(character)] = symbols.in_run(character.into());
        }
        Ok((symbols, alphabet.members(self.places.len())))
    }

    fn rewrite(
        &self,
        hir: &Hir,
        symbols: &Symbols,
        members: &Members,
    ) -> Result<Hir, CompileError> {
        let all = |parts: &[Hir]| {
            parts
                .iter()
                .map(|part| self.rewrite(part, symbols, members))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match hir.kind() {
            HirKind::Empty => Hir::empty(),
            HirKind::Literal(literal) => {
                let characters = characters(&literal.0)?.chars();
                Hir::literal(
                    characters
                        .map(|character| symbols.of(character))
                        .collect::<Vec<_>>(),
                )
            }
            HirKind::Class(class) => {
                let place = self.places[&ranges(class)];
                let symbols = members[place].iter();
                Hir::class(Class::Bytes(ClassBytes::new(
                    symbols.map(|symbol| ClassBytesRange::new(*symbol, *symbol)),
                )))
            }
            HirKind::Look(look) => Hir::look(in_ascii(*look)),
            HirKind::Repetition(repetition) => Hir::repetition(Repetition {
                sub: Box::new(self.rewrite(&repetition.sub, symbols, members)?),
                ..*repetition
            }),
            HirKind::Capture(capture) => self.rewrite(&capture.sub, symbols, members)?,
            HirKind::Concat(parts) => Hir::concat(all(parts)?),
            HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
        })
    }
}

impl Word {
    fn ranges(self) -> Vec<(u32, u32)> {
        static UNICODE: LazyLock<Vec<(u32, u32)>> =
            LazyLock::new(|| match regex_syntax::parse(r"\w") {
                Ok(hir) => match hir.kind() {
                    HirKind::Class(class) => ranges(class),
                    _ => Vec::new(),
                },
                Err(_) => Vec::new(),
            });
        match self {
            Self::Ascii => [('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]
                .map(|(first, last)| (first as u32, last as u32))
                .to_vec(),
            Self::Unicode => UNICODE.clone(),
        }
    }
}

/// Hands out symbols. Those of words are ASCII letters, digits and the underscore, so that the boundaries of words stay.
struct Alphabet {
    given: HashMap<Membership, u8>,
    word: Option<usize>,
    words: Vec<u8>,
    others: Vec<u8>,
}

impl Alphabet {
    fn new(word: Option<usize>) -> Self {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let (words, others) = (0..=u8::MAX)
            .filter(|byte| !matches!(byte, b'\n' | b'\r'))
            .partition(is_word);
        Self {
            given: HashMap::new(),
            word,
            words,
            others,
        }
    }

    /// The symbol of the characters from there on that belong to just these classes.
    fn symbol(&mut self, start: u32, membership: &Membership) -> Result<u8, CompileError> {
        if let Some(symbol) = self.given.get(membership) {
            return Ok(*symbol);
        }
        let is_word = self
            .word
            .is_some_and(|place| membership[place / 64] >> (place % 64) & 1 == 1);
        let symbol = match char::from_u32(start) {
            // Where lines matter these are alone; elsewhere it does not matter which symbol it is.
            Some('\n') => Some(b'\n'),
            Some('\r') => Some(b'\r'),
            _ if is_word => self.words.pop(),
            _ => self.others.pop(),
        };
        let symbol = symbol.ok_or(CompileError::TooBig)?;
        self.given.insert(*membership, symbol);
        Ok(symbol)
    }

    fn members(self, classes: usize) -> Members {
        let mut members = vec![Vec::new(); classes];
        for (membership, symbol) in self.given {
            for (place, symbols) in members.iter_mut().enumerate() {
                if membership[place / 64] >> (place % 64) & 1 == 1 {
                    symbols.push(symbol);
                }
            }
        }
        members
    }
}

fn characters(literal: &[u8]) -> Result<&str, CompileError> {
    // The parser splits no character.
    std::str::from_utf8(literal).map_err(|_| CompileError::TooBig)
}

fn single(character: char) -> (u32, u32) {
    (character.into(), character.into())
}

fn ranges(class: &Class) -> Vec<(u32, u32)> {
    match class {
        Class::Unicode(class) => class
            .iter()
            .map(|range| (range.start().into(), range.end().into()))
            .collect(),
        // Of bytes there are only those of ASCII, as what matches has to be UTF-8.
        Class::Bytes(class) => class
            .iter()
            .map(|range| (range.start().into(), range.end().into()))
            .collect(),
    }
}

/// The same boundary between symbols.
fn in_ascii(look: Look) -> Look {
    match look {
        Look::WordUnicode => Look::WordAscii,
        Look::WordUnicodeNegate => Look::WordAsciiNegate,
        Look::WordStartUnicode => Look::WordStartAscii,
        Look::WordEndUnicode => Look::WordEndAscii,
        Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
        Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
        look => look,
    }
}

#[cfg(test)]
#[path = "automaton_tests.rs"]
mod tests;
