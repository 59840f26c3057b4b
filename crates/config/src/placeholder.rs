//! The placeholders that documentation and templates put in the place of a value.

use serde_json::Value;

/// The kind of text that a value is. What is common in one is a placeholder in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// Random, and quoted nowhere.
    Secret,
    /// Such as `/__DEBUG__` or `/x/<id>`; patterns have a fault of their own.
    Path,
    Text,
}

/// The form of a placeholder.
struct Mark {
    begin: &'static str,
    end: &'static str,
    /// Returns true if what stands between makes it a placeholder.
    is_inside: fn(&str) -> bool,
}

const fn mark(begin: &'static str, end: &'static str, is_inside: fn(&str) -> bool) -> Mark {
    Mark { begin, end, is_inside }
}

const OF_TEMPLATES: [Mark; 5] = [
    mark("${", "}", is_name),
    mark("$(", ")", is_name),
    mark("#{", "}", is_name),
    mark("{{", "}}", is_something),
    mark("{%", "%}", is_something),
];
/// What may stand in a secret or a path by chance.
const OF_TEXTS: [Mark; 3] = [mark("[[", "]]", is_name), mark("__", "__", is_upper), mark("<", ">", is_label)];

/// Returns what is wrong if a template was to replace a part of the value and did not. Nothing of a secret is quoted.
pub(crate) fn unreplaced(value: &Value, text_kind: TextKind) -> Option<String> {
    match value {
        Value::String(text) => unreplaced_text(text, text_kind),
        Value::Array(items) => items.iter().find_map(|item| unreplaced(item, text_kind)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let problem = unreplaced(value, text_kind)?;
            Some(format!("the value of {name:?}: {problem}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Returns what is wrong with one text, as [`unreplaced`] does.
pub(crate) fn unreplaced_text(text: &str, text_kind: TextKind) -> Option<String> {
    let of_a_template = part(text, &OF_TEMPLATES);
    let found = match text_kind {
        // A secret that is a placeholder as a whole is reported by the check of secrets.
        TextKind::Secret if of_a_template.is_some() && !is_wrapped(text) => {
            return Some("it contains a placeholder that was not replaced".to_owned());
        }
        TextKind::Secret => return None,
        TextKind::Path => of_a_template,
        TextKind::Text => of_a_template
            .or_else(|| part(text, &OF_TEXTS).filter(|_| !text.contains("</")))
            .or_else(|| shell_variable(text))
            .or_else(|| is_wrapped(text).then_some(text.trim())),
    };
    found.map(|found| format!("it contains the placeholder {found:?}, which was not replaced"))
}

/// Returns the first part of a text that one of the marks makes a placeholder.
fn part<'a>(text: &'a str, marks: &[Mark]) -> Option<&'a str> {
    marks.iter().find_map(|mark| {
        text.match_indices(mark.begin).find_map(|(start, _)| {
            let inside = &text[start + mark.begin.len()..];
            let end = inside.find(mark.end)?;
            (mark.is_inside)(&inside[..end]).then(|| &text[start..start + mark.begin.len() + end + mark.end.len()])
        })
    })
}

/// Returns the first `$NAME` that is a word.
fn shell_variable(text: &str) -> Option<&str> {
    text.match_indices('$').find_map(|(start, _)| {
        let behind = &text[start + 1..];
        let length = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
        let is_whole = !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '$');
        (is_whole && is_name(&behind[..length])).then(|| &text[start..=start + length])
    })
}

fn is_name(text: &str) -> bool {
    text.trim_start().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.')
}

fn is_something(text: &str) -> bool {
    !text.trim().is_empty()
}

fn is_upper(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns true for a text such as `your token`.
fn is_label(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-.".contains(&byte))
}

/// Returns true if the whole text is one placeholder, or stands between two of them.
fn is_wrapped(text: &str) -> bool {
    const WRAPPED: [Mark; 9] = [
        mark("<", ">", is_something),
        mark("${", "}", is_something),
        mark("#{", "}", is_something),
        mark("{{", "}}", is_something),
        mark("{%", "%}", is_something),
        mark("%", "%", is_something),
        mark("[[", "]]", is_something),
        mark("__", "__", is_upper),
        mark("$", "", is_upper),
    ];
    let text = text.trim();
    WRAPPED.iter().any(|mark| {
        text.strip_prefix(mark.begin).and_then(|text| text.strip_suffix(mark.end)).is_some_and(mark.is_inside)
    })
}

/// Returns true if a text is what documentation puts in place of a secret, or says where the secret is.
pub(crate) fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 5] = ["changeme", "placeholder", "todo", "xxx", "replaceme"];
    const BEGINNINGS: [&str; 3] = ["your-", "replace-", "change-"];
    /// Some programs replace such a text by the secret that it refers to. This one does not.
    const REFERENCES: [&str; 7] = ["vault:", "file:", "env:", "op://", "sm://", "ssm:", "arn:aws:"];
    let text = text.trim();
    let lower = text.to_ascii_lowercase().replace(['_', ' '], "-");
    is_wrapped(text)
        || is_ellipsis(text)
        || WORDS.contains(&lower.as_str())
        || REFERENCES.iter().any(|start| lower.starts_with(start))
        || BEGINNINGS.iter().any(|start| lower.starts_with(start)) && is_of_words(text)
}

/// Returns true for `…` and `...`, which documentation writes where a value is left out.
fn is_ellipsis(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c == '…' || c == '.')
}

