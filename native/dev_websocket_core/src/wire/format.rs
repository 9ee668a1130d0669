//! How a connection wants its publications: the form of its frames, and what becomes of those that it has no room for.

/// What a connection's frames hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// Messages with their topics and number, and the control protocol.
    #[default]
    Json,
    /// The data of messages and nothing else.
    Raw,
    /// As JSON, as server-sent events.
    Events,
}

impl Format {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Json, Self::Raw, Self::Events];

    /// As operators read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Events => "events",
        }
    }
}

/// What becomes of publications that a slow connection has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SlowPolicy {
    /// The oldest are dropped, and a gap frame tells of them.
    #[default]
    Gap,
    /// Those that a newer one of the same topic follows are dropped first.
    Latest,
    /// The connection is closed.
    Close,
}
