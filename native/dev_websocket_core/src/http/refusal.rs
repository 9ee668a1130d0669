//! The response to a refused request: a status, and a JSON body with a code for programs and a text for people.

use std::borrow::Cow;
use std::fmt;

use hyper::StatusCode;
use hyper::header::{
    ALLOW, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use serde::Serialize;

use super::{Answer, answer_with};
use crate::access::{Forbidden, TokenError};
use crate::error_code::ErrorCode;

/// Value of `Retry-After` if the server has no room at present.
pub(super) const RETRY_SECONDS: &str = "5";

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: Code,
    message: String,
    header: Option<(HeaderName, Cow<'static, str>)>,
}

/// The code for programs.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Code {
    Request(&'static str),
    /// The same code as in an error frame.
    Protocol(ErrorCode),
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

#[derive(Serialize)]
struct Body<'r> {
    error: Code,
    message: &'r str,
}

impl Refusal {
    /// 400: the request is wrong, and `message` says where.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: Code::Request(code),
            message: message.into(),
            header: None,
        }
    }

    /// 400: a control message with this content would be refused as well.
    pub(crate) fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: Code::Protocol(code),
            message: message.into(),
            header: None,
        }
    }

    /// 400: the client does not use TLS, but the port does.
    pub(crate) fn plain() -> Self {
        let message = "this port speaks TLS only; use https:// or wss://";
        Self::bad_request("tls_required", message)
    }

    /// 400: RFC 9112 section 3.2.
    pub(crate) fn host() -> Self {
        Self::bad_request(
            "bad_host",
            "Host: a request must have exactly one Host header",
        )
    }

    /// 403: RFC 6455 section 10.2.
    pub(crate) fn origin() -> Self {
        Self::forbidden("bad_origin", "Origin: this origin is not allowed")
    }

    /// 403: the host name does not belong to this server.
    pub(crate) fn unknown_host() -> Self {
        let message = "Host: not a name of this server; use an IP address or localhost, or add the name to the settings \
                       public_host or origins";
        Self::forbidden("unknown_host", message)
    }

    /// 403: a page of another site makes a request without stating its origin.
    pub(crate) fn cross_site() -> Self {
        let message = "Sec-Fetch-Site: cross-site requests need an allowed Origin";
        Self::forbidden("cross_site", message)
    }

    /// The answer to an invalid token: 401 or, where the request is wrong in itself, 400 (RFC 6750 section 3).
    pub(crate) fn token(error: &TokenError) -> Self {
        let challenge = "Bearer realm=\"dev_websocket\"";
        let (status, code, challenge) = match error {
            TokenError::Busy => {
                return Self {
                    header: Some((RETRY_AFTER, "1".into())),
                    ..Self::unavailable(ErrorCode::Busy, error.to_string())
                };
            }
            TokenError::InUrl => (StatusCode::BAD_REQUEST, Code::Request("token_in_url"), None),
            TokenError::Insecure => (StatusCode::BAD_REQUEST, Code::Request("insecure"), None),
            TokenError::Repeated(_) => (
                StatusCode::BAD_REQUEST,
                Code::Request("repeated_token"),
                None,
            ),
            TokenError::Missing => (
                StatusCode::UNAUTHORIZED,
                Code::Protocol(ErrorCode::Unauthorized),
                Some(challenge.into()),
            ),
            _ => (
                StatusCode::UNAUTHORIZED,
                Code::Protocol(ErrorCode::Unauthorized),
                Some(format!("{challenge}, error=\"invalid_token\"").into()),
            ),
        };
        Self {
            status,
            code,
            message: error.to_string(),
            header: challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)),
        }
    }

    /// 403: the token is valid and does not allow the request (RFC 6750 section 3.1).
    pub(crate) fn not_granted(forbidden: &Forbidden) -> Self {
        Self::insufficient(forbidden.to_string())
    }

    /// 403: the endpoint tells about all publications.
    pub(crate) fn needs_everything() -> Self {
        Self::insufficient(
            "this endpoint needs a token with the grant *, or the operator's port".into(),
        )
    }

    /// 403: the endpoint changes what others receive.
    pub(crate) fn needs_all() -> Self {
        Self::insufficient(
            "this endpoint needs the operator's port, or a token with the grant * and the action send"
                .into(),
        )
    }

    fn insufficient(message: String) -> Self {
        let challenge = "Bearer realm=\"dev_websocket\", error=\"insufficient_scope\"";
        Self {
            status: StatusCode::FORBIDDEN,
            header: Some((WWW_AUTHENTICATE, challenge.into())),
            ..Self::of(ErrorCode::Forbidden, message)
        }
    }

    fn forbidden(code: &'static str, message: &str) -> Self {
        Self::with_status(StatusCode::FORBIDDEN, code, message)
    }

    /// 503: the request is right, but the server as a whole has no room for it.
    pub(crate) fn unavailable(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            header: Some((RETRY_AFTER, RETRY_SECONDS.into())),
            ..Self::of(code, message)
        }
    }

    pub(crate) fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Code::Request("not_found"),
            message: "not found; the WebSocket endpoint is /ws".into(),
            header: None,
        }
    }

    /// 404: there is no connection with this id, or it has ended.
    pub(crate) fn no_connection() -> Self {
        Self::with_status(StatusCode::NOT_FOUND, "no_connection", "no such connection")
    }

    /// 409: nobody could receive the message.
    pub(crate) fn no_audience() -> Self {
        let message = "no client is connected and no history is kept";
        Self::with_status(StatusCode::CONFLICT, "no_audience", message)
    }

    /// 413: RFC 9110 section 15.5.14.
    pub(crate) fn too_large() -> Self {
        let message = "the message is larger than max_message_bytes";
        Self::with_status(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 415: RFC 9110 section 15.5.16.
    pub(crate) fn content_type() -> Self {
        let message = "Content-Type: must be application/json";
        Self::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_content_type",
            message,
        )
    }

    fn with_status(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            status,
            ..Self::bad_request(code, message)
        }
    }

    /// 405: RFC 9110 section 15.5.6.
    pub(crate) fn method(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: Code::Request("bad_method"),
            message: format!("method not allowed; use {allowed}"),
            header: Some((ALLOW, allowed.into())),
        }
    }

    /// 426: RFC 9110 section 15.5.22.
    pub(crate) fn not_an_upgrade(is_tls: bool) -> Self {
        let scheme = if is_tls { "wss" } else { "ws" };
        let message =
            format!("upgrade required; this is a WebSocket endpoint, connect with {scheme}://");
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            code: Code::Request("not_an_upgrade"),
            message,
            header: Some((UPGRADE, "websocket".into())),
        }
    }

    /// 426: RFC 6455 section 4.4.
    pub(crate) fn version() -> Self {
        let message = "Sec-WebSocket-Version: must be 13".into();
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            code: Code::Request("bad_version"),
            message,
            header: Some((SEC_WEBSOCKET_VERSION, "13".into())),
        }
    }

    pub(crate) fn full() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: Code::Request("full"),
            message: "connection limit of the server reached (max_connections)".into(),
            header: Some((RETRY_AFTER, RETRY_SECONDS.into())),
        }
    }

    pub(crate) fn too_many_connections() -> Self {
        let message = "connection limit per IP address reached (max_connections_per_ip)".into();
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: Code::Request("too_many_connections"),
            message,
            header: Some((RETRY_AFTER, RETRY_SECONDS.into())),
        }
    }

    /// Returns the code for programs without the text, which may quote the request.
    pub(crate) fn reason(&self) -> impl fmt::Display + use<> {
        self.code
    }

    pub(crate) fn into_response(self) -> Answer {
        let body = serde_json::to_vec(&Body {
            error: self.code,
            message: &self.message,
        })
        .unwrap_or_default();
        let mut answer = answer_with(self.status, "application/json", body);
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
