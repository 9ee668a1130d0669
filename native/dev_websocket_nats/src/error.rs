//! The ends of a session.

use std::fmt::Display;

use thiserror::Error;

/// The reason why a session ended, for the operator.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    /// A setting must change first.
    #[error("{setting}: {reason}")]
    Setting {
        setting: &'static str,
        reason: String,
    },
    /// The stream takes no messages.
    #[error("the stream refuses messages: {0}")]
    Refused(String),
    /// The next session may succeed.
    #[error("{0}")]
    Failed(String),
}

impl Ended {
    /// Makes the end of a step that failed.
    pub(crate) fn at(step: &str, error: impl Display) -> Self {
        Self::Failed(format!("{step}: {error}"))
    }

    /// Returns whether the next session may succeed, so that it is worth the time until the stream counts as away.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}
