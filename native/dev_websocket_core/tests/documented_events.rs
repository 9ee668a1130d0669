//! Checks the table of events in docs/OPERATING.md against the code.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dev_websocket_core::diagnostics::KINDS;

const OPERATING: &str = include_str!("../../../docs/OPERATING.md");

#[test]
fn every_event_is_in_the_table_with_its_level_and_fields() {
    let documented = documented();
    let told: BTreeSet<_> = ["dev_websocket_core", "dev_websocket_nif"]
        .iter()
        .flat_map(|crate_name| {
            told_in(
                &Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("..")
                    .join(crate_name)
                    .join("src"),
            )
        })
        .collect();
    for (kind, level) in &told {
        assert!(
            KINDS.contains(&&**kind),
            "{kind} is no kind in diagnostics/limits.rs"
        );
        assert!(
            documented.contains(&(kind.clone(), level.clone())),
            "docs/OPERATING.md lacks {kind} of level {level}"
        );
    }
    let unused: Vec<_> = KINDS
        .iter()
        .filter(|kind| **kind != "other" && !told.iter().any(|(told, _)| told == *kind))
        .collect();
    assert!(unused.is_empty(), "nothing tells {unused:?}");
}

/// Returns names and levels of the rows of the table.
fn documented() -> BTreeSet<(String, String)> {
    OPERATING
        .lines()
        .skip_while(|line| !line.starts_with("| event |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .flat_map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let kind = cells.next().unwrap().trim_matches('`').to_owned();
            let levels = cells.next().unwrap();
            levels
                .split(", ")
                .map(move |level| (kind.clone(), level.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the events that the sources of a crate log. Each event must have a name.
fn told_in(folder: &Path) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            told.extend(told_in(&path));
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        for event in source.split("tracing::").skip(1) {
            let Some((level, arguments)) = event.split_once("!(") else {
                continue;
            };
            let level = match level {
                "error" | "info" | "debug" => level,
                "warn" => "warning",
                _ => continue,
            };
            let name = arguments.trim_start().strip_prefix("name: \"");
            let name = name.and_then(|rest| rest.split('"').next());
            let Some(name) = name else {
                panic!("an event without a name in {}", path.display());
            };
            told.push((name.to_owned(), level.to_owned()));
        }
    }
    told
}
