//! Settings of followed processes that are neither numbers nor switches.

use super::SettingValue;
use super::values::{Setting, texts};
use crate::message::process_id::is_process_id;

/// The source of the results of followed processes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Results of processes are not published.
    Off,
    /// Slots that the node computes for other reasons.
    #[default]
    Cached,
    /// Besides, the node computes the slots of `follow_processes` for their subscribers.
    Compute,
}

impl Setting for Follow {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(text) => match text.trim() {
                "off" => Some(Self::Off),
                "cached" => Some(Self::Cached),
                "compute" => Some(Self::Compute),
                _ => None,
            },
            _ => None,
        }
    }

    fn show(&self) -> SettingValue {
        let name = match self {
            Self::Off => "off",
            Self::Cached => "cached",
            Self::Compute => "compute",
        };
        SettingValue::Text(name.to_owned())
    }
}

/// Process ids, which are case-sensitive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProcessIds(pub Vec<String>);

impl ProcessIds {
    /// The most ids of a setting.
    const MAX: usize = 1000;

    pub(super) fn are_valid(&self) -> bool {
        self.0.len() <= Self::MAX && self.0.iter().all(|id| is_process_id(id))
    }

    /// Returns true for ids, and for the word that stands for all processes.
    pub(super) fn are_valid_or_all(&self) -> bool {
        self.0 == ["all"] || self.are_valid()
    }
}

impl Setting for ProcessIds {
    fn read(value: SettingValue) -> Option<Self> {
        texts(value).map(Self)
    }

    fn show(&self) -> SettingValue {
        SettingValue::List(self.0.clone())
    }
}
