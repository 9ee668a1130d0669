//! Conversion of terms to messages within a budget, so that no message can make publishing slow or use much memory.
//!
//! The core decides the meaning of a message's values; this module only maps terms to [`Value`].

use std::borrow::Cow;
use std::collections::HashSet;

use dev_websocket_core::message::Value;
use dev_websocket_core::message::json::{binary_key, leaves_node};
use rustler::{Atom, Binary, Term, TermType};

use crate::atoms;
use crate::integers::LargeIntegers;
use crate::terms::{atom_name, cells, charlist, pairs, tuple_elements};

/// The maximum depth of nested containers; deeper ones are omitted.
pub(crate) const MAX_DEPTH: usize = 64;

/// The maximum length of a charlist that is a key. Binaries are checked as a whole, charlists character by character.
const MAX_KEY_CHARACTERS: usize = 100;

/// The error of a message that exceeds the budget.
#[derive(Debug)]
pub(crate) struct BeyondBudget;

/// The part of a message that may still be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// The number of values, including omitted ones.
    nodes: usize,
    /// The bytes of text, including keys.
    text: usize,
}

impl Budget {
    /// Makes the budget of a scheduler thread: about a tenth of the millisecond that a NIF may take.
    pub(crate) fn inline() -> Self {
        Self {
            nodes: 1024,
            text: 64 * 1024,
        }
    }

    /// Makes the budget of a message of at most `max_message_bytes` as JSON. Each value but the first takes at least
    /// two bytes, its own and a separator, and text takes at least its own length.
    pub(crate) fn of_message(max_message_bytes: u64) -> Self {
        let bytes = usize::try_from(max_message_bytes).unwrap_or(usize::MAX);
        Self {
            nodes: bytes / 2 + 1,
            text: bytes,
        }
    }
}

impl Budget {
    /// Returns the bytes of text that may be read.
    pub(crate) fn text(self) -> usize {
        self.text
    }

    /// Returns the share of a time slice for reading and encoding the spent budget, in percent: 10 KiB of text or 200
    /// values take a hundredth of a millisecond.
    pub(crate) fn percent_spent(self, left: Self) -> i32 {
        let percent = (self.text - left.text) / 10_240 + (self.nodes - left.nodes) / 200;
        i32::try_from(percent).map_or(100, |percent| percent.min(100))
    }

    pub(crate) fn spend_nodes(&mut self, count: usize) -> Result<(), BeyondBudget> {
        self.nodes = self.nodes.checked_sub(count).ok_or(BeyondBudget)?;
        Ok(())
    }

    pub(crate) fn spend_text(&mut self, bytes: usize) -> Result<(), BeyondBudget> {
        self.text = self.text.checked_sub(bytes).ok_or(BeyondBudget)?;
        Ok(())
    }
}

/// Reads a message; returns the share of a time slice for reading and encoding it, in percent.
pub(crate) fn message<'a>(
    term: Term<'a>,
    budget: Budget,
    commitments: bool,
) -> Result<(Value<'a>, i32), BeyondBudget> {
    let mut left = budget;
    let value = value(term, &mut left, commitments)?;
    Ok((value, budget.percent_spent(left)))
}

/// Reads a message within the rest of a budget.
pub(crate) fn value<'a>(
    term: Term<'a>,
    left: &mut Budget,
    commitments: bool,
) -> Result<Value<'a>, BeyondBudget> {
    let mut reader = Reader::new(*left, commitments);
    let value = reader.value(term, 0)?;
    *left = reader.left;
    Ok(value)
}

/// Reads parts of one message within its budget.
pub(crate) struct Reader<'a> {
    pub(crate) left: Budget,
    commitments: bool,
    integers: LargeIntegers<'a>,
}

/// The interpretation of a list, with its length.
pub(crate) enum Shape {
    Items(usize),
    Proplist(usize),
    Improper(usize),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(left: Budget, commitments: bool) -> Self {
        Self {
            left,
            commitments,
            integers: LargeIntegers::default(),
        }
    }

