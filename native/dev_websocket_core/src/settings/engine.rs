//! Settings of the stream that several servers share.

use super::values::{Setting, texts};
use super::{SettingValue, Settings, hosts};

/// The URLs of one engine: `nats://` or `tls://`, a host, and maybe a port. Without any there is no stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EngineUrls(pub Vec<String>);

impl EngineUrls {
    /// The most URLs.
    const MAX: usize = 16;

    /// A URL has no user and no password, because settings are shown and logged.
    pub(super) fn are_valid(&self) -> bool {
        self.0.len() <= Self::MAX && self.0.iter().all(|url| is_url(url))
    }
}

fn is_url(url: &str) -> bool {
    let authority = url
        .strip_prefix("nats://")
        .or_else(|| url.strip_prefix("tls://"));
    authority.is_some_and(|authority| match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            hosts::is_host(host) && hosts::is_number_of_port(port)
        }
        _ => hosts::is_host(authority),
    })
}

/// Returns whether a text can be the name of a stream, and the beginning of its subjects.
pub(super) fn is_stream_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl Setting for EngineUrls {
    fn read(value: SettingValue) -> Option<Self> {
        texts(value).map(Self)
    }

    fn show(&self) -> SettingValue {
        SettingValue::List(self.0.clone())
    }
}

impl Settings {
    /// Returns whether the server shares a stream with others.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        !self.engine.0.is_empty()
    }

    /// Returns whether the other settings need another connection to the stream.
    pub(crate) fn has_other_engine(&self, other: &Self) -> bool {
        let names = self.differences(other);
        names
            .iter()
            .any(|name| name.starts_with("engine") && *name != "engine_bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(text: &str) -> Option<Vec<String>> {
        let mut settings = Settings::default();
        let set = settings.set("engine", SettingValue::Text(text.into()));
        set.ok().map(|()| settings.engine.0)
    }

    #[test]
    fn an_engine_has_urls_without_credentials() {
        let urls = |urls: &[&str]| Some(urls.iter().map(|url| (*url).to_owned()).collect());
        assert_eq!(engine(""), urls(&[]));
        assert_eq!(
            engine("nats://127.0.0.1:4222"),
            urls(&["nats://127.0.0.1:4222"])
        );
        assert_eq!(
            engine(" tls://a.example , nats://[::1]:1"),
            urls(&["tls://a.example", "nats://[::1]:1"])
        );
        for bad in [
            "127.0.0.1:4222",
            "ws://a",
            "nats://",
            "nats://u:p@a",
            "nats://a/b",
            "nats://a:65536",
            "nats://a:",
            "nats://a b",
        ] {
            assert_eq!(engine(bad), None, "{bad}");
        }
        let many = |count: usize| vec!["nats://a"; count].join(",");
        assert!(engine(&many(16)).is_some() && engine(&many(17)).is_none());
    }

    #[test]
    fn a_stream_has_a_name_that_is_a_subject() {
        for (name, is_name) in [
            ("dev_websocket", true),
            ("a-1", true),
            ("", false),
            ("a.b", false),
            ("a*", false),
            ("ä", false),
        ] {
            assert_eq!(is_stream_name(name), is_name, "{name}");
        }
        assert!(is_stream_name(&"n".repeat(64)) && !is_stream_name(&"n".repeat(65)));
    }

    #[test]
    fn only_the_size_of_the_queue_changes_without_a_new_connection() {
        let settings = Settings::default();
        let changed = |name: &str, value: SettingValue| {
            let mut changed = settings.clone();
            changed.set(name, value).unwrap();
            settings.has_other_engine(&changed)
        };
        assert!(changed("engine", SettingValue::Text("nats://a".into())));
        assert!(changed("engine_timeout", SettingValue::Integer(700)));
        assert!(!changed("engine_bytes", SettingValue::Integer(70_000)));
        assert!(!changed("port", SettingValue::Integer(1)));
    }
}
