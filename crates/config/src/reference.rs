//! What the table says of itself: the reference in Markdown, and the JSON Schema of the configuration file.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    key::{Feature, Key, ValueKind},
    keys,
    rules::{MEMBERS, Member, MemberKind},
    time,
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
        if group.keys.iter().any(|key| matches!(key.kind, ValueKind::Rules { .. })) {
            push_members(&mut text);
        }
    }
    text
}

/// Adds the members of a rule.
fn push_members(text: &mut String) {
    text.push_str("\nThe members of a rule, of which `path` and `level` are required:\n\n| member | values | |\n| --- | --- | --- |\n");
    for member in MEMBERS {
        push(text, format_args!("| `{}` | {} | {} |\n", member.name, member_values(&member.kind), member.doc));
    }
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
            properties.insert(other, other_spelling(&format!("#/properties/{}", key.name)));
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fastauth.config.json",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": { "rule": rule() },
    })
}

/// Returns the schema of a rule.
fn rule() -> Value {
    let mut properties = Map::new();
    for member in MEMBERS {
        properties.insert(member.name.to_owned(), member_property(member));
        if let Some(other) = snake_case(member) {
            properties.insert(other, other_spelling(&format!("#/$defs/rule/properties/{}", member.name)));
        }
    }
    let mut none_of_these = Map::new();
    for member in MEMBERS.iter().filter(|member| member.is_demand) {
        let demands_nothing = match member.kind {
            MemberKind::Choice(words) => json!({ "const": words[0].word }),
            _ => Value::Bool(false),
        };
        let names = [Some(member.name.to_owned()), snake_case(member)];
        none_of_these.extend(names.into_iter().flatten().map(|name| (name, demands_nothing.clone())));
    }
    let required: Vec<_> = MEMBERS.iter().filter(|member| member.is_required).map(|member| member.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        // Without an access token, there are no claims that could say anything.
        "if": { "properties": { "level": { "enum": ["public", "optional", "master", "deny"] } }, "required": ["level"] },
        "then": { "properties": none_of_these },
        // What editors begin a rule with.
        "defaultSnippets": [{ "label": "rule", "bodyText": r#"{ "path": "/$1", "level": "${2:access}" }"# }],
    })
}

/// Returns the schema of another spelling, which editors accept and do not suggest.
fn other_spelling(of: &str) -> Value {
    json!({ "$ref": of, "doNotSuggest": true })
}

/// Returns the other spelling of a member, if there is one.
fn snake_case(member: &Member) -> Option<String> {
    member.name.contains('-').then(|| member.name.replace('-', "_"))
}

fn member_property(member: &Member) -> Value {
    let mut property = match &member.kind {
        MemberKind::Text { pattern, .. } => json!({ "type": "string", "pattern": pattern }),
        MemberKind::Time { limits, .. } => json!({ "type": "string", "pattern": limits.pattern() }),
        MemberKind::Choice(words) => json!({
            "enum": words.iter().map(|word| word.word).collect::<Vec<_>>(),
            "markdownEnumDescriptions": words.iter().map(|word| word.doc).collect::<Vec<_>>(),
        }),
        MemberKind::Flag { .. } => json!({ "type": "boolean", "default": false }),
        MemberKind::Texts { words: [], .. } => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
        }
        MemberKind::Texts { words, .. } => json!({ "type": "array", "items": { "enum": words }, "minItems": 1 }),
        MemberKind::Claims { .. } => claims_property(),
    };
    describe(&mut property, member.doc);
    property
}

/// Adds the text of the reference, which VS Code shows as Markdown.
fn describe(property: &mut Value, doc: &str) {
    property["description"] = json!(doc.replace(['`', '*'], ""));
    property["markdownDescription"] = json!(doc);
}

fn claims_property() -> Value {
    json!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number", "boolean"] },
        "minProperties": 1,
    })
}

fn member_values(kind: &MemberKind) -> String {
    match kind {
        MemberKind::Text { .. } => "text".to_owned(),
        MemberKind::Choice(words) => in_code(words.iter().map(|word| word.word)),
        MemberKind::Flag { .. } => "`true`, `false`".to_owned(),
        MemberKind::Time { limits, .. } => format!("`{}` to `{}`", time::show(limits.min), time::show(limits.max)),
        MemberKind::Texts { words: [], .. } => "list of texts".to_owned(),
        MemberKind::Texts { words, .. } => format!("list of {}", in_code(words.iter().copied())),
        MemberKind::Claims { .. } => "object of texts, numbers, `true` and `false`".to_owned(),
    }
}

