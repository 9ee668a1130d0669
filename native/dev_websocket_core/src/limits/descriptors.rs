//! The file descriptors of the program: connections must not take the last ones.
//!
//! The engine lives in a program that opens files, loads code and has listeners of its own. Without descriptors all of
//! that fails, an Erlang node cannot even log why. So some are left to it, and who wants to connect waits in the system's
//! queue meanwhile.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, getrlimit};

/// What part of the descriptors is left to the rest of the program, and at most how many.
const SHARE: u64 = 8;
const MOST: u64 = 256;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The first that is not for connections. The system gives the lowest that is free.
    end: u64,
}

impl Descriptors {
    /// As many as the program may open now.
    pub(crate) fn new() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        Self {
            end: limit - (limit / SHARE).min(MOST),
        }
    }

    /// Whether this one, just opened, is the last for a connection or beyond.
    pub(crate) fn end_with(&self, opened: &impl AsRawFd) -> bool {
        u64::try_from(opened.as_raw_fd()).is_ok_and(|number| number + 1 >= self.end)
    }

    /// Whether a connection may have one more. Takes anything that is open.
    ///
    /// # Errors
    /// When it may not.
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
        // Other tests open and close some at the same time.
        let (few, many) = (Descriptors { end: 1 }, Descriptors { end: number + 1000 });
        assert!(few.end_with(&open));
        assert!(few.check(&open).is_err());
        assert!(!many.end_with(&open));
        assert!(many.check(&open).is_ok());
    }
}
