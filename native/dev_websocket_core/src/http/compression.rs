//! The choice of compression: permessage-deflate for WebSockets (RFC 7692), gzip for server-sent events (RFC 9110
//! section 12.5.3).

use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

use super::upgrade::tokens;

const NAME: &str = "permessage-deflate";

/// The answer to an offer. Nobody keeps a window between messages, so all receivers share a compressed message.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The bits of the largest window, which shared messages need.
const WINDOW_BITS: u8 = 15;

/// Returns the answer to the first offer of permessage-deflate that the server can keep, if there is one.
pub(super) fn websocket(headers: &HeaderMap) -> Option<HeaderValue> {
    // A comma inside a quoted value would split it, but no value of this extension has one, so such offers are
    // unacceptable in any case.
    tokens(headers, &SEC_WEBSOCKET_EXTENSIONS)
        .find_map(answer)
        .and_then(|answer| answer.parse().ok())
}

/// Answers one offer. An offer with an unknown, repeated or malformed parameter, or a smaller window for the server,
/// is passed over (RFC 7692 section 5.1).
fn answer(offer: &str) -> Option<String> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut answer = ANSWER.to_owned();
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
            None => (part, None),
        };
        let is_valid = match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => true,
            // A hint: the client keeps a window of this size, or leaves the size to the server.
            ("client_max_window_bits", None) => true,
            ("client_max_window_bits", Some(bits)) => window_bits(bits).is_some(),
            ("server_max_window_bits", Some(bits)) => {
                answer.push_str("; server_max_window_bits=15");
                window_bits(bits) == Some(WINDOW_BITS)
            }
            _ => false,
        };
        if !is_valid || seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(answer)
}

/// Reads a number from 8 to 15 without leading zeros (RFC 7692 section 7.1.2.1).
fn window_bits(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let bits = text.parse().ok().filter(|_| is_plain)?;
    (8..=WINDOW_BITS).contains(&bits).then_some(bits)
}

fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// Returns true if the client prefers gzip to no encoding, or likes both equally.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut others) = (None, None, None);
    for item in tokens(headers, &ACCEPT_ENCODING) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts.next().map_or(Some(1000), weight);
        let place = if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
        {
            &mut gzip
        } else if coding.eq_ignore_ascii_case("identity") {
            &mut identity
        } else if coding == "*" {
            &mut others
        } else {
            continue;
        };
        // A weight that cannot be read is no wish.
        *place = Some(weight.unwrap_or(0));
    }
    let gzip = gzip.or(others).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Reads a weight from 0 to 1 as thousandths (RFC 9110 section 12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value
        .trim_start()
        .split_once('.')
        .unwrap_or((value.trim(), ""));
    let is_plain = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{part:0<3}").parse().ok().filter(|_| is_plain)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: hyper::header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        headers
    }

    fn negotiated(values: &[&str]) -> Option<String> {
        let answer = websocket(&with(SEC_WEBSOCKET_EXTENSIONS, values));
        answer.map(|answer| answer.to_str().unwrap().to_owned())
    }

    const WITH_BITS: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

    #[test]
    fn offers_that_the_server_can_keep_are_answered() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits = 9",
            "permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            "permessage-deflate; unknown, permessage-deflate; client_max_window_bits",
        ] {
            assert_eq!(negotiated(&[offer]).as_deref(), Some(ANSWER), "{offer}");
        }
        let offer = "permessage-deflate; server_max_window_bits=15";
        assert_eq!(negotiated(&[offer]).as_deref(), Some(WITH_BITS));
        let headers = ["foo", "permessage-deflate; a", "permessage-deflate"];
        assert_eq!(negotiated(&headers).as_deref(), Some(ANSWER));
    }

    #[test]
    fn other_offers_are_passed_over() {
        for offer in [
            "",
            ",",
            "permessage-deflat",
            "Permessage-Deflate",
            "permessage-deflate;",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=14",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=+15",
            "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; SERVER_NO_CONTEXT_TAKEOVER",
        ] {
            assert_eq!(negotiated(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn gzip_is_chosen_by_weight() {
        for (accepted, expected) in [
            ("gzip", true),
            ("x-gzip", true),
            ("GZIP;q=0.1", true),
            ("gzip, deflate, br, zstd", true),
            ("*", true),
            ("*;q=0.5, identity;q=0.5", true),
            ("gzip;q=1.000", true),
            ("gzip;q=0.001", true),
            ("gzip ; q=0.5, *;q=0", true),
            ("", false),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("gzip;q=0.5, identity", false),
            ("*;q=0", false),
            ("gzip;q=1.001", false),
            ("gzip;q=2", false),
            ("gzip;q=0.0001", false),
            ("gzip;q=x", false),
            ("gzip;level=1", false),
        ] {
            let headers = with(ACCEPT_ENCODING, &[accepted]);
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
        assert!(accepts_gzip(&with(ACCEPT_ENCODING, &["br", "gzip"])));
    }

    fn parameters() -> impl Strategy<Value = Vec<&'static str>> {
        let known = vec![
            "server_no_context_takeover",
            "client_no_context_takeover",
            "client_max_window_bits",
            "client_max_window_bits=10",
            "server_max_window_bits=15",
            "server_max_window_bits=12",
            "unknown",
        ];
        prop::sample::subsequence(known, 0..=4).prop_shuffle()
    }

    /// The rule once more: an offer is acceptable if all its parameters are and none is repeated.
    fn is_acceptable(parameters: &[&str]) -> bool {
        let refused = ["server_max_window_bits=12", "unknown"];
        let names: Vec<_> = parameters.iter().map(|one| one.split('=').next()).collect();
        let is_repeated = (1..names.len()).any(|place| names[..place].contains(&names[place]));
        !is_repeated && !parameters.iter().any(|one| refused.contains(one))
    }

    proptest! {
        /// The first acceptable offer counts, in any order of offers and parameters, in one header or several.
        #[test]
        fn the_first_acceptable_offer_is_answered(offers in prop::collection::vec((parameters(), any::<bool>()), 0..5)) {
            let mut values: Vec<String> = Vec::new();
            for (parameters, begins) in &offers {
                let offer = [&[NAME][..], parameters].concat().join("; ");
                match values.last_mut() {
                    Some(value) if !begins => *value = format!("{value}, {offer}"),
                    _ => values.push(offer),
                }
            }
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            let first = offers.iter().find(|(parameters, _)| is_acceptable(parameters));
            let expected = first.map(|(parameters, _)| {
                if parameters.contains(&"server_max_window_bits=15") { WITH_BITS } else { ANSWER }
            });
            let answer = negotiated(&values);
            prop_assert_eq!(answer.as_deref(), expected);
        }

        #[test]
        fn any_header_is_read_without_a_panic(value in "[ -~]{0,80}", offer in "[a-z_=;\", 0-9]{0,60}") {
            let offer = format!("{NAME}{offer}");
            for value in [&value, &offer] {
                let _ = negotiated(&[value]);
                let _ = accepts_gzip(&with(ACCEPT_ENCODING, &[value]));
            }
        }
    }
}
