//! The token of a request: where it stands, and the permissions that it gives.
//!
//! A token stands in the header `Authorization` (RFC 6750 section 2.1), in the subprotocol `bearer.<token>`, because
//! browsers send no other header with a WebSocket, or in a cookie.

use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::query::Query;
use super::refusal::Refusal;
use super::upgrade::tokens;
use super::{Caller, Door};
use crate::access::{SCHEME, Session, Token, TokenError};
use crate::settings::{Access, Settings};
use crate::shared::Shared;
use crate::wire::format::Format;

/// Prefix of the subprotocol that holds a token. The response never names such a subprotocol.
pub(super) const BEARER: &str = "bearer.";

/// Names of query parameters that hold a token on other servers. URLs end up in logs and histories.
const TOKEN_PARAMETERS: [&str; 5] = ["token", "access_token", "bearer", "jwt", "authorization"];

/// Returns the permissions of a request. On an open server, and on the operator's port, there are no restrictions.
///
/// # Errors
/// A [`Refusal`] if the request has an invalid token, more than one, or one where none may stand. A request without a
/// token gets a session that allows public topics only.
pub(super) fn session(
    shared: &Shared,
    settings: &Settings,
    headers: &HeaderMap,
    query: Option<&str>,
    caller: Caller,
) -> Result<Arc<Session>, Refusal> {
    let authority = &shared.context.access;
    if caller.door == Door::Operator {
        return Ok(authority.operator());
    }
    if settings.access == Access::Open {
        return Ok(authority.unrestricted());
    }
    let refused = |error: TokenError| refused(shared, &error);
    if query.is_some_and(has_token) {
        return Err(refused(TokenError::InUrl));
    }
    let Some(token) = find(headers, settings).map_err(refused)? else {
        return Ok(authority.anonymous());
    };
    if !is_private(settings, caller) {
        return Err(refused(TokenError::Insecure));
    }
    let session = authority.verify(token.text(), settings).map_err(refused)?;
    shared.context.counters.tokens_accepted.add(1);
    Ok(Arc::new(session))
}

/// Checks that a session may read what tells about all publications.
///
/// # Errors
/// A [`Refusal`] if it has no token, or a token without the grant `*`.
pub(super) fn check_everything(shared: &Shared, session: &Session) -> Result<(), Refusal> {
    if session.grants.everything {
        Ok(())
    } else if session.holder.is_some() {
        Err(Refusal::needs_everything())
    } else {
        Err(refused(shared, &TokenError::Missing))
    }
}

/// Checks that a session has a token with all the permissions that a token can give.
///
/// # Errors
/// A [`Refusal`] if it has no token, or a token without the grant `*` or the action `send`.
pub(super) fn check_all(shared: &Shared, session: &Session) -> Result<(), Refusal> {
    if session.holder.is_none() {
        Err(refused(shared, &TokenError::Missing))
    } else if session.allows_all() {
        Ok(())
    } else {
        shared.context.counters.requests_forbidden.add(1);
        Err(Refusal::needs_all())
    }
}

/// Returns the permissions of a request and its query in the form of its response, after a check of one by the other.
///
/// # Errors
/// A [`Refusal`] of the token, of the query, or of a subscription that the token does not allow.
pub(super) fn permitted_query<B>(
    shared: &Shared,
    settings: &Settings,
    request: &Request<B>,
    caller: Caller,
    form: impl FnOnce(Query) -> Result<Query, Refusal>,
) -> Result<(Arc<Session>, Query), Refusal> {
    let text = request.uri().query();
    let session = session(shared, settings, request.headers(), text, caller)?;
    let query = form(Query::parse(text.unwrap_or_default(), settings)?)?;
    check(shared, settings, &session, &query)?;
    Ok((session, query))
}

/// Checks the subscriptions of a request.
///
/// # Errors
/// A [`Refusal`] with status 401 without a token, or 403 if the token does not allow one of them.
fn check(
    shared: &Shared,
    settings: &Settings,
    session: &Session,
    query: &Query,
) -> Result<(), Refusal> {
    let authority = &shared.context.access;
    let subscriptions = query.subscriptions.iter();
    match authority.check(session, settings, subscriptions) {
        Err(forbidden) if session.holder.is_some() => {
            shared.context.counters.requests_forbidden.add(1);
            Err(Refusal::not_granted(&forbidden))
        }
        Err(_) => Err(refused(shared, &TokenError::Missing)),
        // Only a WebSocket with control messages can receive a token later.
        Ok(())
            if session.is_anonymous()
                && query.subscriptions.is_empty()
                && query.format != Format::Json =>
        {
            Err(refused(shared, &TokenError::Missing))
        }
        Ok(()) => Ok(()),
    }
}

fn refused(shared: &Shared, error: &TokenError) -> Refusal {
    shared.context.counters.token_refused(error).add(1);
    Refusal::token(error)
}

/// Returns whether nobody on the way can read the token: the connection is encrypted, stays on this machine, or comes
/// from the operator's proxy.
fn is_private(settings: &Settings, caller: Caller) -> bool {
    caller.is_encrypted || settings.behind_proxy || caller.sender.ip().to_canonical().is_loopback()
}

fn has_token(query: &str) -> bool {
    query.split('&').any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        TOKEN_PARAMETERS
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// Finds the token. An explicit one precedes a cookie, which browsers send by themselves.
fn find(headers: &HeaderMap, settings: &Settings) -> Result<Option<Token>, TokenError> {
    let explicit = match (in_header(headers)?, in_subprotocols(headers)?) {
        (Some(_), Some(_)) => {
            return Err(TokenError::Repeated(
                "Authorization and Sec-WebSocket-Protocol",
            ));
        }
        (header, subprotocol) => header.or(subprotocol),
    };
    if explicit.is_some() || settings.token_cookie.is_empty() || settings.origins.is_empty() {
        return Ok(explicit);
    }
    in_cookie(headers, &settings.token_cookie)
}

fn in_header(headers: &HeaderMap) -> Result<Option<Token>, TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) {
            Err(TokenError::Repeated("Authorization"))
        } else {
            Ok(None)
        };
    };
    let text = value
        .to_str()
        .map_err(|_| TokenError::Malformed("Authorization is not ASCII"))?
        .trim();
    // Credentials of another scheme are for a proxy.
    let Some((scheme, token)) = text.split_once(' ') else {
        return match text.eq_ignore_ascii_case(SCHEME) {
            true => Err(TokenError::Malformed("it is empty")),
            false => Ok(None),
        };
    };
    Ok(scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| Token::new(token.trim_start())))
}

fn in_subprotocols(headers: &HeaderMap) -> Result<Option<Token>, TokenError> {
    let mut offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|protocol| protocol.strip_prefix(BEARER))
        .map(Token::new);
    match (offered.next(), offered.next()) {
        (_, Some(_)) => Err(TokenError::Repeated("Sec-WebSocket-Protocol")),
        (token, None) => Ok(token),
    }
}

fn in_cookie(headers: &HeaderMap, name: &str) -> Result<Option<Token>, TokenError> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, token)| Token::new(token.trim_matches('"')));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(TokenError::Repeated("Cookie")),
        (token, None) => Ok(token),
    }
}
