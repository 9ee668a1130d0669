//! A client's place in the order of publications, as it writes it: `since=<epoch>:<seq>` or `since=<seq>`.

use thiserror::Error;

/// The longest cursor; ours have an epoch of six characters and a number.
const MAX_BYTES: usize = 64;

/// The last publication that a client has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Since {
    /// Numbers of another epoch mean nothing here. None is the present epoch.
    pub(crate) epoch: Option<String>,
    pub(crate) seq: u64,
}

/// Where a replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// Behind a cursor.
    Since(Since),
    /// With the newest so many that match.
    Last(usize),
}

/// Why a text is no cursor, or one that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CursorError {
    #[error("since must be <seq> or <epoch>:<seq>")]
    Malformed,
    /// It was never given to anybody: the client is mistaken about the server.
    #[error("since is ahead of the newest publication, {0}")]
    Future(u64),
}

impl Since {
    /// Reads a cursor.
    pub(crate) fn parse(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = match text.split_once(':') {
            Some((epoch, seq)) => (Some(epoch), seq),
            None => (None, text),
        };
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > MAX_BYTES || !is_number || epoch == Some("") {
            return Err(CursorError::Malformed);
        }
        Ok(Self {
            epoch: epoch.map(str::to_owned),
            seq: seq.parse().map_err(|_| CursorError::Malformed)?,
        })
    }

    /// Whether it is one of this epoch.
    pub(crate) fn is_of(&self, epoch: &str) -> bool {
        self.epoch.as_deref().is_none_or(|own| own == epoch)
    }

    /// Refuses a cursor of this epoch that lies ahead of the newest publication.
    pub(crate) fn check(&self, epoch: &str, newest: u64) -> Result<(), CursorError> {
        if self.is_of(epoch) && self.seq > newest {
            Err(CursorError::Future(newest))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_number_with_or_without_an_epoch() {
        let since = |epoch: Option<&str>, seq| {
            Ok(Since {
                epoch: epoch.map(str::to_owned),
                seq,
            })
        };
        assert_eq!(Since::parse("1700"), since(None, 1700));
        assert_eq!(Since::parse("k3f9x2:0"), since(Some("k3f9x2"), 0));
        for bad in [
            "",
            ":",
            ":5",
            "k3f9x2:",
            "-1",
            "+1",
            "1.5",
            "a",
            "a:b:1",
            "99999999999999999999999",
        ] {
            assert_eq!(Since::parse(bad), Err(CursorError::Malformed), "{bad}");
        }
        assert!(Since::parse(&format!("{}:1", "e".repeat(62))).is_ok());
        assert!(Since::parse(&format!("{}:1", "e".repeat(63))).is_err());
    }

    #[test]
    fn only_numbers_of_this_epoch_can_be_ahead() {
        let check = |text: &str| Since::parse(text).unwrap().check("now", 5);
        assert_eq!(check("5"), Ok(()));
        assert_eq!(check("now:6"), Err(CursorError::Future(5)));
        assert_eq!(check("6"), Err(CursorError::Future(5)));
        assert_eq!(check("then:6"), Ok(()));
    }
}
