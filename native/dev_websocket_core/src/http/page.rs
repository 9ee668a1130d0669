//! The live page: one HTML file with everything in it, assembled once from the files in `page/` and the JavaScript
//! client.
//!
//! There is no build step. The browser gets the text of the files without comments, indentation and the lines that make
//! them modules. A single script shares all names anyway.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

use super::{Answer, answer_with, client};

const HTML: &str = include_str!("../../page/page.html");
const STYLE: &str = include_str!("../../page/page.css");
/// The page's scripts, behind those of the client. Each file stands after the files that it uses.
const SCRIPTS: [&str; 26] = [
    include_str!("../../page/choice.js"),
    include_str!("../../page/announce.js"),
    include_str!("../../page/dom.js"),
    include_str!("../../page/access.js"),
    include_str!("../../page/json.js"),
    include_str!("../../page/names.js"),
    include_str!("../../page/chip.js"),
    include_str!("../../page/rates.js"),
    include_str!("../../page/figures.js"),
    include_str!("../../page/stream.js"),
    include_str!("../../page/keys.js"),
    include_str!("../../page/hold.js"),
    include_str!("../../page/gap.js"),
    include_str!("../../page/rows.js"),
    include_str!("../../page/outline.js"),
    include_str!("../../page/topics.js"),
    include_str!("../../page/chooser.js"),
    include_str!("../../page/session.js"),
    include_str!("../../page/slot_list.js"),
    include_str!("../../page/slot_feed.js"),
    include_str!("../../page/process_view.js"),
    include_str!("../../page/totals.js"),
    include_str!("../../page/server.js"),
    include_str!("../../page/operator.js"),
    include_str!("../../page/status.js"),
    include_str!("../../page/page.js"),
];
/// Places in the HTML for the style and the script.
const STYLE_PLACE: &str = "<style></style>";
const SCRIPT_PLACE: &str = "<script type=\"module\"></script>";

static PAGE: LazyLock<Page> = LazyLock::new(Page::assemble);

struct Page {
    html: Bytes,
    policy: HeaderValue,
}

/// Answers with the page.
pub(super) fn answer() -> Answer {
    let mut answer = answer_with(
        StatusCode::OK,
        "text/html; charset=utf-8",
        PAGE.html.clone(),
    );
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

impl Page {
    fn assemble() -> Self {
        let style = lean_style(STYLE);
        let scripts = client::SOURCES.into_iter().chain(SCRIPTS);
        let script: String = scripts.map(lean).collect();
        let html = lean(HTML)
            .replace(STYLE_PLACE, &format!("<style>{style}</style>"))
            .replace(
                SCRIPT_PLACE,
                &format!("<script type=\"module\">{script}</script>"),
            );
        // The policy has only characters that a header allows; otherwise nothing may run.
        let policy = HeaderValue::from_str(&policy(&style, &script))
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self {
            html: html.into(),
            policy,
        }
    }
}

/// Creates a policy of Content Security Policy Level 3. Only this script and this style run, even if an attacker gets
/// HTML into the page. Trusted Types also keep text from becoming HTML. `'self'` includes the server's WebSocket.
fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(script),
        hash(style)
    )
}

/// Removes the parts of a file that only its readers need. Comments stand in lines of their own.
pub(super) fn lean(source: &str) -> String {
    let mut lean = String::with_capacity(source.len());
    let mut is_comment = false;
    for line in source.lines().map(str::trim) {
        is_comment |= line.starts_with("/*");
        if is_comment {
            is_comment = !line.ends_with("*/");
        } else if !line.is_empty() && !line.starts_with("//") && !line.starts_with("import ") {
            lean.push_str(line.strip_prefix("export ").unwrap_or(line));
            lean.push('\n');
        }
    }
    lean
}

/// Removes spaces that only readers need from a style sheet.
fn lean_style(source: &str) -> String {
    let spaces = [
        ("{ ", "{"),
        (" {", "{"),
        (" }", "}"),
        (": ", ":"),
        ("; ", ";"),
        (", ", ","),
    ];
    spaces
        .into_iter()
        .fold(lean(source), |lean, (wide, tight)| {
            lean.replace(wide, tight)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> &'static str {
        std::str::from_utf8(&PAGE.html).unwrap()
    }

    /// Returns the text between two markers that occur once each.
    fn between<'p>(page: &'p str, start: &str, end: &str) -> &'p str {
        assert_eq!(page.matches(start).count(), 1, "{start}");
        let (_, rest) = page.split_once(start).unwrap();
        let (inner, rest) = rest.split_once(end).unwrap();
        assert!(!rest.contains(end), "{end}");
        inner
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_that_are_there() {
        let style = between(page(), "<style>", "</style>");
        let script = between(page(), "<script type=\"module\">", "</script>");
        assert_eq!(PAGE.policy, &*policy(style, script));
        assert!(style.contains("--accent") && script.contains("class Client"));
        assert_eq!(page().matches("<script").count(), 1);
        assert!(!page().contains("<!--"));
        let forbidden = regex::Regex::new(r"\s(on[a-z]+|style)=").unwrap();
        assert!(!forbidden.is_match(HTML));
    }

    #[test]
    fn nothing_is_left_of_modules() {
        for line in between(page(), "<script type=\"module\">", "</script>").lines() {
            assert!(
                !line.starts_with("import")
                    && !line.starts_with("export")
                    && !line.starts_with("} from"),
                "{line}"
            );
        }
    }

    #[test]
    fn texts_become_no_html_and_no_code() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
        ] {
            assert!(!page().contains(word), "{word}");
        }
    }

    #[test]
    fn no_other_host_is_named() {
        let named = regex::Regex::new(r"//[a-z0-9.-]+").unwrap();
        let hosts: Vec<_> = named.find_iter(page()).map(|host| host.as_str()).collect();
        // The URLs are names of the elements of a picture.
        assert_eq!(hosts, ["//www.w3.org", "//www.w3.org"]);
    }

    #[test]
    fn the_page_is_small() {
        assert!(page().len() < 176 * 1024, "{} bytes", page().len());
    }

    #[test]
    fn a_style_keeps_the_spaces_that_mean_something() {
        let source = "/* one */\na :hover, b > c {\n  font: 1px/2 \"A B\", serif; margin: calc(1px - 2px);\n}\n@media (max-width: 1px) { d { top: 0; } }\n";
        assert_eq!(
            lean_style(source),
            "a :hover,b > c{\nfont:1px/2 \"A B\",serif;margin:calc(1px - 2px);\n}\n@media (max-width:1px){d{top:0;}}\n"
        );
    }

    #[test]
    fn comments_and_indentation_go_and_everything_else_stays() {
        let source = "/** one */\nimport { a } from './a.js'\n\n/**\n * two\n */\nexport const b = 1 /* kept */\n  // three\n  b * c\n";
        assert_eq!(lean(source), "const b = 1 /* kept */\nb * c\n");
    }
}
