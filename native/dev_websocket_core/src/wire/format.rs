//! Options of a connection: the format of its frames, and the policy for a slow consumer.

/// The format of a connection's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// Messages with their topics and sequence number, and the control protocol.
    #[default]
    Json,
    /// Only the data of messages.
    Raw,
    /// The JSON format as server-sent events.
    Events,
    /// The JSON format for edges of processes, one frame for each slot, and the control protocol.
    Edges,
}

impl Format {
    /// All formats.
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::Raw, Self::Events, Self::Edges];

    /// Returns the name that operators see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Events => "events",
            Self::Edges => "edges",
        }
    }
}

/// The form of a connection's frames: their format, and whether publications are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Form {
    pub(crate) format: Format,
    /// True if the client has negotiated compression: permessage-deflate, or gzip for events.
    pub(crate) is_compressed: bool,
}

impl From<Format> for Form {
    fn from(format: Format) -> Self {
        Self {
            format,
            is_compressed: false,
        }
    }
}

/// The policy for publications that do not fit a slow consumer's send buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SlowPolicy {
    /// The oldest publications are dropped, and a gap frame reports them.
    #[default]
    Gap,
    /// Publications with a newer one of the same topic are dropped first.
    Latest,
    /// The connection is closed.
    Close,
}
