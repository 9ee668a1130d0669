//! Fuzz targets. Each module has one function that accepts any bytes and panics when the engine breaks a rule.
//!
//! The rules are those of docs/PROTOCOL.md, implemented a second time and as plainly as possible. Where the engine has
//! a fast algorithm, these modules have the slow one.

pub mod control;
pub mod frame;
pub mod inflate;
pub mod message;
pub mod patterns;
pub mod peers;
pub mod query;
pub mod signing;
pub mod templates;
pub mod token;
pub mod topics;
pub mod values;
