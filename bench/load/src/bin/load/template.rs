//! Placeholders in the path of the URL, so that one command line describes thousands of different subscriptions.

use std::fmt::Write;

/// Fills the placeholders for connection `i`; what is no placeholder stays as it is.
pub(crate) fn fill(template: &str, i: usize) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        match value(inside, i) {
            Some(text) => out.push_str(&text),
            None => {
                let _ = write!(out, "{{{inside}}}");
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn value(inside: &str, i: usize) -> Option<String> {
    let mut parts = inside.split(':');
    let name = parts.next()?;
    let numbers = parts
        .map(|part| part.parse().ok())
        .collect::<Option<Vec<usize>>>()?;
    Some(match (name, numbers.as_slice()) {
        ("i", []) => i.to_string(),
        ("mod", [m]) if *m > 0 => (i % m).to_string(),
        ("over", [count, of]) if *of > 0 => list((0..*count.min(of)).map(|step| (i + step) % of)),
        ("every", [stride, count]) => list((0..*count).map(|step| i + step * stride)),
        _ => return None,
    })
}

fn list(topics: impl Iterator<Item = usize>) -> String {
    topics
        .map(|topic| format!("t{topic}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn placeholders() {
        for (template, wanted) in [
            ("/ws?topic=t", "/ws?topic=t"),
            ("/ws?topic=t{i}", "/ws?topic=t7"),
            ("t{mod:5}&x={i}", "t2&x=7"),
            ("{over:3:8}", "t7,t0,t1"),
            ("{over:9:2}", "t1,t0"),
            ("{every:10:3}", "t7,t17,t27"),
            ("{nope} {mod:0} {", "{nope} {mod:0} {"),
        ] {
            assert_eq!(fill(template, 7), wanted);
        }
    }
}
