//! Tests of `automaton`, against the engine of the `regex` crate.

use super::*;
use proptest::prelude::*;
use regex::Regex;

fn compile(text: &str) -> Automaton {
    Automaton::compile(text).unwrap()
}

#[test]
fn an_expression_whose_table_would_be_large_is_refused() {
    for text in [
        "[01]*1[01]{30}x",
        "[ab]*a[ab]{100}$",
        "((a{100}){100}){100}",
        r"\w{2000}",
        "(.?a){200}",
    ] {
        let refused = Automaton::compile(text);
        assert!(matches!(refused, Err(CompileError::TooBig)), "{text}");
    }
}

#[test]
fn the_size_of_a_table_is_bounded() {
    // One more look ahead doubles the table.
    let sizes: Vec<usize> = (1..)
        .map_while(|n| Automaton::compile(&format!("[01]*1[01]{{{n}}}x")).ok())
        .map(|automaton| automaton.memory())
        .collect();
    assert!((6..12).contains(&sizes.len()), "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 32 * 1024), "{sizes:?}");
}

#[test]
fn unicode_classes_take_little() {
    for text in [
        r"^\w+:\d+$",
        r"(\w+:\d+)+",
        r"\bü\b",
        r".*\w.*\d.*",
        r"\pL+\d+\s*\PL",
        r"a.{8}b",
        r"[^:]*:\p{Greek}+",
        r"(?i)größe",
        r"^\S{1,40}$",
    ] {
        assert!(compile(text).memory() <= 32 * 1024, "{text}");
    }
}

#[test]
fn what_all_matches_have_in_common_is_known() {
    for (text, beginning, ending) in [
        ("^price:", "price:", ""),
        ("^price:(eth|btc)$", "price:", ""),
        ("^(eth|ether)", "eth", ""),
        ("^(?i)a", "", ""),
        ("(?m)^a", "", ""),
        ("^a|b", "", ""),
        ("^a|^ab", "a", ""),
        ("x:[0-9]+$", "", ""),
        ("(:a|:ba)$", "", "a"),
        ("^ab$", "ab", "ab"),
        ("^ü", "ü", ""),
        ("a", "", ""),
        (r"\ba$", "", "a"),
        ("^a*b", "", ""),
        (r"\Aab.*\z", "ab", ""),
    ] {
        let automaton = compile(text);
        let shown = |literal: &[u8]| String::from_utf8_lossy(literal).into_owned();
        assert_eq!(
            (shown(automaton.beginning()), shown(automaton.ending())),
            (beginning.to_owned(), ending.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn boundaries_of_words_are_of_one_kind() {
    for (text, found, not_found) in [
        (r"\bü\b", "a ü b", "aü"),
        (r"(?-u:\b)a(?-u:\b)", "üa", "ba"),
        (r"\Bn\b", "ün", " n"),
        (r"\b{start}ß", "-ß", "aß"),
        (r"(?m)^b\b", "a\nb", "ab"),
        (r"(?mR)^b$", "a\r\nb\r\n", "a\rbc"),
    ] {
        let automaton = compile(text);
        assert!(automaton.is_match(found), "{text} {found:?}");
        assert!(!automaton.is_match(not_found), "{text} {not_found:?}");
    }
    let mixed = Automaton::compile(r"\ba(?-u:\b)");
    assert!(matches!(mixed, Err(CompileError::Syntax(_))));
}

#[test]
fn many_classes_are_too_many_or_served() {
    let letters: String = (0..100)
        .map(|n| char::from_u32(0x4e00 + n).unwrap())
        .collect();
    for text in [&letters[..255], &format!("^{}", &letters[..252])] {
        let automaton = compile(text);
        assert!(automaton.is_match(&letters));
        assert!(!automaton.is_match(&letters[3..]));
    }
    let classes = [r"\w", r"\W", r"\d", r"\D"].concat();
    assert!(Automaton::compile(&classes).is_ok());
    let more = [r"\pL", r"\PL", r"\p{Lu}", r"\p{Ll}", r"\P{Lu}", r"\P{Ll}"].concat();
    let many = Automaton::compile(&(classes + &more));
    assert!(matches!(many, Err(CompileError::TooBig)));
}

/// Pieces of expressions, so that most of what is made of them is one.
fn expression() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "ü",
        "ab",
        ":",
        "1",
        " ",
        ".",
        r"\w",
        r"\d",
        r"\W",
        r"\s",
        r"\b",
        r"\B",
        "^",
        "$",
        "[^a]",
        "[a-c1]",
        r"\pL",
        "(?i:A)",
        "(a|b)",
        "(ü|1)",
        "(?:ab)",
        r"\x{e9}",
        "(?m:^)",
        "(?m:$)",
        r"\b{start}",
        r"\b{end}",
        "[^\\w]",
        "(?s:.)",
        r"\A",
        r"\z",
    ]);
    let quantifier = prop::sample::select(vec!["", "", "", "*", "+", "?", "{2}", "{0,2}", "*?"]);
    let join = prop::sample::select(vec!["", "", "", "|"]);
    prop::collection::vec((piece, quantifier, join), 1..7).prop_map(|parts| {
        parts
            .iter()
            .map(|(piece, quantifier, join)| format!("{piece}{quantifier}{join}"))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_table_matches_as_another_engine_does(text in expression(), topics in prop::collection::vec("[abcAÜüé1: \n]{0,8}", 1..8)) {
        let (Ok(automaton), Ok(regex)) = (Automaton::compile(&text), Regex::new(&text)) else {
            return Ok(());
        };
        for topic in topics {
            prop_assert_eq!(automaton.is_match(&topic), regex.is_match(&topic), "{} {:?}", text, topic);
            if automaton.is_match(&topic) {
                prop_assert!(topic.as_bytes().starts_with(automaton.beginning()), "{} {:?}", text, topic);
                prop_assert!(topic.as_bytes().ends_with(automaton.ending()), "{} {:?}", text, topic);
            }
        }
    }
}
