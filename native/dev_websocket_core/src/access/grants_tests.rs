//! A property test of grants against a reference model.

use proptest::prelude::*;

use super::grants::Grants;
use crate::subscription::Subscription;
use crate::subscription::pattern::Pattern;
use crate::subscription::template::Template;

/// Topics over a small alphabet, so that grants and requests often meet.
fn topic() -> impl Strategy<Value = String> {
    "[ab:]{1,4}"
}

fn glob() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab:]{0,3}\\*",
        "[ab:]{0,2}\\*[ab:]{0,2}\\*?",
        Just("*".to_owned())
    ]
}

fn grant() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop_oneof![4 => topic(), 3 => glob()], 0..4)
}

#[derive(Debug, Clone)]
enum Asked {
    Topic(String),
    Regex(String),
    Template(String),
}

fn asked() -> impl Strategy<Value = Vec<Asked>> {
    let one = prop_oneof![
        6 => topic().prop_map(Asked::Topic),
        4 => glob().prop_map(Asked::Topic),
        1 => Just(Asked::Regex("^a".to_owned())),
        2 => Just(Asked::Template(r#"{"a":1}"#.to_owned())),
    ];
    prop::collection::vec(one, 0..5)
}

#[test]
fn the_edges_of_a_process_need_the_grant_of_the_process() {
    let id = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";
    let edges = Subscription::edges_of(id).unwrap();
    let allows = |granted: &str| {
        let mut grants = Grants::default();
        grants.add_topic(granted).unwrap();
        grants
            .check(&Grants::default(), std::iter::once(&edges))
            .is_ok()
    };
    assert!(allows(&format!("process:{id}")) && allows("process:*") && allows("*"));
    assert!(!allows("process:a") && !allows("edges:*") && !allows(&format!("from:{id}")));
    let edges = format!("edges:{id}");
    assert!(Grants::default().add_topic(&edges).is_err());
}

/// A glob as its definition says: a star is nothing, or one byte and a star.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], []) => true,
        ([b'*', rest @ ..], text) => {
            matches(rest, text) || !text.is_empty() && matches(glob, &text[1..])
        }
        ([byte, glob @ ..], [other, text @ ..]) => byte == other && matches(glob, text),
        _ => false,
    }
}

/// The rules of docs/PROTOCOL.md, as plainly as they are written there.
fn model(granted: &[String], asked: &[Asked]) -> bool {
    if granted.iter().any(|grant| grant == "*") {
        return true;
    }
    let allows = |asked: &Asked| match asked {
        Asked::Topic(name) if name == "*" => false,
        Asked::Topic(name) if name.contains('*') => granted.iter().any(|grant| {
            let literal = name.split('*').next().unwrap();
            grant == name
                || grant.ends_with('*')
                    && grant.matches('*').count() == 1
                    && literal.starts_with(grant.trim_end_matches('*'))
        }),
        Asked::Topic(name) => granted
            .iter()
            .any(|grant| matches(grant.as_bytes(), name.as_bytes())),
        Asked::Regex(_) | Asked::Template(_) => false,
    };
    let is_template = |asked: &&Asked| matches!(asked, Asked::Template(_));
    let topics: Vec<_> = asked.iter().filter(|asked| !is_template(asked)).collect();
    let templates = asked.len() - topics.len();
    topics.iter().all(|asked| allows(asked)) && (templates == 0 || !topics.is_empty())
}

proptest! {
    // More with the environment variable `PROPTEST_CASES`.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(10_000), ..ProptestConfig::default() })]

    #[test]
    fn grants_allow_exactly_what_the_model_allows(
        granted in grant(), public in grant(), asked in asked()
    ) {
        let mut grants = Grants::default();
        for topic in &granted {
            grants.add_topic(topic).unwrap();
        }
        let mut open = Grants::default();
        for topic in &public {
            open.add_topic(topic).unwrap();
        }
        let subscriptions: Vec<_> = asked.iter().map(|asked| match asked {
            Asked::Topic(name) => Subscription::parse(name).unwrap(),
            Asked::Regex(text) => Subscription::Pattern(Pattern::regex(text).unwrap()),
            Asked::Template(text) => Subscription::Template(Template::parse(text).unwrap()),
        }).collect();
        let allowed = grants.check(&open, subscriptions.iter()).is_ok();
        let all: Vec<_> = granted.iter().chain(&public).cloned().collect();
        prop_assert_eq!(allowed, model(&all, &asked));
    }
}
