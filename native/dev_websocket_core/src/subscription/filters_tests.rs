//! Tests of `filters`.

use super::*;
use crate::subscription::pattern::Pattern;
use crate::subscription::template::Template;

fn wanted(text: &str) -> Subscription {
    if let Some(expression) = text.strip_prefix('~') {
        return Subscription::Pattern(Pattern::regex(expression).unwrap());
    }
    if text.starts_with(['{', '/']) {
        return Subscription::Template(Template::parse(text).unwrap());
    }
    Subscription::parse(text).unwrap()
}

fn all(texts: &[&str]) -> Vec<Subscription> {
    texts.iter().map(|text| wanted(text)).collect()
}

fn settings(limit: u64) -> Settings {
    Settings {
        max_globs: limit,
        max_regexes: limit,
        max_templates: limit,
        max_unindexed_patterns: limit,
        ..Settings::default()
    }
}

fn refused(filters: &Filters, text: &str, settings: &Settings) -> ErrorCode {
    filters.hold(&mut all(&[text]), settings).unwrap_err().code
}

fn place(held: &Subscription) -> Place {
    match held {
        Subscription::Pattern(pattern) => pattern.place(),
        Subscription::Template(template) => match template.filed_scalar() {
            None => Place::Anywhere,
            Some(scalar) => {
                let number = template.scalars().position(|there| there == scalar);
                Place::Scalar(number.unwrap())
            }
        },
        other => panic!("{other:?} has no place"),
    }
}

#[test]
fn each_filter_is_held_once_and_as_long_as_somebody_has_it() {
    let filters = Filters::default();
    let texts = ["a*", "~^b", "{\"c\":1}", "/d", "plain", "*"];
    let (mut first, mut second) = (all(&texts), all(&texts));
    filters.hold(&mut first, &settings(2)).unwrap();
    let counts = filters.counts();
    filters.hold(&mut second, &settings(2)).unwrap();
    let expected = Counts {
        globs: 1,
        expressions: 2,
        templates: 2,
        unindexed: 1,
    };
    assert_eq!((counts, filters.counts()), (expected, expected));
    for (left, right) in first.iter().zip(&second) {
        match (left, right) {
            (Subscription::Pattern(left), Subscription::Pattern(right)) => {
                assert!(left.is(right));
            }
            (Subscription::Template(left), Subscription::Template(right)) => {
                assert!(left.is(right));
            }
            _ => assert_eq!(left, right),
        }
    }
    drop(first);
    assert_eq!(filters.counts(), expected);
    drop(second);
    assert_eq!(filters.counts(), Counts::default());
    let state = filters.state.lock();
    assert!(state.held.is_empty() && state.crowds.is_empty());
}

#[test]
fn each_limit_holds_at_n_and_frees_what_is_dropped() {
    type Text = fn(usize) -> String;
    let cases: [(Text, ErrorCode); 4] = [
        (|n| format!("{n}*"), ErrorCode::TooManyGlobs),
        (|n| format!("~^{n}"), ErrorCode::TooManyExpressions),
        (
            |n| format!("{{\"{n}\":1}}"),
            ErrorCode::TooManyDistinctTemplates,
        ),
        (|n| format!("*{n}*"), ErrorCode::TooManyUnindexedPatterns),
    ];
    for (text, code) in cases {
        let filters = Filters::default();
        let settings = Settings {
            max_globs: if code == ErrorCode::TooManyUnindexedPatterns {
                9
            } else {
                3
            },
            ..settings(3)
        };
        let mut held = Vec::new();
        for n in 0..3 {
            let text = text(n);
            let mut one = all(&[&text]);
            filters.hold(&mut one, &settings).unwrap();
            held.push(one);
        }
        assert_eq!(refused(&filters, &text(3), &settings), code);
        // A filter that is already held does not count again.
        filters.hold(&mut all(&[&text(1)]), &settings).unwrap();
        held.pop();
        filters.hold(&mut all(&[&text(3)]), &settings).unwrap();
        // If one filter of a request finds no room, none is registered.
        let mut two = all(&[&text(4), &text(5)]);
        assert_eq!(filters.hold(&mut two, &settings).unwrap_err().code, code);
        drop(two);
        filters.hold(&mut all(&[&text(6)]), &settings).unwrap();
        drop(held);
        assert_eq!(filters.counts(), Counts::default());
    }
}

