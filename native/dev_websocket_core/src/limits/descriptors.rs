//! A reserve of file descriptors for the rest of the program.
//!
//! The engine runs in a program that opens files, loads code and has listeners of its own. All of that fails without
//! descriptors; an Erlang node cannot even log the reason. The engine therefore leaves some descriptors free, and new
//! connections wait in the operating system's queue meanwhile.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, getrlimit};

/// The divisor for the share of descriptors that stays reserved for the rest of the program; `MOST` is the maximum
/// reserve.
const SHARE: u64 = 8;
const MOST: u64 = 256;

/// The limit on file descriptors of connections, which keeps a reserve for the rest of the program.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The first descriptor that is reserved. The operating system hands out the lowest free number.
    end: u64,
}

impl Descriptors {
    /// Derives the limit from the number of files that the program may currently open.
    pub(crate) fn new() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        Self {
            end: limit - (limit / SHARE).min(MOST),
        }
    }

    /// Returns whether a descriptor that was just opened is the last one for connections, or is reserved.
    pub(crate) fn end_with(&self, opened: &impl AsRawFd) -> bool {
        u64::try_from(opened.as_raw_fd()).is_ok_and(|number| number + 1 >= self.end)
    }

    /// Checks that a further connection may have a descriptor. The argument is any open descriptor.
    ///
    /// # Errors
    /// The call fails when only reserved descriptors are left, or none.
    pub(crate) fn check(&self, open: &impl AsFd) -> io::Result<()> {
        let next = open.as_fd().try_clone_to_owned()?;
        if u64::try_from(next.as_raw_fd()).is_ok_and(|number| number >= self.end) {
            return Err(io::Error::other("few file descriptors are left"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_eighth_of_the_descriptors_and_at_most_some_hundred_are_left() {
        for (limit, end) in [
            (0, 0),
            (7, 7),
            (256, 224),
            (1024, 896),
            (20_000, 19_744),
            (u64::MAX, u64::MAX - MOST),
        ] {
            assert_eq!(Descriptors::of(limit).end, end);
        }
    }

    #[test]
    fn the_number_of_a_descriptor_says_how_many_are_open() {
        let open = File::open("/dev/null").unwrap();
        let number = open.as_raw_fd() as u64;
        // Other tests open and close descriptors at the same time.
        let (few, many) = (Descriptors { end: 1 }, Descriptors { end: number + 1000 });
        assert!(few.end_with(&open));
        assert!(few.check(&open).is_err());
        assert!(!many.end_with(&open));
        assert!(many.check(&open).is_ok());
    }
}
