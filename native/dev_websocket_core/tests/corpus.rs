//! Runs every input in the corpus of the fuzz targets in `native/fuzz` once, so that found errors stay fixed.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    reason = "a crate of its own, which is to panic when a rule is broken"
)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

type Check = fn(&[u8]);

#[test]
fn inputs_found_by_fuzzing_still_pass() {
    let targets: [(&str, Check); 9] = [
        ("query", fuzz::query::check),
        ("control", fuzz::control::check),
        ("topics", fuzz::topics::check),
        ("patterns", fuzz::patterns::check),
        ("templates", fuzz::templates::check),
        ("inflate", fuzz::inflate::check),
        ("message", fuzz::message::check),
        ("peers", fuzz::peers::check),
        ("token", fuzz::token::check),
    ];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut failed = Vec::new();
    for (target, check) in targets {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            inputs += 1;
            if catch_unwind(|| check(&input)).is_err() {
                failed.push(path);
            }
        }
        assert!(inputs >= 10, "{target} has {inputs} inputs");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
