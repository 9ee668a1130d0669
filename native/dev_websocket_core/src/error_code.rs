//! Machine-readable error codes of requests; error frames and refused handshakes use the same codes.

use serde::Serialize;

/// The error codes of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorCode {
    /// The client sent a binary frame; control messages are text.
    BadFrame,
    /// The text is not JSON.
    BadJson,
    /// The JSON has a lone surrogate, more than 127 levels, or a number beyond the range of floats.
    UnsupportedJson,
    /// The JSON is not an object with a string `type`.
    BadMessage,
    /// The `id` is neither a string nor a number, or it is too long.
    BadId,
    /// The `type` is not defined.
    UnknownType,
    /// The message type does not define this field.
    UnknownField,
    /// A field is missing or has the wrong type.
    BadField,
    /// The text is not a valid topic.
    BadTopic,
    /// The text is not a valid regular expression, or it is too long.
    BadRegex,
    /// The regular expression needs too much memory.
    RegexTooBig,
    /// The template is neither a JSON object nor a path expression.
    BadTemplate,
    /// The cursor is malformed or is ahead of the newest publication.
    BadSince,
    /// The start of a slot replay is malformed, or cannot be combined with other fields.
    BadFromSlot,
    /// The process of a slot replay is no process id, or there is more than one.
    BadProcess,
    /// The server cannot provide the requested number of past publications.
    BadLast,
    /// The slow policy is unknown, or the format does not allow it.
    BadSlow,
    /// The connection has more topics than `max_topics_per_connection`.
    TooManyTopics,
    /// The connection has more regular expressions than `max_regexes_per_connection`.
    TooManyMatches,
    /// The connection has more templates than `max_templates_per_connection`.
    TooManyTemplates,
    /// All connections together have more distinct globs than `max_globs`.
    TooManyGlobs,
    /// All connections together have more distinct regular expressions than `max_regexes`.
    TooManyExpressions,
    /// All connections together have more distinct templates than `max_templates`.
    TooManyDistinctTemplates,
    /// The patterns that no literal indexes (globs, regular expressions and templates) exceed
    /// `max_unindexed_patterns`.
    TooManyUnindexedPatterns,
    /// The request needs a valid token.
    Unauthorized,
    /// The server does not permit the request.
    Forbidden,
    /// Too many tokens were sent to the server in this second.
    Busy,
    /// No listener receives the messages of clients.
    NoListener,
    /// The server makes `max_slot_replays` slot replays already.
    TooManySlotReplays,
    /// No node with a cache of its own is behind the server.
    NoCache,
    /// The node does not know the process of a slot replay.
    UnknownProcess,
    /// The node follows `max_tails` processes already.
    TooManyProcesses,
    /// The node's cache could not be read.
    ReplayFailed,
    /// The server has not reached the stream yet that it shares with others.
    EngineAway,
}
