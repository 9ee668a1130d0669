//! The JavaScript client as one module, `GET /client.js`: a page that imports it needs no install and no build step.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};

use super::page::lean;
use super::{Answer, answer_with};

/// The files of the client. Each comes after those that it uses.
pub(super) const SOURCES: [&str; 17] = [
    include_str!("../../../../clients/javascript/errors.js"),
    include_str!("../../../../clients/javascript/options.js"),
    include_str!("../../../../clients/javascript/retry.js"),
    include_str!("../../../../clients/javascript/cursor.js"),
    include_str!("../../../../clients/javascript/selection.js"),
    include_str!("../../../../clients/javascript/address.js"),
    include_str!("../../../../clients/javascript/match.js"),
    include_str!("../../../../clients/javascript/queue.js"),
    include_str!("../../../../clients/javascript/slots.js"),
    include_str!("../../../../clients/javascript/connection.js"),
    include_str!("../../../../clients/javascript/events.js"),
    include_str!("../../../../clients/javascript/environment.js"),
    include_str!("../../../../clients/javascript/requests.js"),
    include_str!("../../../../clients/javascript/recovery.js"),
    include_str!("../../../../clients/javascript/exchange.js"),
    include_str!("../../../../clients/javascript/subscription.js"),
    include_str!("../../../../clients/javascript/dev_websocket.js"),
];
/// The files of the check of events, which the live page does not need.
const VERIFY: [&str; 2] = [
    include_str!("../../../../clients/javascript/signed.js"),
    include_str!("../../../../clients/javascript/verify.js"),
];
/// The names that a page imports, the same as those of the package.
const EXPORTS: &str = "export { Client, ClientError, verify }\n";

static MODULE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut module: String = SOURCES.into_iter().chain(VERIFY).map(lean).collect();
    module.push_str(EXPORTS);
    module.into()
});

/// Answers with the module.
pub(super) fn answer() -> Answer {
    let content = "text/javascript; charset=utf-8";
    let mut answer = answer_with(StatusCode::OK, content, MODULE.clone());
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_exports_what_the_package_does() {
        let package = include_str!("../../../../clients/javascript/index.js");
        let module = std::str::from_utf8(&MODULE).unwrap();
        assert_eq!(module.matches("export ").count(), 1);
        assert_eq!(module.matches("\nimport ").count(), 0);
        for name in ["Client", "ClientError"] {
            assert!(package.contains(&format!("export {{ {name} }}")), "{name}");
            assert!(
                module.contains(&format!("\nclass {name} "))
                    || module.starts_with(&format!("class {name} ")),
                "{name}"
            );
        }
        assert!(package.contains("export { verify }"));
        assert!(module.contains("\nasync function verify "));
        assert_eq!(package.matches("export").count(), 3);
    }
}
