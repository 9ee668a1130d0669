//! Origins of pages that may use the server (RFC 6454), and the headers that tell browsers so (CORS, the Fetch
//! standard).
//!
//! A browser states the page's origin; any other client can send any origin, or none.

use hyper::Response;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, VARY,
};

use super::refusal::Refusal;
use crate::settings::Settings;
use crate::subscription::pattern::glob_matches;

/// Refuses a page whose origin is not allowed.
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

/// Lets a page of an allowed origin read the response, even if it is a refusal.
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
    if !settings.token_cookie.is_empty() && !settings.origins.is_empty() {
        let allowed = HeaderValue::from_static("true");
        answered.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
    }
    if answered.contains_key(RETRY_AFTER) {
        let exposed = HeaderValue::from_static("Retry-After");
        answered.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}
