//! Tests of `template`, and the random messages that `template_index` is tested with too.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::message::fields::Fields as Message;
use crate::message::tags::{entries_of, tags_of};

fn template(value: Json) -> Template {
    Template::from_json(value).unwrap()
}

fn check(wanted: Json, message: Json, expected: bool) {
    assert_eq!(
        template(wanted.clone()).matches(&message),
        expected,
        "{wanted} {message}"
    );
}

#[test]
fn every_key_of_the_template_must_be_there() {
    let message = json!({"action": "Transfer", "quantity": 5, "data": "x"});
    check(json!({"action": "Transfer"}), message.clone(), true);
    check(
        json!({"Action": "Transfer", "QUANTITY": 5}),
        message.clone(),
        true,
    );
    check(json!({"action": "transfer"}), message.clone(), false);
    check(
        json!({"action": "Transfer", "x": 1}),
        message.clone(),
        false,
    );
    check(json!({"action": null}), message, false);
    check(json!({"GRÖSSE": 1}), json!({"Größe": 1}), false);
    check(json!({"GRÖßE": 1}), json!({"größe": 1}), true);
    check(json!({"\u{212a}": 1}), json!({"K": 1}), true);
}

#[test]
fn scalars_are_equal_by_their_text() {
    for (wanted, value, expected) in [
        (json!(1), json!("1"), true),
        (json!("1"), json!(1), true),
        (json!(1.5), json!("1.5"), true),
        (json!(1), json!(1.0), false),
        (json!(true), json!("true"), true),
        (json!("false"), json!(false), true),
        (json!("9007199254740993"), json!(9007199254740993_u64), true),
        (json!(null), json!(null), true),
        (json!(null), json!("null"), false),
        (json!("null"), json!(null), false),
        (json!(""), json!(""), true),
        (json!("1"), json!([1]), false),
        (json!([]), json!(""), false),
    ] {
        check(json!({"k": wanted}), json!({"k": value}), expected);
    }
}

#[test]
fn objects_match_in_part_and_lists_item_by_item() {
    let message = json!({"a": {"b": {"C": "1"}, "d": 2}, "l": [1, {"x": 1, "y": 2}, "z"]});
    check(json!({"A": {"B": {"c": 1}}}), message.clone(), true);
    check(json!({"a": {}}), message.clone(), true);
    check(json!({"a": {"b": {"c": 2}}}), message.clone(), false);
    check(json!({"a": {"c": 1}}), message.clone(), false);
    check(json!({"a": []}), message.clone(), false);
    check(json!({"l": ["1", {"Y": "2"}, "z"]}), message.clone(), true);
    check(json!({"l": [1, {"y": 2}]}), message.clone(), false);
    check(json!({"l": {}}), message, false);
}

#[test]
fn tags_count_where_the_top_level_does_not_have_the_key() {
    let list = json!({"Tags": [{"Name": "Action", "value": "Mint"}, ["X", true], ["odd"], "odd", {"name": 1, "value": 2}]});
    check(json!({"action": "Mint", "x": "true"}), list.clone(), true);
    check(json!({"action": "mint"}), list, false);
    let object = json!({"action": "Burn", "tags": {"Action": "Mint", "N": {"a": 1, "b": 2}}});
    check(json!({"n": {"a": 1}}), object.clone(), true);
    check(json!({"action": "Burn"}), object.clone(), true);
    check(json!({"action": "Mint"}), object.clone(), false);
    check(json!({"tags": {"action": "Mint"}}), object, true);
    check(
        json!({"inner": {"a": 1}}),
        json!({"inner": {"tags": {"a": 1}}}),
        false,
    );
}

#[test]
fn keys_that_differ_in_letter_case_only_are_alternatives() {
    let message = json!({"A": 1, "a": 2});
    check(json!({"a": 1}), message.clone(), true);
    check(json!({"a": 2}), message.clone(), true);
    check(json!({"a": 1, "A": 2}), message, true);
    check(json!({"a": 1, "A": 2}), json!({"a": 1}), false);
}

#[test]
fn a_path_is_searched_for_an_expression() {
    let path = Template::parse("/abc.*/compute$").unwrap();
    assert!(path.matches(&json!({"path": "/abc~process@1.0/compute"})));
    assert!(path.matches(&json!({"Path": "x/abc/compute"})));
    assert!(!path.matches(&json!({"path": "/abc/computes"})));
    assert!(!path.matches(&json!({"path": ["/abc/compute"]})));
    assert!(!path.matches(&json!({"tags": {"path": "/abc/compute"}})));
    assert!(!path.matches(&json!("/abc/compute")));
    let long = format!("/abc{}/compute", "x".repeat(MAX_PATH_BYTES));
    assert!(!path.matches(&json!({"path": long})));
    assert_eq!(path.filed_scalar(), None);
}

