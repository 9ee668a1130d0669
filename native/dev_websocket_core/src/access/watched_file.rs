//! A file that is read again when it changes.

use std::io;

use crate::file_version::FileVersion;

/// Limit on the size of a file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A file and its last version that was read.
#[derive(Debug, Default)]
pub(super) struct WatchedFile {
    path: String,
    version: Option<Result<FileVersion, io::ErrorKind>>,
}

impl WatchedFile {
    /// Returns the content if the file changed since the last call, or if it has another path. A file that cannot be
    /// read is reported once.
    pub(super) fn changed(&mut self, path: &str) -> Option<io::Result<Vec<u8>>> {
        if self.path != path {
            *self = Self {
                path: path.to_owned(),
                version: None,
            };
        }
        if path.is_empty() {
            return None;
        }
        let version = FileVersion::of(path);
        let seen = version.as_ref().copied().map_err(io::Error::kind);
        if self.version.as_ref() == Some(&seen) {
            return None;
        }
        self.version = Some(seen);
        Some(version.and_then(|version| {
            if version.bytes > MAX_BYTES {
                return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
            }
            std::fs::read(path)
        }))
    }
}
