//! Terms to core types, within a budget: nothing in a message can make a cast take long or use much memory.
//!
//! What a message's values *mean* is the core's business; here is only which term is which [`Value`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::message::Value;
use dev_websocket_core::message::json::leaves_node;
use dev_websocket_core::{SettingError, SettingValue, Settings};
use num_bigint::{BigInt, Sign};
use rustler::sys::enif_get_tuple;
use rustler::{Atom, Binary, MapIterator, Term, TermType};

use crate::atoms;

/// Containers inside containers; a deeper one is left out.
const MAX_DEPTH: usize = 64;

/// The longest magnitude of an integer that is written out, in bytes: its digits take time in its square.
const MAX_INTEGER_BYTES: usize = 1024;

/// The longest charlist that counts as a key. Binaries are checked at once, charlists one by one.
const MAX_KEY_CHARACTERS: usize = 100;

/// The longest charlist that counts as a setting's text.
const MAX_SETTING_CHARACTERS: usize = 4096;

/// The most texts in a setting's list.
const MAX_SETTING_ITEMS: usize = 10_000;

/// The message does not fit the budget.
#[derive(Debug)]
pub(crate) struct BeyondBudget;

/// How much of a message may be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Values, those that are left out included.
    nodes: usize,
    /// Bytes of text, keys included.
    text: usize,
}

impl Budget {
    /// What a scheduler thread may read: about a tenth of the millisecond that a NIF may take.
    pub(crate) fn inline() -> Self {
        Self {
            nodes: 1024,
            text: 64 * 1024,
        }
    }

    /// What may come to a message of so many bytes as JSON. Each value but the first takes two bytes at least, its own
    /// and a separator, and text takes no less than itself.
    pub(crate) fn of_message(max_message_bytes: u64) -> Self {
        let bytes = usize::try_from(max_message_bytes).unwrap_or(usize::MAX);
        Self {
            nodes: bytes / 2 + 1,
            text: bytes,
        }
    }
}

/// Reads a message, and says how much of a time slice that and its encoding take, in percent.
pub(crate) fn message<'a>(
    term: Term<'a>,
    budget: Budget,
    commitments: bool,
) -> Result<(Value<'a>, i32), BeyondBudget> {
    let mut reader = Reader {
        left: budget,
        commitments,
        integer_bounds: None,
    };
    let value = reader.value(term, 0)?;
    // 10 KiB of text or 200 values in a hundredth of a millisecond.
    let percent =
        (budget.text - reader.left.text) / 10_240 + (budget.nodes - reader.left.nodes) / 200;
    Ok((
        value,
        i32::try_from(percent).map_or(100, |percent| percent.min(100)),
    ))
}

struct Reader<'a> {
    left: Budget,
    commitments: bool,
    /// The least and the greatest integer that are written out, made when first needed.
    integer_bounds: Option<(Term<'a>, Term<'a>)>,
}

/// What a list is.
enum Shape {
    Items(usize),
    Proplist(usize),
    Improper,
}

impl<'a> Reader<'a> {
    fn value(&mut self, term: Term<'a>, depth: usize) -> Result<Value<'a>, BeyondBudget> {
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
        match self.digits(term) {
            Some(digits) => {
                self.spend_text(digits.len())?;
                Ok(Value::BigInteger(digits))
            }
            None => Ok(Value::Omitted("integer")),
        }
    }

    /// The digits of an integer beyond 64 bits, unless it is too large. Comparing integers of different sizes takes no
    /// time, copying a large one out does.
    fn digits(&mut self, term: Term<'a>) -> Option<String> {
        let (least, greatest) = match self.integer_bounds {
            Some(bounds) => bounds,
            None => *self.integer_bounds.insert(integer_bounds(term)?),
        };
        if term < least || term > greatest {
            return None;
        }
        big_integer(&term.to_binary()).map(|number| number.to_string())
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
            Shape::Improper => Ok(Value::Omitted("improper_list")),
        }
    }

    /// Walks the list once, no further than the budget reaches.
    fn shape(&self, term: Term<'a>) -> Result<Shape, BeyondBudget> {
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
            (false, _) => Shape::Improper,
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
        for (key, value) in MapIterator::new(term).into_iter().flatten() {
            self.entry(&mut entries, key, Some(value), depth)?;
        }
        Ok(Value::Map(entries.unique(false)))
    }

    /// Adds what stands under a key; an atom that stands alone in a proplist is true. Values that never leave the node
    /// are not even read: commitments alone are often twenty times the message.
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