fn in_code<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
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
        ValueKind::Addresses { .. } => "text, or list of texts".to_owned(),
        ValueKind::Choice { choices, .. } => in_code(choices.iter().map(|choice| choice.word)),
        ValueKind::Flag { .. } => "`true`, `false`".to_owned(),
        ValueKind::Number { limits, .. } => format!("{} to {}", limits.min, limits.max),
        ValueKind::Time { limits, .. } => format!("`{}` to `{}`", time::show(limits.min), time::show(limits.max)),
        ValueKind::Instant { .. } => "time in UTC".to_owned(),
        ValueKind::SecretFile { .. } => "path".to_owned(),
        ValueKind::List { .. } | ValueKind::SecretList { .. } => "list of texts".to_owned(),
        ValueKind::SecretMap { .. } => "object of texts".to_owned(),
        ValueKind::Rules { .. } => "list of objects".to_owned(),
        ValueKind::Claims { .. } => "object of texts, numbers, `true` and `false`".to_owned(),
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
        ValueKind::Choice { choices, .. } => key.feature.or_else(|| choices.iter().find_map(|choice| choice.feature)),
        _ => key.feature,
    }
}

fn property(key: &Key) -> Value {
    let mut property = match &key.kind {
        ValueKind::Text { .. } | ValueKind::Secret { .. } | ValueKind::SecretFile { .. } => json!({ "type": "string" }),
        ValueKind::Time { limits, .. } => json!({ "type": "string", "pattern": limits.pattern() }),
        ValueKind::Addresses { .. } => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
        }),
        ValueKind::Instant { .. } => json!({ "type": "string", "format": "date-time" }),
        ValueKind::Choice { choices, .. } => {
            json!({ "enum": choices.iter().map(|choice| choice.word).collect::<Vec<_>>() })
        }
        ValueKind::Flag { .. } => json!({ "type": "boolean" }),
        ValueKind::Number { limits, .. } => {
            json!({ "type": "integer", "minimum": limits.min, "maximum": limits.max })
        }
        ValueKind::List { .. } if !key.words.is_empty() => json!({ "type": "array", "items": words(key) }),
        ValueKind::List { .. } | ValueKind::SecretList { .. } => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        ValueKind::SecretMap { .. } => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        ValueKind::Rules { .. } => json!({ "type": "array", "items": { "$ref": "#/$defs/rule" } }),
        ValueKind::Claims { .. } => claims_property(),
        ValueKind::Ignored => json!({ "deprecated": true, "doNotSuggest": true }),
    };
    if !is_ignored(key) {
        describe(&mut property, &doc_cell(key));
    }
    match &key.kind {
        ValueKind::Number { limits, .. } if limits.default.is_some() => property["default"] = json!(limits.default),
        // An editor would write 0.
        ValueKind::Number { .. } => property["defaultSnippets"] = json!([{ "body": 60 }]),
        ValueKind::Flag { default, .. } => property["default"] = json!(default),
        ValueKind::Text { default: Some(_), .. }
        | ValueKind::Addresses { .. }
        | ValueKind::Choice { has_default: true, .. }
        | ValueKind::Time { .. } => {
            property["default"] = json!(key.default_text());
        }
        _ => {}
    }
    property
}

/// Returns the schema of a text in a list.
fn words(key: &Key) -> Value {
    let listed = json!({ "enum": key.words });
    if !key.in_any_case {
        return listed;
    }
    let in_any_case = |char: char| match char.is_ascii_alphabetic() {
        true => format!("[{}{}]", char.to_ascii_uppercase(), char.to_ascii_lowercase()),
        false => char.to_string(),
    };
    let spellings: Vec<_> = key.words.iter().map(|word| word.chars().map(in_any_case).collect::<String>()).collect();
    json!({ "anyOf": [listed, { "pattern": format!("^({})$", spellings.join("|")) }] })
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
