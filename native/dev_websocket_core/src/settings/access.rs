//! Settings of access control that are neither numbers nor switches.

use super::SettingValue;
use super::values::{Setting, texts};
use crate::message::topic;

/// The right to subscribe.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody may subscribe to everything.
    #[default]
    Open,
    /// A subscription needs a token, unless its topic is public.
    Token,
}

impl Setting for Access {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(text) => match text.trim() {
                "open" => Some(Self::Open),
                "token" => Some(Self::Token),
                _ => None,
            },
            _ => None,
        }
    }

    fn show(&self) -> SettingValue {
        let name = match self {
            Self::Open => "open",
            Self::Token => "token",
        };
        SettingValue::Text(name.to_owned())
    }
}

/// Topics and globs, which are case-sensitive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Topics(pub Vec<String>);

impl Topics {
    pub(super) fn are_valid(&self) -> bool {
        self.0.iter().all(|topic| topic::check(topic).is_ok())
    }
}

impl Setting for Topics {
    fn read(value: SettingValue) -> Option<Self> {
        texts(value).map(Self)
    }

    fn show(&self) -> SettingValue {
        SettingValue::List(self.0.clone())
    }
}

/// Returns whether a text is a cookie name (RFC 6265 section 4.1.1), or empty.
pub(super) fn is_cookie_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    text.bytes().all(is_allowed)
}
