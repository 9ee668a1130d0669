//! Ids of processes: 32 bytes as base64url.

/// Characters of an id.
pub(crate) const ID_LENGTH: usize = 43;

/// The id of a process.
pub type ProcessId = [u8; ID_LENGTH];

/// Whether a text has the form of an id.
pub(crate) fn is_process_id(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == ID_LENGTH && text.bytes().all(is_base64url)
}
