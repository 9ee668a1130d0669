//! Tests of `topics`.

use super::*;
use crate::settings::Settings;

fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn set_of(message: &Value<'_>) -> TopicSet {
    Settings::default().topic_rules().topics_of(message)
}

fn names(message: &Value<'_>) -> Vec<String> {
    set_of(message)
        .topics
        .iter()
        .map(|topic| topic.name().to_owned())
        .collect()
}

#[test]
fn explicit_topics_come_first_and_tags_follow() {
    let message = map(vec![
        ("action", text("Transfer")),
        ("data", text("x")),
        ("topic", text("prices")),
    ]);
    assert_eq!(names(&message), ["prices", "action:Transfer"]);
}

#[test]
fn topic_texts_are_split_trimmed_and_deduplicated() {
    let list = Value::List(vec![text("c,d"), Value::Integer(5), text("a"), Value::Null]);
    let message = map(vec![("Topic", text(" a , b,,a")), ("TOPICS", list)]);
    assert_eq!(names(&message), ["a", "b", "c", "d", "5"]);
}

#[test]
fn an_erlang_string_is_a_text() {
    let string = Value::List("a,bü".chars().map(|c| Value::Integer(c as i64)).collect());
    assert_eq!(names(&map(vec![("topic", string)])), ["a", "bü"]);
    let numbers = Value::List([1, 2].map(Value::Integer).into());
    assert_eq!(names(&map(vec![("topic", numbers)])), ["1", "2"]);
}

#[test]
fn tags_stand_in_a_map_or_in_a_list_of_pairs() {
    let in_map = map(vec![(
        "Tags",
        map(vec![("Action", text("Mint")), ("Topic", text("t"))]),
    )]);
    assert_eq!(names(&in_map), ["t", "action:Mint"]);
    let pair = |name: &'static str, value: &'static str| {
        map(vec![("Name", text(name)), ("value", text(value))])
    };
    let in_list = map(vec![(
        "tags",
        Value::List(vec![
            pair("Action", "Mint"),
            pair("topic", "t"),
            Value::List(vec![text("X"), Value::Bool(true)]),
            text("odd"),
        ]),
    )]);
    assert_eq!(names(&in_list), ["t", "action:Mint", "x:true"]);
}

#[test]
fn every_scalar_kind_makes_a_topic() {
    let raw = [0xff_u8; 32];
    let message = map(vec![
        ("n", Value::Integer(7)),
        ("f", Value::Float(1.5)),
        ("big", Value::BigInteger("99999999999999999999".into())),
        ("target", Value::Binary(&raw)),
        ("nothing", Value::Null),
        ("empty", text("")),
        ("list", Value::List(vec![text("x")])),
        ("sentence", text("a, b")),
    ]);
    assert_eq!(
        names(&message),
        [
            "n:7",
            "f:1.5",
            "big:99999999999999999999",
            "target:__________________________________________8"
        ]
    );
}

#[test]
fn big_secret_and_one_off_keys_make_no_topics() {
    let keys = [
        "data",
        "Body",
        "commitments",
        "signature",
        "priv",
        "privKey",
        "hashpath",
        "anchor",
        "nonce",
        "reference",
        "timestamp",
        "block-timestamp",
    ];
    assert_eq!(
        names(&map(keys.map(|key| (key, text("x"))).to_vec())),
        Vec::<String>::new()
    );
}

#[test]
fn reserved_keys_and_topics_are_not_for_strangers() {
    let message = map(vec![
        ("process", text("id")),
        ("From", text("me")),
        ("slot", Value::Integer(1)),
        ("topic", text("process:id,/id~process@1.0,ok,OWNER:x")),
    ]);
    let set = set_of(&message);
    assert_eq!(set.topics.as_slice(), [Topic::new("ok").unwrap()]);
    assert_eq!((set.reserved, set.invalid), (3, 0));
}

#[test]
fn no_key_with_a_colon_poses_as_a_reserved_one() {
    let message = map(vec![
        ("process:id", text("x")),
        ("From:", text("me")),
        ("/id", text("x~process@1.0")),
        ("a:process", text("ok")),
    ]);
    assert_eq!(names(&message), ["a:process:ok"]);
}

#[test]
fn invalid_explicit_topics_are_counted() {
    let long = "t".repeat(256);
    let set = set_of(&map(vec![(
        "topic",
        Value::List(vec![text(&long), text("a\nb"), text("ok")]),
    )]));
    assert_eq!((set.topics.len(), set.invalid), (1, 2));
}

#[test]
fn a_message_has_at_most_64_topics() {
    for (count, kept, excess) in [(63, 63, 0), (64, 64, 0), (65, 64, 1)] {
        let list = (0..count)
            .map(|n| Value::Text(format!("t{n}").into()))
            .collect();
        let set = set_of(&map(vec![("topics", Value::List(list))]));
        assert_eq!((set.topics.len(), set.excess), (kept, excess));
    }
}

