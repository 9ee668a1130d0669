//! Fuzzing of templates. The input is one template per line, and a message as JSON in the last line.

use dev_websocket_core::internals::reading::Templates;
use serde_json::Value as Json;

/// Checks templates with any bytes.
pub fn check(input: &[u8]) {
    let Some((lines, message)) = std::str::from_utf8(input)
        .ok()
        .and_then(|text| text.rsplit_once('\n'))
    else {
        return;
    };
    let Ok(message) = serde_json::from_str::<Json>(message) else {
        return;
    };
    let mut templates = Templates::default();
    let mut expected = Vec::new();
    for text in lines.lines().take(16) {
        match templates.add(text) {
            Ok((place, shown)) => {
                let again = shown
                    .as_str()
                    .map_or_else(|| shown.to_string(), str::to_owned);
                assert!(again.len() <= 4096);
                assert_eq!(
                    templates.add(&again).map(|(place, _)| place),
                    Ok(place),
                    "{again}"
                );
                // The target `patterns` checks expressions.
                if shown.is_object() && is_template_of(&shown, &message) {
                    expected.push(place);
                }
            }
            Err(reason) => assert!(!reason.is_empty() && reason.len() <= 1000, "{reason}"),
        }
    }
    let mut matching = templates.each_matching(&message);
    assert_eq!(templates.found_matching(&message), matching);
    expected.sort_unstable();
    expected.dedup();
    let mut paths = Templates::default();
    for text in lines
        .lines()
        .take(16)
        .filter(|text| text.trim().starts_with('/'))
    {
        let _ = paths.add(text);
    }
    // The remaining matches are expressions; as many match when compared alone.
    matching.retain(|place| !expected.contains(place));
    assert_eq!(matching.len(), paths.each_matching(&message).len());
}

fn is_template_of(template: &Json, message: &Json) -> bool {
    let (Some(template), Some(fields)) = (template.as_object(), message.as_object()) else {
        return false;
    };
    template.iter().all(|(key, wanted)| {
        let mut found: Vec<&Json> = fields
            .iter()
            .filter(|(there, _)| there.to_lowercase() == key.to_lowercase())
            .map(|(_, value)| value)
            .collect();
        if found.is_empty() {
            found = tags(message)
                .into_iter()
                .filter(|(there, _)| there.to_lowercase() == key.to_lowercase())
                .map(|(_, value)| value)
                .collect();
        }
        found.iter().any(|value| is_wanted(wanted, value))
    })
}

fn is_wanted(wanted: &Json, value: &Json) -> bool {
    match (wanted, value) {
        (Json::Null, value) => value.is_null(),
        (Json::Array(wanted), Json::Array(values)) => {
            wanted.len() == values.len()
                && wanted
                    .iter()
                    .zip(values)
                    .all(|(wanted, value)| is_wanted(wanted, value))
        }
        (Json::Object(wanted), Json::Object(fields)) => wanted.iter().all(|(key, wanted)| {
            let mut there = fields
                .iter()
                .filter(|(there, _)| there.to_lowercase() == key.to_lowercase());
            there.any(|(_, value)| is_wanted(wanted, value))
        }),
        (wanted, value) => text(wanted).is_some() && text(wanted) == text(value),
    }
}

fn text(scalar: &Json) -> Option<String> {
    match scalar {
        Json::String(text) => Some(text.clone()),
        Json::Bool(_) | Json::Number(_) => Some(scalar.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Returns the tags of a map, or of a list of pairs and of objects with a name and a value.
fn tags(message: &Json) -> Vec<(String, &Json)> {
    let mut tags = Vec::new();
    for (key, value) in message.as_object().into_iter().flatten() {
        if !key.eq_ignore_ascii_case("tags") {
            continue;
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            tags.push((key.clone(), value));
        }
        for item in value.as_array().into_iter().flatten() {
            let (name, value) = match item {
                Json::Array(pair) if pair.len() == 2 => (Some(&pair[0]), Some(&pair[1])),
                Json::Object(_) => (field(item, "name"), field(item, "value")),
                _ => continue,
            };
            if let (Some(Json::String(name)), Some(value)) = (name, value) {
                tags.push((name.clone(), value));
            }
        }
    }
    tags
}

fn field<'j>(object: &'j Json, name: &str) -> Option<&'j Json> {
    let mut fields = object.as_object()?.iter();
    fields
        .find(|(key, _)| key.to_ascii_lowercase() == name)
        .map(|(_, value)| value)
}
