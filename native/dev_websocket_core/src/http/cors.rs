//! Pages of which origin may ask (RFC 6454), and what browsers are told of that (CORS, the Fetch standard).
//!
//! A browser tells which page wants something; who is no browser can write what it likes, or nothing.

use hyper::Response;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderValue, ORIGIN,
    RETRY_AFTER, VARY,
};

use super::refusal::Refusal;
use crate::settings::Settings;
use crate::subscription::pattern::glob_matches;

/// Refuses a page whose origin is not among those that may.
pub(super) fn check(headers: &HeaderMap, settings: &Settings) -> Result<(), Refusal> {
    if is_allowed(headers, settings) {
        Ok(())
    } else {
        Err(Refusal::origin())
    }
}

fn is_allowed(headers: &HeaderMap, settings: &Settings) -> bool {
    let is_allowed = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let mut allowed = settings.origins.iter();
        allowed.any(|allowed| glob_matches(allowed, &origin))
    };
    settings.origins.is_empty() || headers.get_all(ORIGIN).iter().all(is_allowed)
}

/// Lets the page read the answer, a refusal too, if its origin may.
pub(super) fn allow<B>(response: &mut Response<B>, headers: &HeaderMap, settings: &Settings) {
    let answered = response.headers_mut();
    answered.insert(VARY, HeaderValue::from_static("Origin"));
    if !is_allowed(headers, settings) {
        return;
    }
    let allowed = match headers.get(ORIGIN) {
        Some(origin) if !settings.origins.is_empty() => origin.clone(),
        _ => HeaderValue::from_static("*"),
    };
    answered.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if answered.contains_key(RETRY_AFTER) {
        let exposed = HeaderValue::from_static("Retry-After");
        answered.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}
