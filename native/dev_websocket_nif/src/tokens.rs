//! Tokens that the node issues and revokes.

use dev_websocket_core::{NewToken, Revocation};
use rustler::{Binary, Encoder, Env, Term};

use crate::atoms;
use crate::encode;
use crate::engine::ENGINE;
use crate::terms::{cells, text};

/// The maximum number of topics of a token. A token of the default size has room for fewer.
const MAX_TOPICS: usize = 1000;

/// Signs a token: `{ok, Token}`, or an error that names the argument.
pub(crate) fn token<'a>(env: Env<'a>, [subject, topics, send, seconds]: [Term<'a>; 4]) -> Term<'a> {
    let Some(subject) = text_of(subject) else {
        return encode::bad_argument(env, "sub must be a text in a binary");
    };
    let Some(topics) = texts_of(topics) else {
        return encode::bad_argument(env, "topics must be a list of at most 1000 binaries");
    };
    let Ok(send) = send.decode() else {
        return encode::bad_argument(env, "send must be a boolean");
    };
    let Ok(seconds) = seconds.decode() else {
        return encode::bad_argument(env, "seconds must be a positive integer");
    };
    let server = match ENGINE.server() {
        Ok(server) => server,
        Err(reason) => return encode::error(env, &reason),
    };
    let token = NewToken {
        subject,
        topics,
        send,
        seconds,
    };
    match server.token(&token) {
        Ok(token) => (atoms::ok(), text(env, &token)).encode(env),
        Err(error) => encode::bad_argument(env, &error.to_string()),
    }
}

/// Revokes a token by its id.
pub(crate) fn revoke_token<'a>(env: Env<'a>, id: Term<'a>) -> Term<'a> {
    match text_of(id) {
        Some(id) => revoke(env, Revocation::Token(id)),
        None => encode::bad_argument(env, "jti must be a text in a binary"),
    }
}

/// Revokes the tokens of a subject that were issued up to a time, or up to `now`.
pub(crate) fn revoke_subject<'a>(env: Env<'a>, subject: Term<'a>, until: Term<'a>) -> Term<'a> {
    let Some(subject) = text_of(subject) else {
        return encode::bad_argument(env, "sub must be a text in a binary");
    };
    let until = match until.decode() {
        Ok(until) => Some(until),
        Err(_) if atoms::now() == until => None,
        Err(_) => {
            return encode::bad_argument(env, "issued_before must be seconds since 1970");
        }
    };
    revoke(env, Revocation::Subject(subject, until))
}

fn revoke<'a>(env: Env<'a>, revocation: Revocation) -> Term<'a> {
    let server = match ENGINE.server() {
        Ok(server) => server,
        Err(reason) => return encode::error(env, &reason),
    };
    match server.revoke(revocation) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => encode::bad_argument(env, &error.to_string()),
    }
}

fn text_of(term: Term<'_>) -> Option<String> {
    let binary = Binary::from_term(term).ok()?;
    String::from_utf8(binary.to_vec()).ok()
}

fn texts_of(list: Term<'_>) -> Option<Vec<String>> {
    let length = list.list_length().ok()?;
    if length > MAX_TOPICS {
        return None;
    }
    cells(list).map(text_of).collect()
}