#[test]
fn what_is_no_object_matches_nothing() {
    for message in [json!(null), json!("a"), json!([{"a": 1}]), json!(1)] {
        check(json!({"a": 1}), message.clone(), false);
        assert!(Message::of(&message).is_none());
    }
}

#[test]
fn templates_are_read_from_text_and_json() {
    let object = json!({"Action": "Transfer", "n": [1, null]});
    let read = Template::parse(" {\"Action\":\"Transfer\",\"n\":[1,null]} ").unwrap();
    assert_eq!(read, template(object.clone()));
    assert_eq!(read.shown(), object);
    assert_eq!(template(json!(object.to_string())), read);
    assert_eq!(template(json!("/x")).shown(), json!("/x"));
    assert_eq!(template(json!("/x")), Template::parse("/x").unwrap());
}

#[test]
fn templates_are_equal_by_what_they_ask_for() {
    let set = std::collections::HashSet::from([
        template(json!({"A": 1, "b": {"C": 2}})),
        template(json!({"B": {"c": 2}, "a": "1"})),
        template(json!({"a": 1, "A": "1", "b": {"c": 2}})),
    ]);
    assert_eq!(set.len(), 1);
    assert_ne!(template(json!({"a": 1})), template(json!({"a": "x"})));
    assert_ne!(
        template(json!({"a": [1, 2]})),
        template(json!({"a": [2, 1]}))
    );
    assert_ne!(template(json!({"a": null})), template(json!({"a": "null"})));
    assert_ne!(template(json!("/a")), template(json!("/b")));
}

#[test]
fn bad_templates_are_refused() {
    for value in [
        json!(1),
        json!([{"a": 1}]),
        json!("a"),
        json!(""),
        json!("[]"),
    ] {
        assert_eq!(
            Template::from_json(value),
            Err(TemplateError::NotAnObjectOrPath)
        );
    }
    assert_eq!(Template::from_json(json!({})), Err(TemplateError::Empty));
    assert_eq!(Template::parse("{ }"), Err(TemplateError::Empty));
    assert!(matches!(
        Template::parse("{\"a\":1"),
        Err(TemplateError::NotJson(_))
    ));
    assert!(matches!(
        Template::parse("{}{}"),
        Err(TemplateError::NotJson(_))
    ));
    assert!(matches!(
        Template::parse("/("),
        Err(TemplateError::Path(PatternError::Invalid(_)))
    ));
    assert_eq!(
        Template::parse(&format!("/{}", "a".repeat(256))),
        Err(TemplateError::Path(PatternError::TooLong))
    );
}

#[test]
fn length_and_depth_are_bounded() {
    let of_length = |length: usize| json!({"k": "v".repeat(length - 8)});
    assert_eq!(of_length(4096).to_string().len(), 4096);
    assert!(Template::from_json(of_length(4096)).is_ok());
    assert!(Template::parse(&of_length(4096).to_string()).is_ok());
    for read in [
        Template::from_json(of_length(4097)),
        Template::parse(&of_length(4097).to_string()),
        // 1e15 is written as 1000000000000000.0.
        Template::parse(&format!("{{\"k\":[1e15{}]}}", ",1e15".repeat(500))),
    ] {
        assert_eq!(read, Err(TemplateError::TooLong));
    }
    let nested = |levels: usize| (1..levels).fold(json!({"k": 1}), |inner, _| json!({"k": inner}));
    let listed = (1..16).fold(json!([]), |inner, _| json!([inner]));
    assert!(Template::from_json(nested(16)).is_ok());
    for deep in [nested(17), nested(100), json!({"k": listed})] {
        assert_eq!(Template::from_json(deep), Err(TemplateError::TooDeep));
    }
}

#[test]
fn the_index_is_the_first_scalar_in_key_order() {
    let wanted = json!({"z": 1, "B": true, "a": {"x": 1}, "A1": null, "a2": []});
    assert_eq!(template(wanted).filed_scalar(), Some(("b", "true")));
    assert_eq!(
        template(json!({"a": {"x": 1}, "b": null})).filed_scalar(),
        None
    );
}

#[test]
fn scalars_of_top_level_and_tags_are_visited() {
    let message =
        json!({"Action": "x", "n": 1, "o": {"p": 2}, "z": null, "Tags": [["N", false], ["L", []]]});
    let mut seen = Vec::new();
    Message::of(&message)
        .unwrap()
        .each_scalar(&mut |key, text| seen.push(format!("{key}={text}")));
    seen.sort();
    assert_eq!(seen, ["action=x", "n=1", "n=false"]);
}

const KEYS: [&str; 10] = [
    "a", "A", "b", "B", "ü", "Ü", "\u{212a}", "k", "tags", "path",
];

fn scalar() -> impl Strategy<Value = Json> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!("true"),
        json!(1),
        json!("1"),
        json!(1.5),
        json!("/a"),
    ])
}