/// Returns true if a text is made of words and numbers, as no random one is.
fn is_of_words(text: &str) -> bool {
    text.split(['-', '_', ' ', '.']).map(str::as_bytes).all(|word| match word {
        [first, rest @ ..] if first.is_ascii_uppercase() && rest.iter().all(u8::is_ascii_lowercase) => true,
        word => {
            word.iter().all(u8::is_ascii_lowercase)
                || word.iter().all(u8::is_ascii_uppercase)
                || word.iter().all(u8::is_ascii_digit)
        }
    })
}

/// Returns true if the value of a header is a placeholder, or is one behind its scheme, as in `Bearer <your token>`.
pub(crate) fn is_placeholder_in_header(value: &str) -> bool {
    let value = value.trim();
    let behind_scheme = value.split_once(' ').map_or("", |(_, behind)| behind);
    let last_word = value.split_whitespace().last().unwrap_or_default();
    [value, behind_scheme, last_word].into_iter().any(is_placeholder) || shell_variable(last_word) == Some(last_word)
}

/// Returns true if the value of a header has nothing in it, or a scheme with nothing behind it.
pub(crate) fn is_empty_header(value: &str) -> bool {
    const SCHEMES: [&str; 4] = ["", "bearer", "basic", "token"];
    SCHEMES.iter().any(|scheme| value.trim().eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use fastauth_core::secret::Secret;

    fn is_one(secret: &str) -> bool {
        let header = format!("Bearer {secret}");
        is_placeholder(secret)
            || is_placeholder_in_header(&header)
            || is_empty_header(&header)
            || unreplaced(&Value::from(secret), TextKind::Secret).is_some()
            || unreplaced(&Value::from(header), TextKind::Secret).is_some()
    }

    #[test]
    fn generated_secret_is_no_placeholder() {
        for _ in 0..2_000 {
            assert!(!is_one(Secret::generate().expose()));
        }
    }

    proptest! {
        /// Keygen's alphabet, also where the text begins as a placeholder does.
        #[test]
        fn random_secrets_are_no_placeholders(
            start in "(your-|YOUR_|replace-|change_|__|todo|xxx|)",
            random in "[A-Za-z0-9_-]{40}",
        ) {
            let padded = format!("{start}{random}=");
            prop_assert!(!is_one(&padded), "{padded}");
        }
    }
}