    /// A key as text; none for what has no text, or is the node's own.
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
                    Err(_) => Some(format!("$base64url:{}", URL_SAFE_NO_PAD.encode(bytes)).into()),
                });
            }
            TermType::Atom => Some(atom_name(term)),
            TermType::Integer => match term.decode::<i64>() {
                Ok(number) => Some(number.to_string()),
                Err(_) => self.digits(term),
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

    fn spend_nodes(&mut self, count: usize) -> Result<(), BeyondBudget> {
        self.left.nodes = self.left.nodes.checked_sub(count).ok_or(BeyondBudget)?;
        Ok(())
    }

    fn spend_text(&mut self, bytes: usize) -> Result<(), BeyondBudget> {
        self.left.text = self.left.text.checked_sub(bytes).ok_or(BeyondBudget)?;
        Ok(())
    }
}

/// The entries of a map to be, whose keys may turn out to be the same text.
struct Entries<'a> {
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Whether a key was written differently than it is read: then it may stand there twice.
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

    /// The entries, of equal keys the first.
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

/// The items of a proper list.
fn cells<'a>(list: Term<'a>) -> impl Iterator<Item = Term<'a>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (item, tail) = rest.list_get_cell().ok()?;
        rest = tail;
        Some(item)
    })
}

/// The elements of a tuple where they lie: a list of them would cost memory before anything is known about the message.
fn tuple_elements<'a>(tuple: Term<'a>) -> (impl Iterator<Item = Term<'a>>, usize) {
    let env = tuple.get_env();
    let mut arity = 0;
    let mut first = std::ptr::null();
    // SAFETY: the term belongs to the environment, and both pointers are valid for the call to write to.
    let is_tuple = unsafe {
        enif_get_tuple(
            env.as_c_arg(),
            tuple.as_c_arg(),
            &raw mut arity,
            &raw mut first,
        )
    } == 1;
    let elements: &'a [_] = match usize::try_from(arity) {
        // SAFETY: the call gave the address of `arity` terms, which live as long as the tuple: as its environment, 'a.
        Ok(arity) if is_tuple && arity > 0 => unsafe { std::slice::from_raw_parts(first, arity) },
        _ => &[],
    };
    // SAFETY: an element of a term belongs to the same environment.
    (
        elements
            .iter()
            .map(move |element| unsafe { Term::new(env, *element) }),
        elements.len(),
    )
}

/// The id or path of a lazy link, `{link, Id, Options}`.
fn link_target<'a>(term: Term<'a>) -> Option<&'a [u8]> {
    let (tag, id, _): (Atom, Binary<'a>, Term<'a>) = term.decode().ok()?;
    (tag == atoms::link()).then(|| id.as_slice())
}

fn is_key(term: Term<'_>) -> bool {
    term.is_atom() || term.is_binary() || charlist(term, MAX_KEY_CHARACTERS).is_some()
}

/// The text of a list of characters that can be shown; none for the empty list, which may as well be an empty list.
fn charlist(list: Term<'_>, max_characters: usize) -> Option<String> {
    let mut text = String::new();
    let mut rest = list;
    for _ in 0..max_characters {
        let Ok((item, tail)) = rest.list_get_cell() else {
            break;
        };
        let character = char::from_u32(item.decode().ok()?)?;
        if character.is_control() && !character.is_whitespace() {
            return None;
        }
        text.push(character);
        rest = tail;
    }
    (rest.is_empty_list() && !text.is_empty()).then_some(text)
}

/// The name of an atom. The system's own function knows only Latin-1 before OTP 26, the external format knows all.
fn atom_name(atom: Term<'_>) -> String {
    if let Ok(name) = atom.atom_to_string() {
        return name;
    }
    const SMALL_ATOM_UTF8: u8 = 119;
    const ATOM_UTF8: u8 = 118;
    let name = match atom.to_binary().as_slice() {
        [_, SMALL_ATOM_UTF8, _, name @ ..] | [_, ATOM_UTF8, _, _, name @ ..] => {
            String::from_utf8(name.to_vec()).ok()
        }
        _ => None,
    };
    name.unwrap_or_default()
}

/// The least and the greatest integer with [`MAX_INTEGER_BYTES`] of magnitude.
fn integer_bounds<'a>(term: Term<'a>) -> Option<(Term<'a>, Term<'a>)> {
    let bound = |sign| {
        let [high, low] = [
            (MAX_INTEGER_BYTES / 256) as u8,
            (MAX_INTEGER_BYTES % 256) as u8,
        ];
        let mut external = vec![VERSION, LARGE_BIG, 0, 0, high, low, sign];
        external.resize(external.len() + MAX_INTEGER_BYTES, 0xff);
        term.get_env()
            .binary_to_term(&external)
            .map(|(bound, _)| bound)
    };
    Some((bound(1)?, bound(0)?))
}

