//! Telemetry for operators: counters, histograms, log events and panics.

pub(crate) mod counters;
pub mod diagnostics;
pub(crate) mod histogram;
pub(crate) mod histograms;
pub(crate) mod panics;
