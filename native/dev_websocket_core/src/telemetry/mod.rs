//! Counters, histograms, log lines and panics: everything that tells an operator how the server does.

pub(crate) mod counters;
pub mod diagnostics;
pub(crate) mod histogram;
pub(crate) mod histograms;
pub(crate) mod panics;
