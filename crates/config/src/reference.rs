//! What the table says of itself: the reference in Markdown, and the JSON Schema of the configuration file.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    key::{Feature, Key, ValueKind},
    keys, time,
};

/// Returns the reference of every configuration key in Markdown: `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Keys\n\n<!-- A test of fastauth-config writes this file from the table of keys. Do not edit it. -->\n",
    );
    for group in keys::GROUPS {
        push(
            &mut text,
            format_args!("\n## {}\n\n| key | values | default | |\n| --- | --- | --- | --- |\n", group.title),
        );
        for key in group.keys.iter().filter(|key| !is_ignored(key)) {
            let values = values(&key.kind).replace('|', "\\|");
            push(
                &mut text,
                format_args!("| `{}` | {values} | {} | {} |\n", key.name, default_cell(key), doc_cell(key)),
            );
        }
    }
    text
}

/// Returns the JSON Schema of the configuration file: `docs/fastauth.config.schema.json`.
#[must_use]
pub fn json_schema() -> Value {
    let mut properties = Map::from_iter([("$schema".to_owned(), json!({ "type": "string" }))]);
    for key in keys::all() {
        properties.insert(key.name.to_owned(), property(key));
        // The configuration file takes snake_case as well.
        let others = [Some(key.name), key.alias].into_iter().flatten().map(|name| name.replace('-', "_"));
        for other in others.chain(key.alias.map(str::to_owned)).filter(|other| other != key.name) {
            properties.insert(other, json!({ "$ref": format!("#/properties/{}", key.name) }));
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fastauth.config.json",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn is_ignored(key: &Key) -> bool {
    matches!(key.kind, ValueKind::Ignored)
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(part);
}

fn values(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Text { .. } | ValueKind::Secret { .. } | ValueKind::Ignored => "text".to_owned(),
        ValueKind::Choice(choices) => {
            choices.iter().map(|choice| format!("`{}`", choice.word)).collect::<Vec<_>>().join(", ")
        }
        ValueKind::Flag { .. } => "`true`, `false`".to_owned(),
        ValueKind::Number { limits, .. } => format!("{} to {}", limits.min, limits.max),
        ValueKind::Time { limits, .. } => format!("`{}` to `{}`", time::show(limits.min), time::show(limits.max)),
        ValueKind::Instant { .. } => "time in UTC".to_owned(),
        ValueKind::List { .. } | ValueKind::SecretList { .. } => "list of texts".to_owned(),
        ValueKind::SecretMap { .. } => "object of texts".to_owned(),
    }
}

fn default_cell(key: &Key) -> String {
    let text = key.default_text();
    let is_word = ["none", "not set", "always", "any"].contains(&text.as_str()) && text == key.unset;
    if is_word { text } else { format!("`{text}`") }
}

fn doc_cell(key: &Key) -> String {
    let mut cell = key.doc.to_owned();
    if let Some(alias) = key.alias {
        push(&mut cell, format_args!(" Alias: `{alias}`."));
    }
    if let Some(feature) = feature(key) {
        push(&mut cell, format_args!(" Feature `{}`.", feature.name));
    }
    cell
}

fn feature(key: &Key) -> Option<&'static Feature> {
    match &key.kind {
        ValueKind::Choice(choices) => key.feature.or_else(|| choices.iter().find_map(|choice| choice.feature)),
        _ => key.feature,
    }
}

fn property(key: &Key) -> Value {
    let mut property = match &key.kind {
        ValueKind::Text { .. } | ValueKind::Secret { .. } | ValueKind::Time { .. } => json!({ "type": "string" }),
        ValueKind::Instant { .. } => json!({ "type": "string", "format": "date-time" }),
        ValueKind::Choice(choices) => {
            json!({ "enum": choices.iter().map(|choice| choice.word).collect::<Vec<_>>() })
        }
        ValueKind::Flag { .. } => json!({ "type": "boolean" }),
        ValueKind::Number { limits, .. } => {
            json!({ "type": "integer", "minimum": limits.min, "maximum": limits.max })
        }
        ValueKind::List { .. } | ValueKind::SecretList { .. } => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        ValueKind::SecretMap { .. } => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        ValueKind::Ignored => json!({ "deprecated": true }),
    };
    if !is_ignored(key) {
        property["description"] = json!(doc_cell(key));
    }
    match &key.kind {
        ValueKind::Number { limits, .. } if limits.default.is_some() => property["default"] = json!(limits.default),
        ValueKind::Flag { default, .. } => property["default"] = json!(default),
        ValueKind::Text { default: Some(_), .. } | ValueKind::Choice(_) | ValueKind::Time { .. } => {
            property["default"] = json!(key.default_text());
        }
        _ => {}
    }
    property
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    const OUTDATED: &str = "run this test with UPDATE_DOCS=1";

    /// Reads a document, or writes it first if `UPDATE_DOCS` is set.
    fn document(name: &str, expected: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, expected).unwrap();
        }
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn reference_says_what_the_table_says() {
        let expected = reference();
        assert!(document("configuration.md", &expected) == expected, "{OUTDATED}");
    }

    #[test]
    fn schema_says_what_the_table_says() {
        let expected = json_schema();
        let found: Value =
            serde_json::from_str(&document("fastauth.config.schema.json", &format!("{expected:#}\n"))).unwrap();
        assert!(found == expected, "{OUTDATED}");
    }
}
