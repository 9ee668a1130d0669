//! Host names under which a server with restricted access answers.
//!
//! A stranger's page can make its own name point at this machine (DNS rebinding). The browser then believes that the
//! page contacts its own server, and sends no `Origin`. Only the name in `Host` reveals the attack.
//!
//! Therefore access is restricted if `origins` is set or the listener has a loopback address. The server then answers
//! only to names that no stranger can have: addresses, `localhost`, and names in the settings. A request that a browser
//! marks as coming from another site (`Sec-Fetch-Site`) needs an allowed origin.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Request, Uri, Version};

use super::refusal::Refusal;
use crate::settings::Settings;
use crate::subscription::pattern::glob_matches;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Refuses a request by another name or from another site. `address` is the address of the listener that the request came through.
pub(super) fn check<B>(
    request: &Request<B>,
    settings: &Settings,
    address: SocketAddr,
) -> Result<(), Refusal> {
    check_count(request)?;
    if settings.origins.is_empty() && !address.ip().is_loopback() {
        return Ok(());
    }
    let headers = request.headers();
    let by_header = headers.get(HOST).map(|host| host.to_str().ok());
    let by_target = request.uri().authority().map(|host| Some(host.as_str()));
    let is_known = |host: Option<&str>| {
        host.and_then(name)
            .is_some_and(|name| is_ours(&name, settings))
    };
    // A request without a name, which HTTP/1.0 allows, does not come from a browser.
    if !by_header.into_iter().chain(by_target).all(is_known) {
        return Err(Refusal::unknown_host());
    }
    if is_cross_site(headers) && !headers.contains_key(ORIGIN) && !is_visit(request.uri(), headers)
    {
        return Err(Refusal::cross_site());
    }
    Ok(())
}

/// Refuses a request by a name that strangers could make their own, whatever the settings allow otherwise: an origin with
/// a wildcard names nobody.
pub(super) fn check_own_name<B>(request: &Request<B>, settings: &Settings) -> Result<(), Refusal> {
    let by_header = request.headers().get(HOST).map(|host| host.to_str().ok());
    let by_target = request.uri().authority().map(|host| Some(host.as_str()));
    let is_known = |host: Option<&str>| {
        host.and_then(name)
            .is_some_and(|name| is_own(&name, settings))
    };
    if by_header.into_iter().chain(by_target).all(is_known) {
        Ok(())
    } else {
        Err(Refusal::unknown_host())
    }
}

/// Refuses two hosts, because this server and a proxy in front of it may read them differently (RFC 9112 section 3.2).
fn check_count<B>(request: &Request<B>) -> Result<(), Refusal> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match (request.version(), hosts) {
        (Version::HTTP_11, 1) | (Version::HTTP_10, 0 | 1) => Ok(()),
        _ => Err(Refusal::host()),
    }
}

/// Returns the name in `host:port`, in lower case and without a final dot, or `None` if the text has another form.
fn name(authority: &str) -> Option<String> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(host.to_ascii_lowercase())
}

fn is_ours(name: &str, settings: &Settings) -> bool {
    is_own(name, settings)
        || settings
            .origins
            .iter()
            .any(|origin| is_host_of(origin, name))
}

/// Returns true for addresses, and for names that the settings state in full.
fn is_own(name: &str, settings: &Settings) -> bool {
    is_address(name)
        || name == "localhost"
        || !name.is_empty() && is_public(name, &settings.public_host)
        || settings
            .public_uri_host()
            .is_some_and(|host| is_public(name, host))
        || settings
            .origins
            .iter()
            .any(|origin| !origin.contains('*') && is_host_of(origin, name))
}

fn is_public(name: &str, public_host: &str) -> bool {
    let public = public_host.strip_suffix('.').unwrap_or(public_host);
    name.eq_ignore_ascii_case(public)
}

fn is_address(name: &str) -> bool {
    match name.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Returns true if an origin, which may be a glob, is one of this host.
fn is_host_of(origin: &str, name: &str) -> bool {
    let host = match origin.split_once("://") {
        Some((_, authority)) => host_of(authority),
        None => origin,
    };
    !name.is_empty() && glob_matches(host, name)
}

/// Returns an authority, which may be a glob, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    }
}

/// Returns true if the browser says that a page of another site caused the request (the Fetch Metadata standard).
fn is_cross_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(FETCH_SITE).iter();
    sites.any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
}

/// Returns true if the user followed a link to the live page. The page with the link cannot read the response.
fn is_visit(target: &Uri, headers: &HeaderMap) -> bool {
    let is = |name, value| headers.get(name).is_some_and(|known| known == value);
    target.path() == "/" && is(FETCH_MODE, "navigate") && is(FETCH_DEST, "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(origins: &[&str], public_host: &str) -> Settings {
        Settings {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            public_host: public_host.to_owned(),
            ..Settings::default()
        }
    }

    fn is_known(host: &str, settings: &Settings) -> bool {
        name(host).is_some_and(|name| is_ours(&name, settings))
    }

    #[test]
    fn addresses_and_localhost_are_known_in_every_form() {
        let none = settings(&[], "");
        for host in [
            "127.0.0.1",
            "127.0.0.1:8735",
            "10.1.2.3:80",
            "localhost",
            "LocalHost:8735",
            "localhost.",
            "localhost.:8735",
            "127.0.0.1.",
            "[::1]",
            "[::1]:8735",
            "[2001:DB8::1]:1",
            "localhost:",
        ] {
            assert!(is_known(host, &none), "{host}");
        }
        for host in [
            "",
            ":8735",
            ".",
            "evil.example",
            "evil.example:8735",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "localhost:80:80",
            "localhost:x",
            "::1",
            "::1:8735",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[]",
            "[127.0.0.1]",
            "[evil.example]",
            "127.0.01",
            "1",
            "0x7f.0.0.1",
            "localhost..",
            "test",
        ] {
            assert!(!is_known(host, &none), "{host}");
        }
    }

    #[test]
    fn names_of_the_settings_are_known_and_no_others() {
        let own = settings(
            &[
                "https://app.example",
                "https://*.node.example:8443",
                "http://[::9]:1",
                "null",
                "http://dev.example:*",
            ],
            "node.example",
        );
        for host in [
            "node.example",
            "NODE.example:443",
            "node.example.",
            "app.example:8735",
            "a.b.node.example",
            "dev.example:9",
        ] {
            assert!(is_known(host, &own), "{host}");
        }
        for host in [
            "null.example",
            "xnode.example",
            "app.example.evil",
            "evil",
            "node.example..",
            "",
        ] {
            assert!(!is_known(host, &own), "{host}");
        }
        assert!(is_known("node.example", &settings(&[], "Node.Example.")));
        assert!(is_known("any.example", &settings(&["*"], "")));
        assert!(is_known("any.example", &settings(&["https://*"], "")));
        assert!(!is_known("", &settings(&["*"], "")));
        let by_uri = Settings {
            public_uri: "wss://Push.Example:8443/push/ws".to_owned(),
            ..settings(&[], "node.example")
        };
        for host in ["push.example", "PUSH.example.:1", "node.example"] {
            assert!(is_known(host, &by_uri), "{host}");
        }
        for host in ["a.push.example", "push.example:x", ""] {
            assert!(!is_known(host, &by_uri), "{host}");
        }
    }
}
