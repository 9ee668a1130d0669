//! Tests of `writer`: a message that is written value by value is the same as its tree.

use proptest::prelude::*;

use super::*;
use crate::message::provenance::UNKNOWN;
use crate::message::topic_keys::TopicKeys;
use crate::message::topics::TopicSet;

fn rules(max_topics: usize) -> TopicRules {
    TopicRules {
        keys: TopicKeys::new(["data", "*stamp", "commitments"]),
        max_topics,
    }
}

fn written(
    value: &Value<'_>,
    rules: &TopicRules,
    limit: usize,
    commitments: bool,
    as_tree: bool,
) -> Result<(String, TopicSet), TooLong> {
    let (trees, mut buffer) = (Trees::default(), Vec::new());
    let mut writer = MessageWriter::new(&mut buffer, limit, commitments, rules, &trees);
    match as_tree {
        true => writer.value(value.clone())?,
        false => writer.walk(value)?,
    }
    let set = rules.select(&writer.into_candidates(), &UNKNOWN);
    Ok((String::from_utf8(buffer).unwrap(), set))
}

fn expected(
    value: &Value<'_>,
    rules: &TopicRules,
    limit: usize,
    commitments: bool,
) -> Result<(String, TopicSet), TooLong> {
    let mut buffer = Vec::new();
    JsonWriter::new(&mut buffer, limit, commitments).write(value)?;
    Ok((String::from_utf8(buffer).unwrap(), rules.topics_of(value)))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("topic".to_owned()),
        Just("Topics".to_owned()),
        Just("tags".to_owned()),
        Just("Tags".to_owned()),
        Just(" tags ".to_owned()),
        Just("name".to_owned()),
        Just("Value".to_owned()),
        Just("commitments".to_owned()),
        Just("private".to_owned()),
        Just("from".to_owned()),
        "[a-z \"]{0,3}",
        "\\PC{0,8}",
    ]
}

fn value() -> impl Strategy<Value = Value<'static>> {
    let text = prop_oneof!["[a-c,:\" ]{0,6}", "\\PC{0,10}"];
    let leaf = prop_oneof![
        text.prop_map(|text| Value::Text(text.into())),
        any::<bool>().prop_map(Value::Bool),
        (0..200_i64).prop_map(Value::Integer),
        any::<i64>().prop_map(Value::Integer),
        Just(Value::Null),
        Just(Value::Float(1.5)),
        Just(Value::Binary(b"\xff\xfe")),
        Just(Value::Link("id".into())),
        Just(Value::Omitted("fun")),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec((key(), inner), 0..6).prop_map(|entries| {
                let mut unique: Vec<(_, Value<'static>)> = Vec::new();
                for (key, value) in entries {
                    if !unique.iter().any(|(there, _)| *there == key) {
                        unique.push((key.into(), value));
                    }
                }
                Value::Map(unique)
            }),
        ]
    })
}

/// Makes an item of a list of tags: entries named like those of a tag in any number and order, a pair, or any value.
fn item() -> impl Strategy<Value = Value<'static>> {
    let key = prop::sample::select(vec!["name", "value", "Name", "VALUE", "x", "private"]);
    let name = prop::sample::select(vec!["action", "topic", "topics", "name", "from"]);
    let content = || {
        prop_oneof![
            name.clone().prop_map(|name| Value::Text(name.into())),
            value()
        ]
    };
    prop_oneof![
        prop::collection::hash_map(key, content(), 0..5).prop_map(|entries| {
            Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.into(), value))
                    .collect(),
            )
        }),
        prop::collection::vec(content(), 0..4).prop_map(Value::List),
        value(),
    ]
}

#[test]
fn tags_of_several_lists_and_maps_are_found() {
    let pair = |name: &'static str| {
        let entries = [("name", name), ("value", "v")];
        Value::Map(
            entries
                .map(|(key, value)| (key.into(), Value::Text(value.into())))
                .into(),
        )
    };
    let map = Value::Map(vec![("c".into(), Value::Integer(1))]);
    let message = Value::Map(vec![
        ("tags".into(), Value::List(vec![pair("a")])),
        ("Tags".into(), Value::List(vec![pair("b")])),
        ("TAGS".into(), map),
        ("d".into(), Value::Text("e".into())),
    ]);
    let rules = rules(64);
    let (json, set) = written(&message, &rules, 1000, false, false).unwrap();
    let names: Vec<_> = set.topics.iter().map(|topic| topic.name()).collect();
    assert_eq!(names, ["d:e", "a:v", "b:v", "c:1"]);
    assert_eq!(json, expected(&message, &rules, 1000, false).unwrap().0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_walked_message_is_the_same_as_its_tree(
        value in value(),
        max_topics in 0_usize..6,
        limit in prop_oneof![0_usize..40, Just(1 << 20)],
        commitments: bool,
    ) {
        is_the_same_either_way(&value, &rules(max_topics), limit, commitments)?;
    }

    #[test]
    fn a_walked_list_of_tags_is_the_same_as_its_tree(
        items in prop::collection::vec(item(), 0..6),
        others in prop::collection::vec(item(), 0..3),
        max_topics in 0_usize..12,
    ) {
        let message = Value::Map(vec![
            ("Tags".into(), Value::List(items)),
            ("k".into(), Value::List(others.clone())),
            ("tags".into(), Value::List(others)),
        ]);
        is_the_same_either_way(&message, &rules(max_topics), 1 << 20, false)?;
    }
}

fn is_the_same_either_way(
    value: &Value<'_>,
    rules: &TopicRules,
    limit: usize,
    commitments: bool,
) -> Result<(), TestCaseError> {
    let expected = expected(value, rules, limit, commitments);
    for as_tree in [false, true] {
        let found = written(value, rules, limit, commitments, as_tree);
        prop_assert_eq!(found.as_ref().ok(), expected.as_ref().ok());
    }
    Ok(())
}
