//! Both sides of the opening handshake, as small as they can be.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// The client's key. It need not be random: it only shows that the answer is a WebSocket server's.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An HTTP head longer than this is refused.
pub const MAX_HEAD: usize = 16 * 1024;

/// The client's request.
pub fn request(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Looks at what the server answered so far: how long its head is, `None` while it is not whole.
pub fn check_response(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD {
            Err("endless response head".into())
        } else {
            Ok(None)
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if head.split(' ').nth(1) != Some("101") {
        return Err(format!(
            "refused: {}",
            head.lines().next().unwrap_or_default()
        ));
    }
    if header(&head, "sec-websocket-accept") != Some(ACCEPT) {
        return Err("wrong Sec-WebSocket-Accept".into());
    }
    Ok(Some(end + 4))
}

/// A request as a server sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// The value to answer with as Sec-WebSocket-Accept.
    pub accept: String,
}

/// Takes a whole request head apart.
pub fn parse_request(head: &str) -> Option<Request> {
    let target = head.split(' ').nth(1)?.to_owned();
    let key = header(head, "sec-websocket-key")?;
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Some(Request {
        target,
        accept: STANDARD.encode(digest),
    })
}

/// The server's answer.
pub fn response(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The topics that a request target asks for: `...?topic=a,b`.
pub fn topics(target: &str) -> impl Iterator<Item = &str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("topic="))
        .flat_map(|list| list.split(','))
        .filter(|topic| !topic.is_empty())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_what_the_client_wants() {
        let request = parse_request(&request("h:1", "/ws?topic=a,b&x=1&topic=c")).expect("parses");
        assert_eq!(request.accept, ACCEPT);
        assert_eq!(topics(&request.target).collect::<Vec<_>>(), ["a", "b", "c"]);
        let answer = response(&request.accept);
        assert_eq!(check_response(answer.as_bytes()), Ok(Some(answer.len())));
        assert_eq!(
            check_response(&answer.as_bytes()[..answer.len() - 1]),
            Ok(None)
        );
    }

    #[test]
    fn refusals_and_nonsense() {
        assert!(check_response(b"HTTP/1.1 503 Full\r\n\r\n").is_err());
        assert!(check_response(b"HTTP/1.1 101 x\r\n\r\n").is_err());
        assert!(check_response(&vec![b'a'; MAX_HEAD + 1]).is_err());
        assert_eq!(parse_request("GET / HTTP/1.1\r\n"), None);
        assert_eq!(topics("/ws").count(), 0);
    }
}