fn object_of(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    let entry = (prop::sample::select(KEYS.to_vec()), value);
    prop::collection::vec(entry, 0..4).prop_map(|entries| {
        Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    })
}

fn value() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
            object_of(inner),
        ]
    })
}

/// Random messages from so few keys and values that templates often match.
pub(crate) fn random_message() -> impl Strategy<Value = Json> {
    let tag = (prop::sample::select(KEYS.to_vec()), value(), any::<bool>());
    let tags = prop_oneof![
        Just(Json::Null),
        object_of(value()),
        prop::collection::vec(tag, 0..4).prop_map(|tags| {
            tags.into_iter()
                .map(|(name, value, pair)| {
                    if pair {
                        json!([name, value])
                    } else {
                        json!({"Name": name, "value": value})
                    }
                })
                .collect::<Json>()
        }),
    ];
    (object_of(value()), tags).prop_map(|(mut message, tags)| {
        if !tags.is_null() {
            message["Tags"] = tags;
        }
        message
    })
}

/// Random templates for [`random_message`].
pub(crate) fn random_template() -> impl Strategy<Value = Template> {
    prop_oneof![
        4 => object_of(value()).prop_filter_map("no template", |object| Template::from_json(object).ok()),
        1 => Just(template(json!("/a"))),
    ]
}

/// The same in other words: letter case of keys and kinds of scalars.
fn reworded(value: &Json) -> Json {
    match value {
        Json::Object(object) => object
            .iter()
            .map(|(key, value)| (key.to_uppercase(), reworded(value)))
            .collect(),
        Json::Array(items) => items.iter().map(reworded).collect(),
        Json::Null => Json::Null,
        scalar => scalar_text(scalar).map_or(Json::Null, |text| Json::String(text.into_owned())),
    }
}

/// A message with a template made from its top level and its tags, which it matches mostly.
pub(crate) fn random_pair() -> impl Strategy<Value = (Template, Json)> {
    let places = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    (random_message(), places).prop_filter_map("nothing to ask for", |(message, places)| {
        let object = message.as_object()?;
        let top = object.iter().map(|(key, value)| (key.as_str(), value));
        let all: Vec<(&str, &Json)> = top.chain(tags_of(entries_of(object))).collect();
        if all.is_empty() {
            return None;
        }
        let wanted: Json = places
            .iter()
            .map(|place| place.get(&all))
            .map(|(key, value)| ((*key).to_owned(), reworded(value)))
            .collect();
        Some((Template::from_json(wanted).ok()?, message))
    })
}

proptest! {
    #[test]
    fn whatever_matches_is_found_by_its_index((wanted, message) in random_pair()) {
        if let (true, Some((key, text))) = (wanted.matches(&message), wanted.filed_scalar()) {
            let mut found = false;
            Message::of(&message).unwrap().each_scalar(&mut |there, value| found |= (there, value) == (key, text));
            prop_assert!(found);
        }
    }

    #[test]
    fn a_part_of_a_message_matches_it_however_written(message in random_message(), kept in any::<[bool; 8]>()) {
        let Json::Object(object) = &message else { unreachable!() };
        for words in [Json::clone, reworded] {
            let part: Map<String, Json> = object
                .iter()
                .zip(kept)
                .filter(|(_, kept)| *kept)
                .map(|((key, value), _)| (key.clone(), words(value)))
                .collect();
            if !part.is_empty() {
                let wanted = template(Json::Object(part));
                prop_assert!(wanted.matches(&message));
                prop_assert_eq!(&Template::from_json(wanted.shown()), &Ok(wanted));
            }
        }
    }

    #[test]
    fn equal_templates_match_the_same(left in random_template(), right in random_template(), message in random_message()) {
        if left == right {
            prop_assert_eq!(left.matches(&message), right.matches(&message));
        }
    }

    #[test]
    fn any_text_gives_a_template_or_a_reason(text in "[{/]?[{}\\[\\]\",:0-9a(*]{0,12}") {
        if let Err(reason) = Template::parse(&text) {
            prop_assert!(!reason.to_string().is_empty());
        }
    }
}

#[test]
fn a_number_beyond_64_bits_matches_its_own_text() {
    for number in [
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
    ] {
        let wanted = Template::parse(&format!("{{\"quantity\":{number}}}")).unwrap();
        assert!(wanted.matches(&json!({"Quantity": number})), "{number}");
        assert!(!wanted.matches(&json!({"Quantity": "18446744073709552000"})));
        assert_eq!(Template::from_json(wanted.shown()), Ok(wanted));
    }
    // Those that fit are equal to their text as ever.
    let wanted = Template::parse(r#"{"n":18446744073709551615}"#).unwrap();
    assert!(wanted.matches(&json!({"n": "18446744073709551615"})));
}
