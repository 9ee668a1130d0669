//! Globs and regular expressions. Input: the pattern, a line break, the topic.

use dev_websocket_core::internals::reading;
use dev_websocket_core::message::topic::Topic;

/// See the module's text.
pub fn check(input: &[u8]) {
    let Some((text, name)) = std::str::from_utf8(input)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let topic = Topic::new(name);
    if let Ok(topic) = &topic {
        is_a_topic(topic.name());
        assert_eq!(Topic::new(topic.name()).as_ref(), Ok(topic));
    }
    let name = topic.as_ref().map_or(name, Topic::name);
    match reading::glob(text, name) {
        Ok(matches) => {
            is_a_topic(text);
            assert_eq!(
                matches,
                glob_matches(&chars(text), &chars(name)),
                "{text:?} {name:?}"
            );
        }
        Err(reason) => assert!(!is_topic(text) && !reason.is_empty(), "{reason}"),
    }
    match reading::regex(text, name) {
        Ok(matches) => {
            assert!((1..=256).contains(&text.len()));
            // The other engine knows less of Unicode, and not every kind of class.
            if text.is_ascii()
                && name.is_ascii()
                && !text.contains(r"\p")
                && !text.contains(r"\P")
                && let Ok(slow) = regex_lite::Regex::new(text)
            {
                assert_eq!(matches, slow.is_match(name), "{text:?} {name:?}");
            }
        }
        Err(reason) => assert!(!reason.is_empty() && reason.len() <= 1000, "{reason}"),
    }
}

/// The rules of a name, in docs/PROTOCOL.md: 1 to 255 bytes without control characters and commas.
pub fn is_topic(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name
            .chars()
            .any(|character| character.is_control() || character == ',')
}

/// As [`is_topic`], for what must be one.
pub fn is_a_topic(name: &str) {
    assert!(is_topic(name), "{name:?}");
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// By trying all ways, remembering which prefixes match.
fn glob_matches(glob: &[char], name: &[char]) -> bool {
    // Whether the glob so far matches so many characters.
    let mut matched: Vec<bool> = (0..=name.len()).map(|length| length == 0).collect();
    for character in glob {
        let before = matched.clone();
        for length in 0..=name.len() {
            matched[length] = match character {
                '*' => before[..=length].contains(&true),
                character => length > 0 && before[length - 1] && name[length - 1] == *character,
            };
        }
    }
    matched[name.len()]
}
