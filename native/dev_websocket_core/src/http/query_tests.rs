use super::*;
use proptest::prelude::*;

const ID: &str = "1ZaCVOkeT1kJS6nLOL6J6SLiy5-_pauhZ4bnWJnfESo";

fn names(query: &str) -> Vec<String> {
    Query::parse(query, &Settings::default())
        .unwrap()
        .subscriptions
        .iter()
        .map(|subscription| subscription.shown().as_str().unwrap().to_owned())
        .collect()
}

fn refusal(query: &str) -> String {
    let settings = Settings {
        max_topics_per_connection: 3,
        max_regexes_per_connection: 1,
        max_templates_per_connection: 1,
        max_last: 10,
        ..Settings::default()
    };
    format!("{:?}", Query::parse(query, &settings).unwrap_err())
}

#[test]
fn topics_are_decoded_split_trimmed_and_collected() {
    assert_eq!(names("topic=a,b"), ["a", "b"]);
    assert_eq!(
        names("topic=a&topic=%20b%20,,c%2Cd&topic=a"),
        ["a", "b", "c", "d"]
    );
    assert_eq!(names("topic=action%3ATransfer"), ["action:Transfer"]);
    assert_eq!(names("topic=a+b&topic=a%2Bb"), ["a b", "a+b"]);
    assert_eq!(names("topic=gr%C3%BC%C3%9Fe"), ["grüße"]);
    assert_eq!(names("topic=*"), ["*"]);
    assert_eq!(names("process=+a&topic=process:a"), ["process:a"]);
    assert_eq!(names("process=a*&topic=process:a*"), ["process:a*"]);
    assert_eq!(names("topic=&topic=,&&"), Vec::<String>::new());
    assert_eq!(names(""), Vec::<String>::new());
}

#[test]
fn unknown_parameters_are_told_back() {
    let query = Query::parse("token=x&topic=a&format=raw&utm", &Settings::default()).unwrap();
    assert_eq!(
        (query.ignored, query.format),
        (vec!["token".to_owned(), "utm".to_owned()], Format::Raw)
    );
}

#[test]
fn bad_queries_name_the_parameter() {
    for (query, code, name) in [
        ("topic=%zz", "bad_encoding", "topic"),
        ("topic=%2", "bad_encoding", "topic"),
        ("topic=%ff", "bad_encoding", "topic"),
        ("%f=1", "bad_encoding", "name"),
        ("topic=a%00b", "BadTopic", "topic"),
        ("format=xml", "bad_format", "format"),
        ("topic=a,b,c,d", "TooManyTopics", "topic"),
        ("process=", "BadTopic", "process"),
        ("match=(", "BadRegex", "match"),
        ("match=%5Cw%7B1000%7D", "RegexTooBig", "match"),
        ("match=a&match=b", "TooManyMatches", "match"),
        ("template=x", "BadTemplate", "template"),
        ("template=%7B%7D", "BadTemplate", "template"),
        (
            "template=%7B%22a%22:1%7D&template=%7B%22a%22:2%7D",
            "TooManyTemplates",
            "template",
        ),
        ("since=x", "BadSince", "since"),
        ("since=1&format=raw", "BadSince", "since"),
        ("last=11", "BadLast", "last"),
        ("last=-1", "BadLast", "last"),
        ("since=1&last=1", "BadLast", "last"),
        ("slow=never", "BadSlow", "slow"),
        ("from-slot=1", "BadFromSlot", "process"),
        ("process=x&from-slot=1", "BadProcess", "process"),
        (
            &format!("process={ID}&from-slot=x"),
            "BadFromSlot",
            "from-slot",
        ),
        (
            &format!("process={ID}&from-slot=-1"),
            "BadFromSlot",
            "from-slot",
        ),
        (
            &format!("process={ID}&from-slot="),
            "BadFromSlot",
            "from-slot",
        ),
        (
            &format!("process={ID}&from-slot=18446744073709551615"),
            "BadFromSlot",
            "from-slot",
        ),
        (
            &format!("process={ID}&process={}&from-slot=1", ID.to_lowercase()),
            "BadProcess",
            "single",
        ),
        (
            &format!("process={ID}&from-slot=1&since=1"),
            "BadFromSlot",
            "since",
        ),
        (
            &format!("process={ID}&from-slot=1&last=1"),
            "BadFromSlot",
            "last",
        ),
        (
            &format!("process={ID}&from-slot=1&format=raw"),
            "BadFromSlot",
            "raw",
        ),
        ("slow=gap&format=raw", "BadSlow", "slow"),
        ("format=edges", "bad_format", "process"),
        ("format=edges&process=x", "BadProcess", "process"),
        ("format=edges&process=*", "BadProcess", "process"),
        ("topic=a&format=edges", "bad_format", "topic"),
        (
            &format!("format=edges&process={ID}&topic=*"),
            "bad_format",
            "topic",
        ),
        (
            &format!("format=edges&process={ID}&match=a"),
            "bad_format",
            "match",
        ),
        (
            &format!("process={ID}&format=edges&template=%7B%22a%22:1%7D"),
            "bad_format",
            "template",
        ),
        (
            &format!("process={ID}&format=edges&since=1"),
            "bad_format",
            "since",
        ),
        (
            &format!("process={ID}&format=edges&last=1"),
            "bad_format",
            "last",
        ),
        (
            &format!("process={ID}&format=edges&from-slot=x"),
            "BadFromSlot",
            "from-slot",
        ),
        (&format!("topic=edges:{ID}"), "BadTopic", "format=edges"),
    ] {
        let refusal = refusal(query);
        assert!(
            refusal.contains(code) && refusal.contains(name),
            "{query}: {refusal}"
        );
    }
    assert!(refusal(&format!("topic={}", "t".repeat(256))).contains("BadTopic"));
    assert_eq!(names("topic=a,b,c").len(), 3);
}

#[test]
fn a_slot_replay_is_of_one_process() {
    let query = |text: &str| Query::parse(text, &Settings::default()).unwrap();
    let start = SlotStart::new(ID, 7).unwrap();
    for text in [
        format!("process={ID}&from-slot=7"),
        format!("from-slot=7&process={ID}&process=+{ID}&template=%7B%22a%22:1%7D&topic=b"),
    ] {
        assert_eq!(query(&text).slots, Some(start), "{text}");
    }
    assert_eq!(
        names(&format!("process={ID}&from-slot=7")),
        [format!("process:{ID}")]
    );
    assert_eq!(query(&format!("process={ID}")).slots, None);
}

#[test]
fn edges_are_subscribed_to_by_process() {
    let other = ID.to_lowercase();
    let text = format!("process={ID}&format=edges&process={other}&process={ID}");
    assert_eq!(
        names(&text),
        [format!("edges:{ID}"), format!("edges:{other}")]
    );
    let query = |text: &str| Query::parse(text, &Settings::default()).unwrap();
    let edges = query(&format!("format=edges&process={ID}&from-slot=7"));
    assert_eq!(
        (edges.format, edges.slow, edges.slots),
        (
            Format::Edges,
            SlowPolicy::Close,
            Some(SlotStart::new(ID, 7).unwrap())
        )
    );
    let gap = query(&format!("format=edges&process={ID}&slow=gap"));
    assert_eq!(gap.slow, SlowPolicy::Gap);
}

proptest! {
    #[test]
    fn any_query_is_read_or_refused(query in any::<String>()) {
        let _ = Query::parse(&query, &Settings::default());
    }
}