fn names_with(max_topics: usize, message: &Value<'_>, origin: &Provenance<'_>) -> Vec<String> {
    let mut rules = Settings::default().topic_rules();
    rules.max_topics = max_topics;
    let set = rules.topics_with(message, origin);
    set.topics
        .iter()
        .map(|topic| topic.name().to_owned())
        .collect()
}

#[test]
fn what_the_node_knows_stands_between_explicit_topics_and_tags() {
    let message = map(vec![("action", text("Mint")), ("topic", text("t"))]);
    let origin = Provenance {
        process: Some("p".into()),
        from: vec!["a".into(), "b".into(), "a".into()],
        topics: Some(Value::List(vec![text("named,t"), text("also")])),
        ..Provenance::default()
    };
    let expected = [
        "t",
        "named",
        "also",
        "process:p",
        "from:a",
        "from:b",
        "action:Mint",
    ];
    assert_eq!(names_with(64, &message, &origin), expected);
    assert_eq!(
        names_with(64, &text("no map"), &origin),
        ["named", "t", "also", "process:p", "from:a", "from:b"]
    );
}

#[test]
fn no_limit_pushes_out_what_the_node_knows() {
    let message = map(vec![("topic", text("t,u,v")), ("action", text("Mint"))]);
    let origin = Provenance {
        process: Some("p".into()),
        from: vec!["a".into()],
        ..Provenance::default()
    };
    let own = ["process:p", "from:a"];
    assert_eq!(names_with(1, &message, &origin), own);
    assert_eq!(names_with(2, &message, &origin), own);
    assert_eq!(names_with(3, &message, &origin), ["t", own[0], own[1]]);
    let few = map(vec![("action", text("Mint"))]);
    assert_eq!(
        names_with(3, &few, &origin),
        [own[0], own[1], "action:Mint"]
    );
    let mut rules = Settings::default().topic_rules();
    rules.max_topics = 3;
    assert_eq!(rules.topics_with(&message, &origin).excess, 3);
}

#[test]
fn what_the_caller_names_is_no_more_trusted_than_a_tag() {
    let origin = Provenance {
        process: Some("a,b".into()),
        from: vec!["".into()],
        topics: Some(text("process:x,/x~process@1.0,ok,FROM:y")),
        ..Provenance::default()
    };
    let set = Settings::default()
        .topic_rules()
        .topics_with(&map(vec![]), &origin);
    assert_eq!(set.topics.as_slice(), [Topic::new("ok").unwrap()]);
    assert_eq!((set.reserved, set.invalid), (3, 2));
}

#[test]
fn what_is_no_map_has_no_topics() {
    for value in [
        text("topic"),
        Value::Null,
        Value::List(vec![text("topic")]),
        Value::Omitted("pid"),
    ] {
        assert_eq!(set_of(&value), TopicSet::default());
    }
}

#[test]
fn blanks_around_keys_and_values_do_not_count() {
    let message = map(vec![
        (" Action\t", text(" Transfer ")),
        ("topic ", text(" a b ,\u{3000}c\u{a0}")),
        ("key", text(" \u{2003}")),
        ("\u{a0}", text("no key")),
        ("inner blank", text("is kept")),
        (" data", text("x")),
        (
            "Tags",
            Value::List(vec![Value::List(vec![text(" n "), text(" 1 ")])]),
        ),
    ]);
    assert_eq!(
        names(&message),
        ["a b", "c", "action:Transfer", "inner blank:is kept", "n:1"]
    );
}

#[test]
fn blanks_make_no_reserved_key_another_one() {
    let blanks = [
        "process ",
        " process",
        "\u{3000}From",
        "slot\t",
        " hashpath ",
        "owner\u{a0}",
    ];
    let message = map(blanks.map(|key| (key, text("x"))).to_vec());
    assert_eq!(names(&message), Vec::<String>::new());
    let named = map(vec![("topic", text(" process:x , ok"))]);
    let set = set_of(&named);
    assert_eq!((set.topics.len(), set.reserved), (1, 1));
    let origin = Provenance {
        process: Some(" p ".into()),
        from: vec![" ".into()],
        ..Provenance::default()
    };
    assert_eq!(names_with(64, &map(vec![]), &origin), ["process:p"]);
}

#[test]
fn a_list_of_erlang_strings_is_a_list_of_texts() {
    let string = |text: &str| Value::List(text.chars().map(|c| Value::Integer(c as i64)).collect());
    let topics = Value::List(vec![
        string("prices"),
        string("news,ü"),
        text("a"),
        Value::List(vec![]),
        Value::List(vec![Value::Integer(1), Value::Integer(2)]),
        Value::List(vec![string("too deep")]),
    ]);
    assert_eq!(
        names(&map(vec![("Topics", topics)])),
        ["prices", "news", "ü", "a"]
    );
    let of_one = Value::List(vec![string("prices")]);
    assert_eq!(names(&map(vec![("topic", of_one)])), ["prices"]);
    // Elsewhere a list is no scalar.
    assert_eq!(
        names(&map(vec![("action", string("Mint"))])),
        Vec::<String>::new()
    );
}
