//! Changing members of a JSON object within its text, which keeps its layout.

use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode},
};
use serde_json::Value;

use crate::key::Key;

/// The text of a JSON object.
pub(super) struct Document {
    root: CstRootNode,
    object: CstObject,
    byte_order_mark: &'static str,
}

impl Document {
    /// Returns `None` for a text that is no JSON object.
    pub(super) fn parse(text: &str) -> Option<Self> {
        const BYTE_ORDER_MARK: &str = "\u{feff}";
        let stripped = text.strip_prefix(BYTE_ORDER_MARK);
        let root = CstRootNode::parse(stripped.unwrap_or(text), &ParseOptions::default()).ok()?;
        let object = root.object_value()?;
        Some(Self { root, object, byte_order_mark: if stripped.is_some() { BYTE_ORDER_MARK } else { "" } })
    }

    /// Sets a member in every spelling that it has, or adds it behind another one. Returns `None` if that one is missing.
    pub(super) fn set(&self, key: &Key, value: &Value, behind: &Key) -> Option<()> {
        let members = self.members(key);
        if members.is_empty() {
            let neighbour = self.members(behind).pop()?;
            self.object.insert(neighbour.property_index() + 1, key.name, input(value));
        }
        members.into_iter().for_each(|member| member.set_value(input(value)));
        Some(())
    }

    /// Removes a member in every spelling that it has.
    pub(super) fn remove(&self, key: &Key) {
        self.members(key).into_iter().for_each(CstObjectProp::remove);
    }

    /// Returns the text as it is now.
    pub(super) fn text(&self) -> String {
        format!("{}{}", self.byte_order_mark, self.root)
    }

    fn members(&self, key: &Key) -> Vec<CstObjectProp> {
        let mut members = self.object.properties();
        members.retain(|member| member.decoded_name().is_some_and(|name| key.is_spelled(&name)));
        members
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static KEY: Key = Key::ignored("key");
    static NEW: Key = Key::ignored("new-key");

    fn set(text: &str, key: &Key, value: &Value) -> String {
        let document = Document::parse(text).unwrap();
        document.set(key, value, &KEY).unwrap();
        document.text()
    }

    fn remove(text: &str, key: &Key) -> String {
        let document = Document::parse(text).unwrap();
        document.remove(key);
        document.text()
    }

    #[test]
    fn text_around_a_member_stays() {
        for (before, after) in [
            ("{\n    \"key\": \"a\",\n    \"x\": 1\n}\n", "{\n    \"key\": \"b\",\n    \"x\": 1\n}\n"),
            (r#"{"key":"a"}"#, r#"{"key":"b"}"#),
            (r#"{"x":{"key":"a"},"key" : null }"#, r#"{"x":{"key":"a"},"key" : "b" }"#),
            (r#"{"x":"}\"]{","key":["a",{"b":"]"}],"y":[]}"#, r#"{"x":"}\"]{","key":"b","y":[]}"#),
            (r#"{"\u006bey":12,"y":true}"#, r#"{"\u006bey":"b","y":true}"#),
        ] {
            assert_eq!(set(before, &KEY, &json!("b")), after);
        }
    }

    #[test]
    fn every_spelling_is_changed() {
        let before = r#"{"new_key": "a", "x": 1, "new-key": "a"}"#;
        assert_eq!(set(before, &NEW, &json!("b")), r#"{"new_key": "b", "x": 1, "new-key": "b"}"#);
        assert_eq!(remove(before, &NEW), r#"{ "x": 1}"#);
    }

    #[test]
    fn new_member_is_behind_its_neighbour() {
        for (before, after) in [
            (
                "{\r\n\t\"x\": 1,\r\n\t\"key\": 2\r\n}",
                "{\r\n\t\"x\": 1,\r\n\t\"key\": 2,\r\n\t\"new-key\": [\"a,\\\"\", \"b\"]\r\n}",
            ),
            (
                "\u{feff}{\n  \"key\": 2,\n\n  \"x\": 1\n}\n",
                "\u{feff}{\n  \"key\": 2,\n  \"new-key\": [\"a,\\\"\", \"b\"],\n\n  \"x\": 1\n}\n",
            ),
        ] {
            assert_eq!(set(before, &NEW, &json!(["a,\"", "b"])), after);
            assert_eq!(remove(after, &NEW), before);
        }
        assert!(Document::parse(r#"{"x":1}"#).unwrap().set(&NEW, &json!(1), &KEY).is_none());
        assert!(Document::parse("[]").is_none());
    }

    #[test]
    fn any_text_is_read_back() {
        for text in ["", "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}\u{fffd}é😀", "\\u0041", "//x", "/*x*/"] {
            let changed = set(r#"{"key": 1}"#, &KEY, &json!(text));
            assert_eq!(serde_json::from_str::<Value>(&changed).unwrap(), json!({ "key": text }));
        }
    }
}
