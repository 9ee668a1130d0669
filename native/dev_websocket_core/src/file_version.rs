//! Versions of files, so that changed ones are read again.

use std::io;
use std::os::unix::fs::MetadataExt;

/// The version of a file: enough to notice that it was written, or that another one took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileVersion {
    /// The size of the file.
    pub(crate) bytes: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last modification.
    modified: (i64, i64),
}

impl FileVersion {
    /// Looks at a file.
    ///
    /// # Errors
    /// The file cannot be found or looked at.
    pub(crate) fn of(path: &str) -> io::Result<Self> {
        let data = std::fs::metadata(path)?;
        Ok(Self {
            bytes: data.size(),
            inode: data.ino(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}
