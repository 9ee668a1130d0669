use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::settings::{SettingValue, Settings};

const PEER: &str = "10.0.0.1:5000";

fn trusted() -> Networks {
    let mut settings = Settings::default();
    let networks = SettingValue::Text("10.0.0.0/8,2001:db8::/32".into());
    settings.set("trusted_proxies", networks).unwrap();
    settings.trusted_proxies
}

fn is_trusted(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.segments()[..2] == [0x2001, 0xdb8],
    }
}

fn headers(lines: &[(HeaderName, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn found(peer: &str, lines: &[(HeaderName, &str)]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (name.clone(), value.as_bytes()))
        .collect();
    client(peer.parse().unwrap(), &headers(&lines), &trusted()).to_string()
}

fn by_list(list: &str) -> String {
    found(PEER, &[(X_FORWARDED_FOR, list)])
}

fn by_forwarded(list: &str) -> String {
    found(PEER, &[(FORWARDED, list)])
}

#[test]
fn the_last_address_that_is_not_trusted_is_the_client() {
    for (list, client) in [
        ("203.0.113.9", "203.0.113.9:0"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9:0"),
        ("203.0.113.9,10.1.1.1 ,\t10.2.2.2", "203.0.113.9:0"),
        (
            "198.51.100.1, 203.0.113.9:4711, 10.1.1.1",
            "203.0.113.9:4711",
        ),
        ("2001:db9::1, 2001:db8::7", "[2001:db9::1]:0"),
        ("[2001:db9::1]", "[2001:db9::1]:0"),
        ("[2001:db9::1]:443, [2001:db8::7]:1", "[2001:db9::1]:443"),
        ("::ffff:203.0.113.9", "203.0.113.9:0"),
        ("203.0.113.9, ::ffff:10.1.1.1", "203.0.113.9:0"),
        // All are trusted, so the farthest counts.
        ("10.9.9.9, 10.1.1.1", "10.9.9.9:0"),
    ] {
        assert_eq!(by_list(list), client, "{list}");
    }
}

#[test]
fn text_that_is_no_address_ends_the_walk_at_the_last_known_one() {
    for list in [
        "",
        ",",
        "unknown",
        "_hidden",
        "203.0.113",
        "203.0.113.9:",
        "203.0.113.9:70000",
        "203.0.113.9:+1",
        "[2001:db9::1",
        "[2001:db9::1]x",
        "2001:db9::1%eth0",
        "[203.0.113.9]",
        "\"203.0.113.9\"",
        "203.0.113.9 198.51.100.1",
        "for=203.0.113.9",
        "unix:",
        "010.1.1.1",
    ] {
        assert_eq!(by_list(list), PEER, "{list}");
        assert_eq!(by_list(&format!("203.0.113.9, {list}")), PEER, "{list}");
        assert_eq!(
            by_list(&format!("{list}, 10.1.1.1")),
            "10.1.1.1:0",
            "{list}"
        );
        assert_eq!(
            by_list(&format!("{list}, 203.0.113.9")),
            "203.0.113.9:0",
            "{list}"
        );
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (list, client) in [
        ("for=203.0.113.9", "203.0.113.9:0"),
        (
            "For=\"203.0.113.9\";proto=https;by=10.0.0.1",
            "203.0.113.9:0",
        ),
        (
            "proto=https; for = \"203.0.113.9:4711\" ;host=\"a,b;c=\\\"d\"",
            "203.0.113.9:4711",
        ),
        (
            "for=198.51.100.1, for=\"[2001:db9::1]\";proto=http, FOR=\"[2001:db8::7]:80\"",
            "[2001:db9::1]:0",
        ),
        ("for=\"[2001:db9::1]:_port\"", "[2001:db9::1]:0"),
        ("for=\"203.0.113.9:_a.b-c\"", "203.0.113.9:0"),
        ("for=203.0.113.9;;", "203.0.113.9:0"),
        ("for=\"203\\.0.113.9\"", "203.0.113.9:0"),
        // Some proxies leave the quotes out.
        ("for=[2001:db9::1]:80", "[2001:db9::1]:80"),
        ("for=unknown, for=10.1.1.1", "10.1.1.1:0"),
        ("for=203.0.113.9, for=_hidden, for=10.1.1.1", "10.1.1.1:0"),
    ] {
        assert_eq!(by_forwarded(list), client, "{list}");
    }
    for list in [
        "",
        "for",
        "for=",
        "for=\"\"",
        "for=unknown",
        "for=_hidden",
        "proto=https",
        "for=203.0.113.9;for=203.0.113.9",
        "for=\"203.0.113.9",
        "for=203.0.113.9\"",
        "for=\"203.0.113.9\\\"",
        "for=\"203\"0.113.9\"",
        "for=203.0.113.9;x",
        "for=\"203.0.113.9:_\"",
        "for=\"203.0.113.9:_a b\"",
        "for=203.0.113.9,",
        "203.0.113.9",
    ] {
        assert_eq!(by_forwarded(list), PEER, "{list}");
    }
}

#[test]
fn several_lines_are_one_list_and_forwarded_counts_only_alone() {
    let lines = [
        (X_FORWARDED_FOR, "198.51.100.1"),
        (X_FORWARDED_FOR, "203.0.113.9, 10.1.1.1"),
        (X_FORWARDED_FOR, "10.2.2.2"),
    ];
    assert_eq!(found(PEER, &lines), "203.0.113.9:0");
    let lines = [
        (FORWARDED, "for=203.0.113.9, for=10.1.1.1"),
        (FORWARDED, "for=10.2.2.2"),
    ];
    assert_eq!(found(PEER, &lines), "203.0.113.9:0");
    // Proxies that write X-Forwarded-For pass on a client's own Forwarded.
    for list in ["203.0.113.9", "198.51.100.1, 203.0.113.9"] {
        let lines = [(FORWARDED, "for=198.51.100.1"), (X_FORWARDED_FOR, list)];
        assert_eq!(found(PEER, &lines), "203.0.113.9:0");
    }
    let lines = [
        (FORWARDED, "for=198.51.100.1"),
        (X_FORWARDED_FOR, "unknown"),
    ];
    assert_eq!(found(PEER, &lines), PEER);
}

#[test]
fn a_stranger_keeps_its_own_address() {
    for peer in ["203.0.113.9:80", "[2001:db9::1]:80"] {
        let lines = [
            (X_FORWARDED_FOR, "198.51.100.1"),
            (FORWARDED, "for=198.51.100.1"),
        ];
        assert_eq!(found(peer, &lines), peer);
        assert_eq!(found(peer, &lines[1..]), peer);
    }
    let headers = headers(&[(X_FORWARDED_FOR, b"198.51.100.1")]);
    let peer: SocketAddr = PEER.parse().unwrap();
    assert_eq!(client(peer, &headers, &Networks::default()), peer);
}

/// An element of a list: an address with or without a port, or something else.
type Element = Option<(IpAddr, Option<u16>)>;

fn element() -> impl Strategy<Value = Element> {
    let ip = prop_oneof![
        4 => any::<[u8; 3]>().prop_map(|[a, b, c]| Ipv4Addr::new(10, a, b, c).into()),
        1 => any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        2 => any::<u64>().prop_map(|bits| Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(bits)).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
        1 => any::<u8>().prop_map(|last| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().into()),
    ];
    prop_oneof![
        9 => (ip, any::<Option<u16>>()).prop_map(Some),
        1 => Just(None),
    ]
}

/// Finds the client by the definition: the first element from which on all are addresses, and after which all are
/// trusted.
fn reference(peer: SocketAddr, elements: &[Element]) -> SocketAddr {
    let mut chain: Vec<Element> = elements.to_vec();
    chain.push(Some((peer.ip(), Some(peer.port()))));
    let holds = |first: &usize| {
        let known: Option<Vec<_>> = chain[*first..].iter().copied().collect();
        known.is_some_and(|known| known[1..].iter().all(|(ip, _)| is_trusted(*ip)))
    };
    let first = (0..chain.len()).find(holds).unwrap();
    let (ip, port) = chain[first].unwrap();
    SocketAddr::new(ip.to_canonical(), port.unwrap_or(0))
}

fn written(element: Element, other: &str) -> String {
    match element {
        None => other.to_owned(),
        Some((IpAddr::V6(ip), None)) => ip.to_string(),
        Some((ip, None)) => ip.to_string(),
        Some((ip, Some(port))) => SocketAddr::new(ip, port).to_string(),
    }
}

/// An element of `Forwarded`, with more or fewer parameters.
fn written_forwarded(element: Element, other: &str, form: u8) -> String {
    let node = match element {
        None => return other.to_owned(),
        Some((IpAddr::V6(ip), None)) => format!("[{ip}]"),
        element => written(element, ""),
    };
    match (form % 4, node.contains(':')) {
        (0, false) => format!("for={node}"),
        (1, _) => format!("For=\"{node}\";proto=https"),
        (2, _) => format!("by=\"[::1]\";FOR=\"{node}\";host=\"a,b;for=c\""),
        _ => format!("host=\"x\\\"y\" ; for=\"{node}\""),
    }
}

fn lines_of(elements: Vec<String>, breaks: &[bool]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        match lines.last_mut() {
            Some(line) if !breaks.get(index).copied().unwrap_or_default() => {
                line.push_str(if index % 2 == 0 { ", " } else { "," });
                line.push_str(&element);
            }
            _ => lines.push(element),
        }
    }
    lines
}

/// Bytes that a header may have.
fn client_text() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = any::<u8>().prop_map(|byte| if byte < 32 || byte == 127 { b'"' } else { byte });
    let byte = prop_oneof![select(b"\"\\,;= for10.".as_slice()), any_byte];
    vec(byte, 0..40)
}

proptest! {
    #[test]
    fn the_walk_finds_what_the_definition_says(
        elements in vec(element(), 0..8),
        breaks in vec(any::<bool>(), 8),
        forms in vec(any::<u8>(), 8),
        peer in element(),
        other in select(vec!["unknown", "_x", "", "1.2.3", "for=\"", "a b"]),
        other_forwarded in select(vec!["for=unknown", "for=_x", "", "proto=http", "for=1.2.3", "for=1.1.1.1;for=1.1.1.1"]),
    ) {
        let peer = peer.map_or_else(|| PEER.parse().unwrap(), |(ip, port)| {
            SocketAddr::new(ip.to_canonical(), port.unwrap_or(1))
        });
        let expected = reference(peer, &elements);
        let list = elements.iter().map(|element| written(*element, other)).collect();
        let forwarded = elements
            .iter()
            .zip(forms)
            .map(|(element, form)| written_forwarded(*element, other_forwarded, form))
            .collect();
        for (name, elements) in [(X_FORWARDED_FOR, list), (FORWARDED, forwarded)] {
            let lines = lines_of(elements, &breaks);
            let lines: Vec<_> = lines.iter().map(|line| (name.clone(), line.as_bytes())).collect();
            prop_assert_eq!(client(peer, &headers(&lines), &trusted()), expected, "{:?}", lines);
        }
    }

    #[test]
    fn nothing_that_a_client_writes_changes_its_address(
        text in client_text(),
        more in client_text(),
        address in select(vec!["203.0.113.9:0", "203.0.113.9:80", "[2001:db9::1]:443"]),
        is_line_of_its_own in any::<bool>(),
    ) {
        let expected: SocketAddr = address.parse().unwrap();
        for (name, written) in [(X_FORWARDED_FOR, address.to_owned()), (FORWARDED, format!("proto=http;for=\"{address}\";host=\"a\""))] {
            let mut lines = vec![text.clone(), more.clone()];
            if is_line_of_its_own {
                lines.push(written.into_bytes());
            } else {
                lines[1].extend(b", ");
                lines[1].extend(written.bytes());
            }
            let lines: Vec<_> = lines.iter().map(|line| (name.clone(), line.as_slice())).collect();
            let headers = headers(&lines);
            prop_assert_eq!(client(PEER.parse().unwrap(), &headers, &trusted()), expected);
            // Of a stranger, nothing is read.
            prop_assert_eq!(client(expected, &headers, &trusted()), expected);
        }
    }
}
