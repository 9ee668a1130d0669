//! Reading of a message's provenance from a map with atom keys.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_websocket_core::message::provenance::Provenance;
use rustler::{Atom, Binary, Encoder, MapIterator, Term};

use crate::atoms;
use crate::decode::{self, BeyondBudget, Budget};

/// The reason why a provenance is refused.
pub(crate) enum BadProvenance<'a> {
    /// The term exceeds the budget.
    BeyondBudget,
    /// The key is unknown, or its value has the wrong type.
    Bad(Term<'a>),
}

impl From<BeyondBudget> for BadProvenance<'_> {
    fn from(_: BeyondBudget) -> Self {
        Self::BeyondBudget
    }
}

/// Reads a provenance within the budget of its message.
pub(crate) fn read<'a>(
    term: Term<'a>,
    left: &mut Budget,
) -> Result<Provenance<'a>, BadProvenance<'a>> {
    let Some(entries) = MapIterator::new(term) else {
        return Err(BadProvenance::Bad(
            atoms::not_a_map().encode(term.get_env()),
        ));
    };
    let mut origin = Provenance::default();
    for (key, value) in entries {
        left.spend_nodes(1)?;
        let bad = || BadProvenance::Bad(key);
        let name: Atom = key.decode().map_err(|_| bad())?;
        if name == atoms::slot() {
            origin.slot = Some(value.decode().map_err(|_| bad())?);
        } else if name == atoms::is_edge() {
            origin.is_edge = value.decode().map_err(|_| bad())?;
        } else if name == atoms::from() {
            origin.from = texts(value, left)?.ok_or_else(bad)?;
        } else if name == atoms::topics() {
            origin.topics = Some(decode::value(value, left, false)?);
        } else {
            let field = match name {
                name if name == atoms::process() => &mut origin.process,
                name if name == atoms::hashpath() => &mut origin.hashpath,
                name if name == atoms::path() => &mut origin.path,
                name if name == atoms::assignment() => &mut origin.assignment,
                name if name == atoms::source() => &mut origin.source,
                _ => return Err(bad()),
            };
            *field = Some(text(value, left)?.ok_or_else(bad)?);
        }
    }
    Ok(origin)
}

/// Returns the text of a binary. Bytes that are not UTF-8 become base64url text, as in topics.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(URL_SAFE_NO_PAD.encode(bytes)),
    }
}

fn text<'a>(term: Term<'a>, left: &mut Budget) -> Result<Option<Cow<'a, str>>, BeyondBudget> {
    let Ok(binary) = Binary::from_term(term) else {
        return Ok(None);
    };
    let bytes = binary.as_slice();
    left.spend_text(bytes.len())?;
    Ok(Some(text_of(bytes)))
}

/// Returns the texts of a proper list of binaries.
fn texts<'a>(term: Term<'a>, left: &mut Budget) -> Result<Option<Vec<Cow<'a, str>>>, BeyondBudget> {
    let mut texts = Vec::new();
    let mut rest = term;
    while let Ok((item, tail)) = rest.list_get_cell() {
        left.spend_nodes(1)?;
        let Some(text) = text(item, left)? else {
            return Ok(None);
        };
        texts.push(text);
        rest = tail;
    }
    Ok(rest.is_empty_list().then_some(texts))
}
