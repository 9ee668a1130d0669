//! The endpoints `/info`, `/health` and `/metrics`.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::json;

use super::refusal::RETRY_SECONDS;
use super::{Answer, JSON, accepts, answer_with};
use crate::shared::Shared;
use crate::shared::exposition;

/// Answers with the data that a client needs before it connects, the same as the device's key `info`.
/// An operator learns which endpoints for operators serve the caller.
pub(super) fn info(shared: &Shared, shows_topics: bool, operator: &[&str]) -> Answer {
    let description = shared.describe();
    let document = if shows_topics {
        &description.document
    } else {
        &description.without_topics
    };
    if operator.is_empty() {
        return answer_with(StatusCode::OK, JSON, document.clone());
    }
    // The list of topics may be long, so the document is not made anew.
    let open = document.strip_suffix(b"}").unwrap_or(document);
    let more = format!(",\"operator\":{}}}", json!(operator));
    answer_with(StatusCode::OK, JSON, [open, more.as_bytes()].concat())
}

/// Answers with the metrics for Prometheus.
pub(super) fn metrics(shared: &Arc<Shared>, headers: &HeaderMap) -> Answer {
    let is_open_metrics = accepts(headers, exposition::OPEN_METRICS);
    let (content, document) = exposition::document(shared, is_open_metrics);
    answer_with(StatusCode::OK, content, document)
}

/// Answers with 200 while publications come through, and otherwise with 503 and the reason.
pub(super) fn health(shared: &Shared) -> Answer {
    let reason = if shared.stopping.is_cancelled() {
        Some("stopping")
    } else if shared.context.log.waiting_bytes() >= shared.settings().publish_queue_bytes {
        Some("overload")
    } else if shared
        .context
        .stream
        .as_ref()
        .is_some_and(|stream| stream.away_since().is_some())
    {
        Some("engine_away")
    } else {
        None
    };
    match reason {
        None => answer_with(StatusCode::OK, JSON, json!({"status": "ok"}).to_string()),
        Some(reason) => {
            let document = json!({"status": "unavailable", "reason": reason}).to_string();
            let mut answer = answer_with(StatusCode::SERVICE_UNAVAILABLE, JSON, document);
            let seconds = HeaderValue::from_static(RETRY_SECONDS);
            answer.headers_mut().insert(RETRY_AFTER, seconds);
            answer
        }
    }
}
