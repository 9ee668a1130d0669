//! Reading and making of terms that rustler does not support, or supports only at an unbounded cost.

use std::mem::MaybeUninit;

use rustler::sys::{
    ErlNifMapIterator, ErlNifMapIteratorEntry, enif_get_tuple, enif_map_iterator_create,
    enif_map_iterator_destroy, enif_map_iterator_get_pair, enif_map_iterator_next,
};
use rustler::{Encoder, Env, Term};

/// Iterates over the items of a proper list.
pub(crate) fn cells<'a>(list: Term<'a>) -> impl Iterator<Item = Term<'a>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (item, tail) = rest.list_get_cell().ok()?;
        rest = tail;
        Some(item)
    })
}

/// Iterates over the entries of a map, without any of another term. rustler's iterator also prepares the way back, which
/// costs a third of the walk.
pub(crate) fn pairs(map: Term<'_>) -> Pairs<'_> {
    let mut iterator = MaybeUninit::uninit();
    // SAFETY: the term belongs to the environment, and the pointer is valid for the call to write to.
    let is_map = unsafe {
        enif_map_iterator_create(
            map.get_env().as_c_arg(),
            map.as_c_arg(),
            iterator.as_mut_ptr(),
            ErlNifMapIteratorEntry::ERL_NIF_MAP_ITERATOR_HEAD,
        )
    } == 1;
    Pairs {
        map,
        // SAFETY: a call that succeeds has written the iterator.
        iterator: is_map.then(|| unsafe { iterator.assume_init() }),
    }
}

/// The entries of a map that are still to come.
pub(crate) struct Pairs<'a> {
    map: Term<'a>,
    iterator: Option<ErlNifMapIterator>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Term<'a>, Term<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let iterator = self.iterator.as_mut()?;
        let env = self.map.get_env();
        let (mut key, mut value) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the iterator is one of this environment that was not destroyed, and both terms that a successful call
        // writes belong to the environment of the map.
        unsafe {
            let is_entry = enif_map_iterator_get_pair(
                env.as_c_arg(),
                iterator,
                key.as_mut_ptr(),
                value.as_mut_ptr(),
            );
            if is_entry != 1 {
                return None;
            }
            enif_map_iterator_next(env.as_c_arg(), iterator);
            Some((
                Term::new(env, key.assume_init()),
                Term::new(env, value.assume_init()),
            ))
        }
    }
}

impl Drop for Pairs<'_> {
    fn drop(&mut self) {
        if let Some(iterator) = &mut self.iterator {
            // SAFETY: the iterator was created in this environment and is destroyed once.
            unsafe { enif_map_iterator_destroy(self.map.get_env().as_c_arg(), iterator) };
        }
    }
}

/// Returns a tuple's elements in place, because a list of them would cost memory before the message is checked.
pub(crate) fn tuple_elements<'a>(tuple: Term<'a>) -> (impl Iterator<Item = Term<'a>>, usize) {
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
        // SAFETY: the call returned the address of `arity` terms, which live as long as the tuple and its environment,
        // 'a.
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

/// Returns the text of a list of printable characters. An empty list gives none, because it may also be a list of
/// nothing.
pub(crate) fn charlist(list: Term<'_>, max_characters: usize) -> Option<String> {
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

/// Returns the name of an atom. The system's function supports only Latin-1 before OTP 26; the external format
/// supports all.
pub(crate) fn atom_name(atom: Term<'_>) -> String {
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

/// Makes a map of distinct keys.
pub(crate) fn map<'a, K: Encoder>(
    env: Env<'a>,
    entries: impl IntoIterator<Item = (K, Term<'a>)>,
) -> Term<'a> {
    let (keys, values): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .map(|(key, value)| (key.encode(env), value))
        .unzip();
    // This fails only for duplicate keys, and each name occurs once in its table.
    Term::map_from_term_arrays(env, &keys, &values).unwrap_or_else(|_| Term::map_new(env))
}

/// Encodes a text as a binary.
pub(crate) fn text<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    text.encode(env)
}