#[test]
fn none_are_allowed_and_what_is_no_filter_is_served() {
    let filters = Filters::default();
    filters
        .hold(&mut all(&["*", "plain"]), &settings(0))
        .unwrap();
    for (text, code) in [
        ("a*", ErrorCode::TooManyGlobs),
        ("~a", ErrorCode::TooManyExpressions),
        ("/a", ErrorCode::TooManyExpressions),
        ("{\"a\":1}", ErrorCode::TooManyDistinctTemplates),
    ] {
        assert_eq!(refused(&filters, text, &settings(0)), code);
    }
}

#[test]
fn a_filter_is_filed_under_the_literal_with_the_fewest_others() {
    let filters = Filters::default();
    let mut held = all(&["a*", "a*b", "*c", "a*c", "*d*", "~^a", "~x$", "~x"]);
    filters.hold(&mut held, &Settings::default()).unwrap();
    let places: Vec<Place> = held.iter().map(place).collect();
    let (beginning, ending) = (Place::Beginning, Place::Ending);
    assert_eq!(
        places,
        [
            beginning,
            ending,
            ending,
            beginning,
            Place::Anywhere,
            beginning,
            ending,
            Place::Anywhere
        ]
    );
    let mut held = all(&[
        r#"{"a":1}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"a":1,"b":2,"c":3}"#,
        r#"{"a":{"b":2}}"#,
        r#"{"a":[1],"b":null}"#,
    ]);
    filters.hold(&mut held, &Settings::default()).unwrap();
    let places: Vec<Place> = held.iter().map(place).collect();
    let scalar = Place::Scalar;
    assert_eq!(
        places,
        [
            scalar(0),
            scalar(1),
            scalar(2),
            Place::Anywhere,
            Place::Anywhere
        ]
    );
}

#[test]
fn a_literal_has_so_many_and_the_others_count_as_without() {
    let filters = Filters::default();
    let limits = Settings {
        max_unindexed_patterns: 2,
        ..Settings::default()
    };
    let crowd = |from: usize, to: usize| -> Vec<Subscription> {
        let of = |n| {
            [
                wanted(&format!("a*{n}*")),
                wanted(&format!(r#"{{"a":1,"n":[{n}]}}"#)),
            ]
        };
        (from..to).flat_map(of).collect()
    };
    let size = MAX_CROWD as usize;
    let mut held = crowd(0, size);
    filters.hold(&mut held, &limits).unwrap();
    assert_eq!(filters.counts().unindexed, 0);
    let mut more = crowd(size, size + 1);
    filters.hold(&mut more, &limits).unwrap();
    assert_eq!(filters.counts().unindexed, 2);
    assert_eq!(
        refused(&filters, &format!("a*{}*", size + 1), &limits),
        ErrorCode::TooManyUnindexedPatterns
    );
    // Another literal has room, and this literal has room again after a filter is dropped.
    filters.hold(&mut all(&["b*0*"]), &limits).unwrap();
    held.truncate(size);
    let mut again = all(&["a*z*"]);
    filters.hold(&mut again, &limits).unwrap();
    assert_eq!(place(&again[0]), Place::Beginning);
}

/// A client that leaves and one that comes with the same filters, at the limit.
#[test]
fn filters_that_are_being_dropped_are_not_counted_against_equal_ones() {
    let filters = Filters::default();
    let texts = ["a*", "~^b", "{\"c\":1}"];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let mut held = all(&texts);
                    filters.hold(&mut held, &settings(1)).unwrap();
                }
            });
        }
    });
    assert_eq!(filters.counts(), Counts::default());
}
