//! What documentation and templates put in the place of a value.

use serde_json::Value;

/// What a value is of. Texts that are common in one place are placeholders in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Random, and quoted nowhere.
    Secret,
    /// Such as `/__DEBUG__` or `/x/<id>`; patterns have a fault of their own.
    Path,
    Text,
}

/// Where a placeholder begins, where it ends, and whether what stands between makes it one.
type Mark = (&'static str, &'static str, fn(&str) -> bool);

const OF_TEMPLATES: [Mark; 5] = [
    ("${", "}", is_name),
    ("$(", ")", is_name),
    ("#{", "}", is_name),
    ("{{", "}}", is_something),
    ("{%", "%}", is_something),
];
/// What may stand in a secret or a path by chance.
const OF_TEXTS: [Mark; 3] = [("[[", "]]", is_name), ("__", "__", is_upper), ("<", ">", is_label)];

/// Returns what is wrong if a template was to replace a part of the value and did not. Nothing of a secret is quoted.
pub(super) fn unreplaced(value: &Value, place: Place) -> Option<String> {
    match value {
        // A secret that is one as a whole is told of where secrets are checked.
        Value::String(text) if place == Place::Secret => (part(text, &OF_TEMPLATES).is_some() && !is_wrapped(text))
            .then(|| "it has a placeholder in it, which nothing replaces".to_owned()),
        Value::String(text) => {
            let of_a_text = || part(text, &OF_TEXTS).filter(|_| !text.contains("</")).or_else(|| shell_variable(text));
            let found = part(text, &OF_TEMPLATES)
                .or_else(|| (place == Place::Text).then(of_a_text).flatten())
                .or_else(|| (place == Place::Text && is_wrapped(text)).then_some(text.trim()))?;
            Some(format!("it has the placeholder {found:?} in it, which nothing replaces"))
        }
        Value::Array(items) => items.iter().find_map(|item| unreplaced(item, place)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let problem = unreplaced(value, place)?;
            Some(format!("the value of {name:?}: {problem}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The first part of a text that one of the marks makes a placeholder.
fn part<'a>(text: &'a str, marks: &[Mark]) -> Option<&'a str> {
    marks.iter().find_map(|(open, close, is_it)| {
        text.match_indices(open).find_map(|(start, _)| {
            let inside = &text[start + open.len()..];
            let end = inside.find(close)?;
            is_it(&inside[..end]).then(|| &text[start..start + open.len() + end + close.len()])
        })
    })
}

/// The first `$NAME` that is a word.
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

/// Such as `your token`.
fn is_label(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-.".contains(&byte))
}

/// Whether the whole text is one placeholder, or stands between two of them.
fn is_wrapped(text: &str) -> bool {
    const WRAPPED: [Mark; 9] = [
        ("<", ">", is_something),
        ("${", "}", is_something),
        ("#{", "}", is_something),
        ("{{", "}}", is_something),
        ("{%", "%}", is_something),
        ("%", "%", is_something),
        ("[[", "]]", is_something),
        ("__", "__", is_upper),
        ("$", "", is_upper),
    ];
    let text = text.trim();
    WRAPPED.iter().any(|(open, close, is_it)| {
        text.strip_prefix(open).and_then(|text| text.strip_suffix(close)).is_some_and(is_it)
    })
}

/// Returns true if a text is what documentation puts in place of a secret, or says where the secret is.
pub(super) fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 5] = ["changeme", "placeholder", "todo", "xxx", "replaceme"];
    const BEGINNINGS: [&str; 3] = ["your-", "replace-", "change-"];
    /// Some programs replace such a text by the secret that it refers to. This one does not.
    const REFERENCES: [&str; 7] = ["vault:", "file:", "env:", "op://", "sm://", "ssm:", "arn:aws:"];
    let text = text.trim();
    let lower = text.to_ascii_lowercase().replace(['_', ' '], "-");
    is_wrapped(text)
        || WORDS.contains(&lower.as_str())
        || REFERENCES.iter().any(|start| lower.starts_with(start))
        || BEGINNINGS.iter().any(|start| lower.starts_with(start)) && is_of_words(text)
}

/// Whether a text is made of words and numbers, as no random one is.
fn is_of_words(text: &str) -> bool {
    text.split(['-', '_', ' ', '.']).all(|word| {
        let rest = word.get(1..).unwrap_or_default();
        let is_all = |is_it: fn(&u8) -> bool| word.bytes().all(|byte| is_it(&byte));
        is_all(u8::is_ascii_lowercase)
            || is_all(u8::is_ascii_uppercase)
            || is_all(u8::is_ascii_digit)
            || word.starts_with(|c: char| c.is_ascii_uppercase()) && rest.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

/// Returns true if the value of a header is a placeholder, or is one behind its scheme, as in `Bearer <your token>`.
pub(super) fn is_placeholder_in_header(value: &str) -> bool {
    let value = value.trim();
    let behind_scheme = value.split_once(' ').map_or("", |(_, behind)| behind);
    let last_word = value.split_whitespace().last().unwrap_or_default();
    [value, behind_scheme, last_word].into_iter().any(is_placeholder) || shell_variable(last_word) == Some(last_word)
}

/// Returns true if the value of a header has nothing in it, or a scheme with nothing behind it.
pub(super) fn is_empty_header(value: &str) -> bool {
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
            || unreplaced(&Value::from(secret), Place::Secret).is_some()
            || unreplaced(&Value::from(header), Place::Secret).is_some()
    }

    #[test]
    fn what_keygen_makes_is_no_placeholder() {
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
