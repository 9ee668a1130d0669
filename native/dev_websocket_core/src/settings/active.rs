//! The settings in force, with values that are computed once for the path of a message.

use std::sync::Arc;

use super::Settings;
use crate::message::topics::TopicRules;

/// Settings in force.
#[derive(Debug)]
pub(crate) struct ActiveSettings {
    pub(crate) settings: Arc<Settings>,
    pub(crate) topic_rules: TopicRules,
    /// Whether anybody can read the histograms.
    pub(crate) is_measured: bool,
}

impl ActiveSettings {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            topic_rules: settings.topic_rules(),
            is_measured: settings.endpoints.iter().any(|name| name == "metrics"),
            settings: Arc::new(settings),
        })
    }
}
