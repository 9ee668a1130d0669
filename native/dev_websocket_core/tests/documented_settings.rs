//! Checks the table of settings in docs/PROTOCOL.md against the code, and examples in docs/OPERATING.md against their
//! files.

use dev_websocket_core::{SettingValue, Settings};

const PROTOCOL: &str = include_str!("../../../docs/PROTOCOL.md");
const OPERATING: &str = include_str!("../../../docs/OPERATING.md");

#[test]
fn the_protocol_page_lists_every_setting_as_it_is() {
    let table: Vec<String> = Settings::table()
        .into_iter()
        .map(|row| {
            format!(
                "| `{}` | {} | {} | {} |",
                row.name,
                shown(&row.default),
                row.unit,
                row.effect
            )
        })
        .collect();
    let missing: Vec<_> = table
        .iter()
        .filter(|row| !PROTOCOL.contains(row.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/PROTOCOL.md lacks these rows:\n{missing:#?}"
    );
    let documented = PROTOCOL
        .lines()
        .skip_while(|line| !line.starts_with("| setting |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .count();
    assert_eq!(
        documented,
        table.len(),
        "docs/PROTOCOL.md has rows that the code has not"
    );
}

#[test]
fn the_protocol_page_names_the_settings_that_do_not_protect() {
    let harmless = Settings::table().into_iter().filter(|row| !row.protects);
    let harmless: Vec<_> = harmless.map(|row| format!("`{}`", row.name)).collect();
    let sentence = format!("All settings protect but {}.", harmless.join(", "));
    assert!(
        PROTOCOL.contains(&sentence),
        "docs/PROTOCOL.md lacks: {sentence}"
    );
}

#[test]
fn the_operating_page_shows_the_configurations_of_proxies_as_they_are() {
    for file in [
        include_str!("../../../examples/proxy/nginx.conf"),
        include_str!("../../../examples/proxy/Caddyfile"),
    ] {
        assert!(OPERATING.contains(file), "docs/OPERATING.md lacks: {file}");
    }
}

fn shown(value: &SettingValue) -> String {
    match value {
        SettingValue::Integer(number) => number.to_string(),
        SettingValue::Boolean(flag) => flag.to_string(),
        SettingValue::Text(text) if text.is_empty() => "empty".to_owned(),
        SettingValue::Text(text) => text.clone(),
        SettingValue::List(items) if items.is_empty() => "empty".to_owned(),
        SettingValue::List(items) => items.join(", "),
    }
}
