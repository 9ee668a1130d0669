//! Process ids: 32 bytes as base64url.

/// The length of a process id, in characters.
pub(crate) const ID_LENGTH: usize = 43;

/// A process id in its base64url form.
pub type ProcessId = [u8; ID_LENGTH];

/// Returns whether a text has the form of a process id.
pub(crate) fn is_process_id(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == ID_LENGTH && text.bytes().all(is_base64url)
}
