//! What is fuzzed: each module has one function that takes any bytes and panics when the engine breaks a rule.
//!
//! The rules are those of docs/PROTOCOL.md, written down a second time and as plainly as possible. Where the engine has
//! a fast way to do something, the slow way stands here.

pub mod control;
pub mod frame;
pub mod message;
pub mod patterns;
pub mod query;
pub mod templates;
pub mod topics;
pub mod values;
