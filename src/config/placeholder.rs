//! What documentation and templates put in the place of a value.

use serde_json::Value;

/// Returns what is wrong if a template was to replace a part of the value and did not. Nothing of a secret is quoted.
pub(super) fn unreplaced(value: &Value, is_secret: bool) -> Option<String> {
    match value {
        Value::String(text) => {
            if !is_secret {
                let found = variable(text).or_else(|| is_wrapped(text).then_some(text.trim()))?;
                return Some(format!("it has the placeholder {found:?} in it, which nothing replaces"));
            }
            // A secret that is one as a whole is told of where secrets are checked.
            let is_partly = variable(text).is_some() && !is_wrapped(text);
            is_partly.then(|| "it has a placeholder in it, which nothing replaces".to_owned())
        }
        Value::Array(items) => items.iter().find_map(|item| unreplaced(item, is_secret)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let problem = unreplaced(value, is_secret)?;
            Some(format!("the value of {name:?}: {problem}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The first `${NAME…}`, `$(NAME)` or `{{…}}`.
fn variable(text: &str) -> Option<&str> {
    const MARKS: [(&str, &str); 3] = [("${", "}"), ("$(", ")"), ("{{", "}}")];
    MARKS.iter().find_map(|(open, close)| {
        let start = text.find(open)?;
        let inside = &text[start + open.len()..];
        let end = inside.find(close)?;
        let name = inside[..end].trim_start();
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.');
        is_name.then(|| &text[start..start + open.len() + end + close.len()])
    })
}

fn is_wrapped(text: &str) -> bool {
    let text = text.trim();
    let wrapped = [("<", ">"), ("${", "}"), ("{{", "}}"), ("%", "%")];
    wrapped.iter().any(|(open, close)| text.len() > 2 && text.starts_with(open) && text.ends_with(close))
}

/// Returns true if a text is what documentation puts in place of a secret.
pub(super) fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "changeme",
        "change-me",
        "change-this",
        "your-master-token",
        "your-cryptography-key",
        "your-32-byte-cryptography-key",
        "your-secret",
        "placeholder",
        "todo",
        "xxx",
    ];
    is_wrapped(text) || WORDS.contains(&text.trim().to_ascii_lowercase().replace('_', "-").as_str())
}
