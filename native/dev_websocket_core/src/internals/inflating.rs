//! The filter of compressed messages, for the fuzz target that knows no internals.

use crate::wire::inflate::InflateFilter;

/// Runs a client's bytes through the filter in pieces of at most `piece` bytes. Returns what the reader gets.
///
/// # Errors
/// The call returns the text of the error when a message is refused.
pub fn filtered(bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<u8>, String> {
    let mut filter = InflateFilter::new(limit);
    let (mut result, mut out) = (Vec::new(), [0; 256]);
    for piece in bytes.chunks(piece.max(1)) {
        filter.push(piece);
        loop {
            let count = filter.read(&mut out).map_err(|error| error.to_string())?;
            if count == 0 {
                break;
            }
            result.extend_from_slice(&out[..count]);
        }
    }
    Ok(result)
}