const VERSION: u8 = 131;
const SMALL_BIG: u8 = 110;
const LARGE_BIG: u8 = 111;

/// An integer in the external term format.
fn big_integer(external: &[u8]) -> Option<BigInt> {
    let (sign, magnitude) = match external {
        [VERSION, SMALL_BIG, _, sign, magnitude @ ..]
        | [VERSION, LARGE_BIG, _, _, _, _, sign, magnitude @ ..] => (sign, magnitude),
        _ => return None,
    };
    let sign = if *sign == 0 { Sign::Plus } else { Sign::Minus };
    Some(BigInt::from_bytes_le(sign, magnitude))
}

/// Why settings were not taken.
#[derive(Debug)]
pub(crate) enum BadSettings<'a> {
    /// They are no map.
    NotAMap,
    /// The name of one is no text.
    UnknownName(Term<'a>),
    /// The core refused one.
    Refused(Term<'a>, SettingError),
}

/// Reads settings; those that are not named get their defaults.
pub(crate) fn settings<'a>(term: Term<'a>) -> Result<Settings, BadSettings<'a>> {
    let mut settings = Settings::default();
    for (key, value) in MapIterator::new(term).ok_or(BadSettings::NotAMap)? {
        let name = setting_text(key).ok_or(BadSettings::UnknownName(key))?;
        settings
            .set(&name, setting_value(value))
            .map_err(|error| BadSettings::Refused(key, error))?;
    }
    Ok(settings)
}

fn setting_value(term: Term<'_>) -> SettingValue {
    // No setting takes this one, so what is no setting at all gets the answer that names what the setting takes.
    const OUT_OF_RANGE: SettingValue = SettingValue::Integer(i64::MIN);
    match term.get_type() {
        TermType::Atom if atoms::true_() == term => SettingValue::Boolean(true),
        TermType::Atom if atoms::false_() == term => SettingValue::Boolean(false),
        TermType::Atom | TermType::Binary => {
            setting_text(term).map_or(OUT_OF_RANGE, SettingValue::Text)
        }
        TermType::Integer => term.decode().map_or(OUT_OF_RANGE, SettingValue::Integer),
        TermType::Tuple => ip_address(term).map_or(OUT_OF_RANGE, SettingValue::Text),
        // An empty text and an empty list look the same; as text, both kinds of settings take it.
        TermType::List if term.is_empty_list() => SettingValue::Text(String::new()),
        TermType::List => match charlist(term, MAX_SETTING_CHARACTERS) {
            Some(text) => SettingValue::Text(text),
            None => setting_texts(term).map_or(OUT_OF_RANGE, SettingValue::List),
        },
        _ => OUT_OF_RANGE,
    }
}

fn setting_text(term: Term<'_>) -> Option<String> {
    match term.get_type() {
        TermType::Atom => Some(atom_name(term)),
        TermType::Binary => Binary::from_term(term)
            .ok()
            .and_then(|binary| String::from_utf8(binary.to_vec()).ok()),
        TermType::List => charlist(term, MAX_SETTING_CHARACTERS),
        _ => None,
    }
}

fn setting_texts(list: Term<'_>) -> Option<Vec<String>> {
    let texts: Vec<String> = cells(list)
        .take(MAX_SETTING_ITEMS)
        .map(setting_text)
        .collect::<Option<_>>()?;
    list.list_length()
        .is_ok_and(|length| length == texts.len())
        .then_some(texts)
}

/// An address as Erlang writes it, a tuple of four bytes or of eight 16-bit numbers.
fn ip_address(tuple: Term<'_>) -> Option<String> {
    let (elements, arity) = tuple_elements(tuple);
    if arity != 4 && arity != 8 {
        return None;
    }
    // Decoding to a smaller type would cut the number instead of refusing it.
    let numbers: Vec<u32> = elements
        .map(|element| element.decode().ok())
        .collect::<Option<_>>()?;
    if let Ok(numbers) = <[u32; 4]>::try_from(numbers.as_slice()) {
        let octets = in_range::<u8, 4>(numbers)?;
        return Some(Ipv4Addr::from(octets).to_string());
    }
    let groups = in_range::<u16, 8>(numbers.try_into().ok()?)?;
    Some(Ipv6Addr::from(groups).to_string())
}

fn in_range<T: TryFrom<u32> + Copy + Default, const N: usize>(numbers: [u32; N]) -> Option<[T; N]> {
    let mut smaller = [T::default(); N];
    for (small, number) in smaller.iter_mut().zip(numbers) {
        *small = T::try_from(number).ok()?;
    }
    Some(smaller)
}
