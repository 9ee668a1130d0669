//! Conversion of terms to settings. The core defines names and ranges; this module only maps terms to kinds of values.

use std::net::{Ipv4Addr, Ipv6Addr};

use dev_websocket_core::{SettingError, SettingValue, Settings};
use rustler::{Binary, MapIterator, Term, TermType};

use crate::atoms;
use crate::terms::{atom_name, cells, charlist, tuple_elements};

/// The maximum length of a charlist that is a setting's text.
const MAX_CHARACTERS: usize = 4096;

/// The maximum number of texts in a setting's list.
const MAX_ITEMS: usize = 10_000;

/// The reason why settings were refused.
#[derive(Debug)]
pub(crate) enum BadSettings<'a> {
    /// The term is not a map.
    NotAMap,
    /// The name of a setting is not a text.
    UnknownName(Term<'a>),
    /// The core refused at least one setting.
    Refused(Vec<(Term<'a>, SettingError)>),
}

impl BadSettings<'_> {
    /// Returns the settings with invalid values, and the values that each accepts. The list is empty for other errors.
    pub(crate) fn misfits(&self) -> Vec<(&'static str, String)> {
        let Self::Refused(refused) = self else {
            return Vec::new();
        };
        let misfit = |(_, error): &(Term<'_>, SettingError)| match error {
            SettingError::Invalid { name, expected } => Some((*name, expected.clone())),
            SettingError::Unknown(_) => None,
        };
        refused.iter().filter_map(misfit).collect()
    }
}

/// Reads settings; missing ones get their defaults.
pub(crate) fn read<'a>(term: Term<'a>) -> Result<Settings, BadSettings<'a>> {
    let mut settings = Settings::default();
    let mut refused = Vec::new();
    for (key, value) in MapIterator::new(term).ok_or(BadSettings::NotAMap)? {
        let name = text_of(key).ok_or(BadSettings::UnknownName(key))?;
        if let Err(error) = settings.set(&name, value_of(value)) {
            refused.push((key, error));
        }
    }
    if refused.is_empty() {
        Ok(settings)
    } else {
        Err(BadSettings::Refused(refused))
    }
}

fn value_of(term: Term<'_>) -> SettingValue {
    // No setting accepts this value. A term of an unsupported type is read as this value, so its error names the
    // accepted values.
    const OUT_OF_RANGE: SettingValue = SettingValue::Integer(i64::MIN);
    match term.get_type() {
        TermType::Atom if atoms::true_() == term => SettingValue::Boolean(true),
        TermType::Atom if atoms::false_() == term => SettingValue::Boolean(false),
        TermType::Atom | TermType::Binary => text_of(term).map_or(OUT_OF_RANGE, SettingValue::Text),
        TermType::Integer => term.decode().map_or(OUT_OF_RANGE, SettingValue::Integer),
        TermType::Tuple => ip_address(term).map_or(OUT_OF_RANGE, SettingValue::Text),
        // An empty text and an empty list are the same term; both kinds of settings accept it as a text.
        TermType::List if term.is_empty_list() => SettingValue::Text(String::new()),
        TermType::List => match charlist(term, MAX_CHARACTERS) {
            Some(text) => SettingValue::Text(text),
            None => texts_of(term).map_or(OUT_OF_RANGE, SettingValue::List),
        },
        _ => OUT_OF_RANGE,
    }
}

fn text_of(term: Term<'_>) -> Option<String> {
    match term.get_type() {
        TermType::Atom => Some(atom_name(term)),
        TermType::Binary => Binary::from_term(term)
            .ok()
            .and_then(|binary| String::from_utf8(binary.to_vec()).ok()),
        TermType::List => charlist(term, MAX_CHARACTERS),
        _ => None,
    }
}

fn texts_of(list: Term<'_>) -> Option<Vec<String>> {
    let texts: Vec<String> = cells(list)
        .take(MAX_ITEMS)
        .map(text_of)
        .collect::<Option<_>>()?;
    list.list_length()
        .is_ok_and(|length| length == texts.len())
        .then_some(texts)
}

/// Formats an address in Erlang's form: a tuple of four bytes or of eight 16-bit numbers.
fn ip_address(tuple: Term<'_>) -> Option<String> {
    let (elements, arity) = tuple_elements(tuple);
    if arity != 4 && arity != 8 {
        return None;
    }
    // Decoding to a smaller type would truncate the number instead of refusing it.
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
