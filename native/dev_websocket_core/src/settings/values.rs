//! The kinds of settings: conversion of values from any source, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::SettingValue;

/// A kind of setting: reads values from outside, and shows them.
pub(super) trait Setting: Sized {
    fn read(value: SettingValue) -> Option<Self>;
    fn show(&self) -> SettingValue;
}

impl Setting for u64 {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Integer(number) => number.try_into().ok(),
            SettingValue::Text(text) => text.trim().parse().ok(),
            SettingValue::Boolean(_) | SettingValue::List(_) => None,
        }
    }

    fn show(&self) -> SettingValue {
        SettingValue::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

/// Durations are whole milliseconds.
impl Setting for Duration {
    fn read(value: SettingValue) -> Option<Self> {
        u64::read(value).map(Self::from_millis)
    }

    fn show(&self) -> SettingValue {
        SettingValue::Integer(i64::try_from(self.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Setting for bool {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Boolean(flag) => Some(flag),
            SettingValue::Text(text) => match text.trim() {
                "true" | "1" | "on" => Some(true),
                "false" | "0" | "off" => Some(false),
                _ => None,
            },
            SettingValue::Integer(_) | SettingValue::List(_) => None,
        }
    }

    fn show(&self) -> SettingValue {
        SettingValue::Boolean(*self)
    }
}

impl Setting for String {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(text) => Some(text),
            _ => None,
        }
    }

    fn show(&self) -> SettingValue {
        SettingValue::Text(self.clone())
    }
}

impl Setting for IpAddr {
    fn read(value: SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(text) => match text.trim() {
                "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                // The brackets of a URL are accepted, because they are unambiguous.
                address => match address.strip_prefix('[') {
                    Some(rest) => rest
                        .strip_suffix(']')?
                        .parse()
                        .ok()
                        .map(|ip: Ipv6Addr| ip.into()),
                    None => address.parse().ok(),
                },
            },
            _ => None,
        }
    }

    fn show(&self) -> SettingValue {
        SettingValue::Text(self.to_string())
    }
}

impl Setting for Vec<String> {
    fn read(value: SettingValue) -> Option<Self> {
        let (items, is_empty): (Vec<String>, bool) = match value {
            SettingValue::List(items) => (items, true),
            SettingValue::Text(text) => (
                text.split(',').map(str::to_owned).collect(),
                text.is_empty(),
            ),
            _ => return None,
        };
        let items: Vec<String> = items
            .iter()
            .map(|item| item.trim().to_lowercase())
            .filter(|item| !item.is_empty())
            .collect();
        // Blanks and commas alone are refused, because an empty list mostly means "all".
        (is_empty || !items.is_empty()).then_some(items)
    }

    fn show(&self) -> SettingValue {
        SettingValue::List(self.clone())
    }
}

/// Reads a list of texts, or a text with commas. Case is kept, and empty items are left out.
pub(super) fn texts(value: SettingValue) -> Option<Vec<String>> {
    let items: Vec<String> = match value {
        SettingValue::List(items) => items,
        SettingValue::Text(text) => text.split(',').map(str::to_owned).collect(),
        _ => return None,
    };
    let texts = items.iter().map(|item| item.trim());
    let texts = texts.filter(|item| !item.is_empty());
    Some(texts.map(str::to_owned).collect())
}

/// Addresses and networks, without any by default.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Returns whether an address is in one of the networks. An IPv4 address may be written as IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Setting for Networks {
    fn read(value: SettingValue) -> Option<Self> {
        let items = Vec::<String>::read(value)?;
        items
            .iter()
            .map(|item| network(item))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn show(&self) -> SettingValue {
        let shown = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        SettingValue::List(self.0.iter().map(shown).collect())
    }
}

/// Reads an address or a network. Bits beyond the prefix are refused, because such a text may mean the address alone.
fn network(text: &str) -> Option<IpNet> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let written: IpAddr = address.parse().ok()?;
    let address = written.to_canonical();
    let network = match prefix {
        None => IpNet::from(address),
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            let prefix: u8 = prefix.parse().ok()?;
            // The first 96 bits of an IPv4 address that is written as IPv6 are fixed.
            let fixed = if written.is_ipv4() == address.is_ipv4() {
                0
            } else {
                96
            };
            IpNet::new(address, prefix.checked_sub(fixed)?).ok()?
        }
        Some(_) => return None,
    };
    (network == network.trunc()).then_some(network)
}