    /// Reads a value at a depth below the message.
    pub(crate) fn value(
        &mut self,
        term: Term<'a>,
        depth: usize,
    ) -> Result<Value<'a>, BeyondBudget> {
        self.spend_nodes(1)?;
        match term.get_type() {
            TermType::Atom => self.atom(term),
            TermType::Binary => self.binary(term),
            TermType::Integer => self.integer(term),
            TermType::Float => Ok(term.decode().map_or(Value::Omitted("float"), Value::Float)),
            TermType::List | TermType::Map | TermType::Tuple if depth >= MAX_DEPTH => {
                Ok(Value::Omitted("depth"))
            }
            TermType::List => self.list(term, depth),
            TermType::Map => self.map(term, depth),
            TermType::Tuple => self.tuple(term, depth),
            TermType::Fun => Ok(Value::Omitted("fun")),
            TermType::Pid => Ok(Value::Omitted("pid")),
            TermType::Port => Ok(Value::Omitted("port")),
            TermType::Ref => Ok(Value::Omitted("reference")),
            TermType::Unknown => Ok(Value::Omitted("unknown")),
        }
    }

    fn atom(&mut self, term: Term<'a>) -> Result<Value<'a>, BeyondBudget> {
        if atoms::true_() == term {
            Ok(Value::Bool(true))
        } else if atoms::false_() == term {
            Ok(Value::Bool(false))
        } else if atoms::null() == term || atoms::undefined() == term {
            Ok(Value::Null)
        } else {
            let name = atom_name(term);
            self.spend_text(name.len())?;
            Ok(Value::Text(name.into()))
        }
    }

    fn binary(&mut self, term: Term<'a>) -> Result<Value<'a>, BeyondBudget> {
        let Ok(binary) = Binary::from_term(term) else {
            return Ok(Value::Omitted("bitstring"));
        };
        let bytes = binary.as_slice();
        self.spend_text(bytes.len())?;
        Ok(
            std::str::from_utf8(bytes)
                .map_or(Value::Binary(bytes), |text| Value::Text(text.into())),
        )
    }

    fn integer(&mut self, term: Term<'a>) -> Result<Value<'a>, BeyondBudget> {
        if let Ok(number) = term.decode() {
            return Ok(Value::Integer(number));
        }
        match self.integers.digits(term) {
            Some(digits) => {
                self.spend_text(digits.len())?;
                Ok(Value::BigInteger(digits))
            }
            None => Ok(Value::Omitted("integer")),
        }
    }

    fn list(&mut self, term: Term<'a>, depth: usize) -> Result<Value<'a>, BeyondBudget> {
        match self.shape(term)? {
            Shape::Items(length) => {
                let mut items = Vec::with_capacity(length);
                for item in cells(term) {
                    items.push(self.value(item, depth + 1)?);
                }
                Ok(Value::List(items))
            }
            Shape::Proplist(length) => {
                let mut entries = Entries::with_capacity(length);
                for item in cells(term) {
                    match item.decode::<(Term<'a>, Term<'a>)>() {
                        Ok((key, value)) => self.entry(&mut entries, key, Some(value), depth)?,
                        Err(_) => self.entry(&mut entries, item, None, depth)?,
                    }
                }
                Ok(Value::Map(entries.unique(true)))
            }
            Shape::Improper(length) => {
                // No item is read, but the list was walked.
                self.spend_nodes(length)?;
                Ok(Value::Omitted("improper_list"))
            }
        }
    }

    /// Walks the list once, within the budget.
    pub(crate) fn shape(&self, term: Term<'a>) -> Result<Shape, BeyondBudget> {
        let (mut length, mut pairs, mut is_proplist) = (0, 0, true);
        let mut rest = term;
        while let Ok((item, tail)) = rest.list_get_cell() {
            length += 1;
            if length > self.left.nodes {
                return Err(BeyondBudget);
            }
            if is_proplist {
                match item.decode::<(Term<'a>, Term<'a>)>() {
                    Ok((key, _)) if is_key(key) => pairs += 1,
                    Ok(_) => is_proplist = false,
                    Err(_) => is_proplist = item.is_atom(),
                }
            }
            rest = tail;
        }
        Ok(match (rest.is_empty_list(), is_proplist && pairs > 0) {
            (false, _) => Shape::Improper(length),
            (true, true) => Shape::Proplist(length),
            (true, false) => Shape::Items(length),
        })
    }

    fn map(&mut self, term: Term<'a>, depth: usize) -> Result<Value<'a>, BeyondBudget> {
        let size = term.map_size().unwrap_or(0);
        if size > self.left.nodes {
            return Err(BeyondBudget);
        }
        let mut entries = Entries::with_capacity(size);
        for (key, value) in pairs(term) {
            self.entry(&mut entries, key, Some(value), depth)?;
        }
        Ok(Value::Map(entries.unique(false)))
    }

    /// Adds an entry; a lone atom in a proplist has the value true. Values that never leave the node are not read,
    /// because commitments alone are often twenty times as large as the message.
    fn entry(
        &mut self,
        entries: &mut Entries<'a>,
        key: Term<'a>,
        value: Option<Term<'a>>,
        depth: usize,
    ) -> Result<(), BeyondBudget> {
        let name = match self.key(key)? {
            Some(name) if leaves_node(&name, self.commitments) => name,
            _ => return self.spend_nodes(1),
        };
        let value = match value {
            Some(value) => self.value(value, depth + 1)?,
            None => {
                self.spend_nodes(1)?;
                Value::Bool(true)
            }
        };
        entries.push(name, value);
        Ok(())
    }

    /// Reads a key as text; none for keys without a text form and for private keys.
    fn key(&mut self, term: Term<'a>) -> Result<Option<Cow<'a, str>>, BeyondBudget> {
        let text = match term.get_type() {
            TermType::Binary => {
                let Ok(binary) = Binary::from_term(term) else {
                    return Ok(None);
                };
                let bytes = binary.as_slice();
                self.spend_text(bytes.len())?;
                return Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Some(Cow::Borrowed(text)),
                    Err(_) if !leaves_node(&String::from_utf8_lossy(bytes), true) => None,
                    Err(_) => Some(binary_key(bytes).into()),
                });
            }
            TermType::Atom => Some(atom_name(term)),
            TermType::Integer => match term.decode::<i64>() {
                Ok(number) => Some(number.to_string()),
                Err(_) => self.integers.digits(term),
            },
            TermType::List => charlist(term, MAX_KEY_CHARACTERS),
            _ => None,
        };
        self.spend_text(text.as_ref().map_or(0, String::len))?;
        Ok(text.map(Cow::Owned))
    }

    fn tuple(&mut self, term: Term<'a>, depth: usize) -> Result<Value<'a>, BeyondBudget> {
        if let Some(target) = link_target(term) {
            self.spend_text(target.len())?;
            if let Ok(target) = std::str::from_utf8(target) {
                return Ok(Value::Link(target.into()));
            }
        }
        let (elements, arity) = tuple_elements(term);
        if arity > self.left.nodes {
            return Err(BeyondBudget);
        }
        let mut items = Vec::with_capacity(arity);
        for element in elements {
            items.push(self.value(element, depth + 1)?);
        }
        Ok(Value::List(items))
    }

    pub(crate) fn spend_nodes(&mut self, count: usize) -> Result<(), BeyondBudget> {
        self.left.spend_nodes(count)
    }

    pub(crate) fn spend_text(&mut self, bytes: usize) -> Result<(), BeyondBudget> {
        self.left.spend_text(bytes)
    }
}

/// The entries of a future map; converted keys may turn out to be equal.
struct Entries<'a> {
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    /// True if a key's text differs from its term, so that the same key may occur twice.
    converted: bool,
}

impl<'a> Entries<'a> {
    fn with_capacity(size: usize) -> Self {
        Self {
            entries: Vec::with_capacity(size),
            converted: false,
        }
    }

    fn push(&mut self, key: Cow<'a, str>, value: Value<'a>) {
        self.converted |= matches!(key, Cow::Owned(_));
        self.entries.push((key, value));
    }

    /// Returns the entries; of equal keys the first is kept.
    fn unique(mut self, from_list: bool) -> Vec<(Cow<'a, str>, Value<'a>)> {
        if from_list || self.converted {
            let mut seen = HashSet::with_capacity(self.entries.len());
            let first: Vec<bool> = self
                .entries
                .iter()
                .map(|(key, _)| seen.insert(&**key))
                .collect();
            let mut first = first.into_iter();
            self.entries.retain(|_| first.next().unwrap_or(false));
        }
        self.entries
    }
}

/// Returns the id or path of a lazy link, `{link, Id, Options}`.
fn link_target<'a>(term: Term<'a>) -> Option<&'a [u8]> {
    let (tag, id, _): (Atom, Binary<'a>, Term<'a>) = term.decode().ok()?;
    (tag == atoms::link()).then(|| id.as_slice())
}

fn is_key(term: Term<'_>) -> bool {
    term.is_atom() || term.is_binary() || charlist(term, MAX_KEY_CHARACTERS).is_some()
}
