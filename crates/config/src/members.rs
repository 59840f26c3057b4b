//! Changing members of a JSON object within its text, which stays as it was written around them.

use std::ops::Range;

use serde_json::Value;

/// One member of the outermost object, by where it stands in the text.
struct Member {
    name: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// The text of an object with the member `name` set to `value`, or without it. What is new is put behind the member
/// `behind` and laid out like that one. A member may be there in several spellings: `is_it` recognises its names.
///
/// `None` where the text is no object, or has nothing to put a new member behind.
pub(super) fn change(
    text: &str,
    is_it: impl Fn(&str) -> bool,
    (name, value): (&str, Option<&Value>),
    behind: impl Fn(&str) -> bool,
) -> Option<String> {
    let members = members(text)?;
    let found = members.iter().enumerate().filter(|(_, member)| is_it(&member.name)).rev();
    let mut changed = text.to_owned();
    match value {
        Some(value) if members.iter().any(|member| is_it(&member.name)) => {
            found.for_each(|(_, member)| changed.replace_range(member.value.clone(), &written(value)));
        }
        Some(value) => {
            let (number, model) = members.iter().enumerate().find(|(_, member)| behind(&member.name))?;
            let space = &text[gap_before(text, &members, number)..model.key.start];
            let colon = &text[model.key.end..model.value.start];
            let key = Value::from(name);
            changed.insert_str(model.value.end, &format!(",{space}{key}{colon}{}", written(value)));
        }
        None => found.for_each(|(number, _)| changed.replace_range(whole(&members, number), "")),
    }
    Some(changed)
}

/// The value on one line, with a space behind each comma.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// Where the space before a member begins: behind the comma or the brace.
fn gap_before(text: &str, members: &[Member], number: usize) -> usize {
    match number.checked_sub(1) {
        Some(before) => {
            let end = members[before].value.end;
            end + text[end..].find(',').map_or(0, |comma| comma + 1)
        }
        None => text.find('{').map_or(0, |brace| brace + 1),
    }
}

/// A member with one comma, so that what is left is an object still.
fn whole(members: &[Member], number: usize) -> Range<usize> {
    let member = &members[number];
    match (members.get(number + 1), number.checked_sub(1)) {
        (Some(next), _) => member.key.start..next.key.start,
        (None, Some(before)) => members[before].value.end..member.value.end,
        (None, None) => member.key.start..member.value.end,
    }
}

/// The members of a text that is known to be valid JSON.
fn members(text: &str) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    let mut at = skip_space(text, text.find('{')? + 1);
    while text[at..].starts_with('"') {
        let key = at..string_end(text, at)?;
        let colon = skip_space(text, key.end);
        let start = skip_space(text, text[colon..].starts_with(':').then_some(colon + 1)?);
        let value = start..value_end(text, start)?;
        let name = serde_json::from_str(&text[key.clone()]).ok()?;
        at = skip_space(text, value.end);
        members.push(Member { name, key, value });
        if text[at..].starts_with(',') {
            at = skip_space(text, at + 1);
        }
    }
    text[at..].starts_with('}').then_some(members)
}

fn skip_space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t', '\r', '\n']).len()
}

fn string_end(text: &str, start: usize) -> Option<usize> {
    let mut is_escaped = false;
    for (offset, byte) in text.bytes().enumerate().skip(start + 1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(offset + 1),
            _ => {}
        }
    }
    None
}

fn value_end(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(text[..at].trim_end().len()),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return Some(text[..at].trim_end().len()),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(text: &str, name: &str, value: Option<&Value>) -> String {
        change(text, |other| other.replace('_', "-") == name, (name, value), |other| other == "key").unwrap()
    }

    #[test]
    fn what_is_around_stays() {
        let table = [
            ("{\n    \"key\": \"a\",\n    \"x\": 1\n}\n", "{\n    \"key\": \"b\",\n    \"x\": 1\n}\n"),
            (r#"{"key":"a"}"#, r#"{"key":"b"}"#),
            (r#"{"x":{"key":"a"},"key" : null }"#, r#"{"x":{"key":"a"},"key" : "b" }"#),
            (r#"{"x":"}\"]{","key":["a",{"b":"]"}],"y":[]}"#, r#"{"x":"}\"]{","key":"b","y":[]}"#),
            (r#"{"\u006bey":12,"y":true}"#, r#"{"\u006bey":"b","y":true}"#),
        ];
        for (before, after) in table {
            assert_eq!(set(before, "key", Some(&json!("b"))), after);
        }
    }

    #[test]
    fn every_spelling_is_set() {
        let before = r#"{"k_k": "a", "x": 1, "k-k": "a"}"#;
        assert_eq!(set(before, "k-k", Some(&json!("b"))), r#"{"k_k": "b", "x": 1, "k-k": "b"}"#);
        assert_eq!(set(before, "k-k", None), r#"{"x": 1}"#);
    }

    #[test]
    fn what_is_new_looks_like_its_neighbour() {
        let list = json!(["a,\"", "b"]);
        let table = [
            (
                "{\r\n\t\"x\": 1,\r\n\t\"key\": 2\r\n}",
                "{\r\n\t\"x\": 1,\r\n\t\"key\": 2,\r\n\t\"new\": [\"a,\\\"\", \"b\"]\r\n}",
            ),
            ("{\"key\":2,\"x\":1}", "{\"key\":2,\"new\":[\"a,\\\"\", \"b\"],\"x\":1}"),
            ("\u{feff}{ \"key\": 2 }", "\u{feff}{ \"key\": 2, \"new\": [\"a,\\\"\", \"b\"] }"),
        ];
        for (before, after) in table {
            assert_eq!(set(before, "new", Some(&list)), after);
        }
        assert_eq!(change(r#"{"x":1}"#, |_| false, ("new", Some(&list)), |name| name == "key"), None);
    }

    #[test]
    fn what_goes_takes_its_comma_along() {
        for (before, after) in [
            (r#"{"key": 1, "x": 2, "y": 3}"#, r#"{"key": 1, "y": 3}"#),
            (r#"{"key": 1, "x": [2]}"#, r#"{"key": 1}"#),
            (r#"{ "x": 2 }"#, r#"{  }"#),
            (r#"{"x": 2, "key": 1}"#, r#"{"key": 1}"#),
            (r#"{"key": 1}"#, r#"{"key": 1}"#),
        ] {
            assert_eq!(set(before, "x", None), after);
        }
    }
}
