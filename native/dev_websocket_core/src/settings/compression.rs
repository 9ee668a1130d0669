//! The setting of compression.

use super::SettingValue;
use super::values::Setting;

/// The compression of publications.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing is compressed.
    #[default]
    Off,
    /// Each publication is compressed once, for all clients that accept it.
    Shared,
}

impl Setting for Compression {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(text) => match text.trim() {
                "off" => Some(Self::Off),
                "shared" => Some(Self::Shared),
                _ => None,
            },
            _ => None,
        }
    }

    fn show(&self) -> SettingValue {
        let name = match self {
            Self::Off => "off",
            Self::Shared => "shared",
        };
        SettingValue::Text(name.to_owned())
    }
}
