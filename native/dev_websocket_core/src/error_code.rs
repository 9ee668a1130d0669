//! What can be wrong with a request, as programs read it: the same in an error frame and in a refusal.

use serde::Serialize;

/// The error codes of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorCode {
    /// A binary frame: control messages are text.
    BadFrame,
    /// Text that is no JSON.
    BadJson,
    /// JSON with a lone surrogate, with more than 127 levels, or with a number beyond all floats.
    UnsupportedJson,
    /// JSON that is no object with a text `type`.
    BadMessage,
    /// An `id` that is neither text nor number, or too long.
    BadId,
    /// A `type` that is not defined.
    UnknownType,
    /// A field that the type does not have.
    UnknownField,
    /// A field of the wrong kind, or missing.
    BadField,
    /// A text that names no topic.
    BadTopic,
    /// A text that is no regular expression, or too long.
    BadRegex,
    /// A regular expression that takes too much memory.
    RegexTooBig,
    /// Neither a JSON object nor a path expression.
    BadTemplate,
    /// A cursor that is malformed, or ahead of the newest publication.
    BadSince,
    /// A number of past publications that cannot be had.
    BadLast,
    /// No slow policy, or one that the format does not allow.
    BadSlow,
    /// More topics than `max_topics_per_connection`.
    TooManyTopics,
    /// More regular expressions than `max_regexes_per_connection`.
    TooManyMatches,
    /// More templates than `max_templates_per_connection`.
    TooManyTemplates,
    /// More different globs in all than `max_globs`.
    TooManyGlobs,
    /// More different regular expressions in all than `max_regexes`.
    TooManyExpressions,
    /// More different templates in all than `max_templates`.
    TooManyDistinctTemplates,
    /// More globs, expressions and templates that no literal finds than `max_unindexed_patterns`.
    TooManyUnindexedPatterns,
    /// Nobody listens to what clients send.
    NoListener,
}
