//! Reads JSON strictly: the members of an object all differ, at every depth.
//!
//! RFC 8259 lets a reader take any of the members that share a name, and readers differ. A token or a configuration that
//! says two things is refused instead (RFC 7515 4 and RFC 7519 4 ask for that).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads one JSON object from UTF-8 text, with nothing behind it.
///
/// # Errors
///
/// If it is not JSON or not an object, or a name is repeated at any depth.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    members(text).map(Members::into_map)
}

/// Reads one JSON value from UTF-8 text, with nothing behind it.
///
/// # Errors
///
/// If it is not JSON, or a name is repeated at any depth.
pub fn value(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = MemberVisitor.deserialize(&mut deserializer)?.into_value();
    deserializer.end()?;
    Ok(value)
}

/// Reads one JSON object as [`object`] does, and borrows names and texts from it as far as they have no escapes.
///
/// # Errors
///
/// As [`object`].
pub(crate) fn members(text: &[u8]) -> Result<Members<'_>, serde_json::Error> {
    if let Some(members) = plain_members(text) {
        return Ok(members);
    }
    // serde_json would quote what it finds in place of an object, which may be a secret.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_slice(text)
}

/// Reads an object as most tokens have it: texts without escapes and whole numbers, without white space. It takes half the time
/// of serde_json, which reads everything else and says what is wrong.
fn plain_members(text: &[u8]) -> Option<Members<'_>> {
    // This looks at all bytes, and compiles to a few vector instructions.
    let (blocks, rest) = text.as_chunks::<16>();
    if blocks.iter().any(|block| has_escape_or_control(block)) || has_escape_or_control(rest) {
        return None;
    }
    let mut rest = Plain(std::str::from_utf8(text).ok()?);
    let mut members = Vec::with_capacity(12);
    rest.skip(b'{')?;
    loop {
        let name = rest.text()?;
        rest.skip(b':')?;
        members.push((Cow::Borrowed(name), rest.value()?));
        if rest.0 == "}" {
            break;
        }
        rest.skip(b',')?;
    }
    Some(Members(members)).filter(|members| members.repeated().is_none())
}

#[inline]
fn has_escape_or_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |found, byte| found | u8::from(*byte == b'\\') | u8::from(*byte < b' ')) != 0
}

/// The rest of a JSON text without escapes and control characters.
struct Plain<'a>(&'a str);

impl<'a> Plain<'a> {
    #[inline]
    fn skip(&mut self, byte: u8) -> Option<()> {
        if self.0.as_bytes().first() != Some(&byte) {
            return None;
        }
        self.0 = &self.0[1..];
        Some(())
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        self.skip(b'"')?;
        let end = self.0.bytes().position(|byte| byte == b'"')?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(text)
    }

    #[inline]
    fn value(&mut self) -> Option<Member<'a>> {
        if self.0.as_bytes().first() == Some(&b'"') {
            return self.text().map(|text| Member::Text(Cow::Borrowed(text)));
        }
        self.number().map(|number| Member::Number(number.into()))
    }

    /// Reads a number of so few digits that a float holds it exactly. The caller looks at what follows.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        const MAX_DIGITS: usize = 15;
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(end);
        if end > MAX_DIGITS || (digits.starts_with('0') && digits != "0") {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }
}

/// The members of an object, in their order. All names differ.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, Member<'a>)>);

/// The value of a member.
pub(crate) enum Member<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number.
    Number(Number),
    /// A value of another kind.
    Other(Value),
}

impl<'a> Members<'a> {
    /// Returns the member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().find(|(other, _)| is_same(other, name)).map(|(_, member)| member)
    }

    /// Returns the members with their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Member<'a>)> {
        self.0.iter().map(|(name, member)| (&**name, member))
    }

    /// Returns the member's text; `None` if it is missing or of another kind.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Member::as_str)
    }

    fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().map(|(name, member)| (name.into_owned(), member.into_value())).collect()
    }

    fn read<A: MapAccess<'a>>(mut map: A) -> Result<Self, A::Error> {
        let mut members = Vec::with_capacity(12);
        while let Some(name) = map.next_key_seed(MemberVisitor)? {
            let Member::Text(name) = name else { return Err(A::Error::custom("the name of a member is not a text")) };
            members.push((name, map.next_value_seed(MemberVisitor)?));
        }
        let members = Self(members);
        match members.repeated() {
            Some(name) => Err(A::Error::custom(format_args!("`{name}` appears more than once"))),
            None => Ok(members),
        }
    }

    fn repeated(&self) -> Option<&str> {
        /// From here on, sorting is faster than comparing each with each.
        const MANY: usize = 32;
        if self.0.len() < MANY {
            let mut names = self.iter().map(|(name, _)| name).enumerate();
            return names
                .find(|(at, name)| self.0[..*at].iter().any(|(other, _)| is_same(other, name)))
                .map(|(_, name)| name);
        }
        let mut names: Vec<_> = self.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

/// Compares as `==` does, without calling a function: the short names in tokens mostly differ in length or first byte.
#[inline]
fn is_same(name: &str, other: &str) -> bool {
    name.len() == other.len() && name.as_bytes().first() == other.as_bytes().first() && name == other
}

impl Member<'_> {
    /// Returns the text; `None` for a value of another kind.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the number; `None` for a value of another kind.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// Returns the number if it is whole and not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.into_owned()),
            Self::Number(number) => Value::Number(number),
            Self::Other(value) => value,
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members<'de>, A::Error> {
        Members::read(map)
    }
}

struct MemberVisitor;

impl<'de> DeserializeSeed<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Member<'de>, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Member<'de>, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Member<'de>, E> {
        Ok(Member::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Member<'de>, E> {
        Ok(Member::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Member<'de>, E> {
        Number::from_f64(value).map(Member::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_unit<E>(self) -> Result<Member<'de>, E> {
        Ok(Member::Other(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Member<'de>, E> {
        Ok(Member::Other(Value::Bool(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(MemberVisitor)? {
            array.push(item.into_value());
        }
        Ok(Member::Other(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member<'de>, A::Error> {
        Ok(Member::Other(Value::Object(Members::read(map)?.into_map())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_is_read_as_serde_json_reads_it() {
        let text = r#" {"a":[1,-2,2.5,1e3,true,null,{"b":"\u00e9"}],"":{}} "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), expected);
        let members = members(text.as_bytes()).unwrap();
        assert!(matches!(members.get("a"), Some(Member::Other(value)) if *value == expected["a"]));
        assert!(matches!(members.get(""), Some(Member::Other(Value::Object(_)))));
    }

    #[test]
    fn members_are_texts_and_numbers() {
        let members = members(br#"{"t":"a","\u0065":"\u0062","n":-1,"u":7,"f":1.5}"#).unwrap();
        assert_eq!((members.text("t"), members.text("e"), members.text("n")), (Some("a"), Some("b"), None));
        let number = |name| members.get(name).and_then(Member::as_f64);
        assert_eq!((number("n"), number("u"), number("f"), number("t")), (Some(-1.0), Some(7.0), Some(1.5), None));
        let whole = |name| members.get(name).and_then(Member::as_u64);
        assert_eq!((whole("n"), whole("u"), whole("f"), whole("x")), (None, Some(7), None, None));
    }

    #[test]
    fn text_with_two_readings_is_refused() {
        let refused: [&[u8]; 9] = [
            br#"{"a":1,"a":1}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"{"x":[{"a":1,"a":2}]}"#,
            br#"[1]"#,
            br#""text""#,
            br#"{} {}"#,
            b"{\"a\":\"\xff\"}",
            br#"{"a":"\ud800"}"#,
            br#"{"a":1e999}"#,
        ];
        for text in refused {
            assert!(object(text).is_err(), "{}", String::from_utf8_lossy(text));
            assert!(members(text).is_err(), "{}", String::from_utf8_lossy(text));
            let is_value = [&b"[1]"[..], br#""text""#].contains(&text);
            assert_eq!(value(text).is_ok(), is_value, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn error_does_not_quote_a_value() {
        for text in [
            r#""hush""#,
            r#" "hush" "#,
            r#"["hush"]"#,
            r#"{"a":"hush"#,
            r#"{"a":"hush"} "hush""#,
            r#"{"a":"hush","a":1}"#,
        ] {
            let error = object(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{text}: {error}");
            let error = value(text.as_bytes()).err().map(|error| error.to_string());
            assert!(error.is_none_or(|error| !error.contains("hush")), "{text}");
        }
        assert!(object(b"\n{}").is_ok());
    }

    #[test]
    fn repeated_member_among_many_is_refused() {
        for (count, repeated) in [(31, 30), (32, 0), (5_000, 2_500)] {
            let names = (0..count).map(|number| format!(r#""{number}":0"#)).collect::<Vec<_>>().join(",");
            assert_eq!(object(format!("{{{names}}}").as_bytes()).unwrap().len(), count);
            let error = object(format!(r#"{{{names},"{repeated}":0}}"#).as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{repeated}` appears more than once")), "{error}");
        }
    }

    #[test]
    fn plain_object_is_read_as_serde_json_reads_it() {
        for (text, is_plain) in [
            (r#"{"a":"b"}"#, true),
            (r#"{"a":"","":0,"c":10,"d":123456789012345}"#, true),
            (r#"{"a":"\u{e9}{}[],:","b":1}"#, false),
            ("{\"a\":\"\u{e9}{}[],:\",\"b\":1}", true),
            (r#"{"a":"b\"c"}"#, false),
            (r#"{"a":1234567890123456}"#, false),
            (r#"{"a":-1}"#, false),
            (r#"{"a":1.5}"#, false),
            (r#"{"a":1e3}"#, false),
            (r#"{"a":01}"#, false),
            (r#"{"a":"b",}"#, false),
            (r#"{"a":"b"}}"#, false),
            (r#"{"a":"b"} "#, false),
            (r#"{"a": "b"}"#, false),
            (r#"{"a":true}"#, false),
            (r#"{"a":"b","a":"b"}"#, false),
            (r#"{"a":}"#, false),
            (r#"{"a":"b""#, false),
            (r#"{}"#, false),
            ("", false),
        ] {
            let plain = plain_members(text.as_bytes());
            assert_eq!(plain.is_some(), is_plain, "{text}");
            if let Some(plain) = plain {
                let expected: Value = serde_json::from_str(text).unwrap();
                assert_eq!(Value::Object(plain.into_map()), expected, "{text}");
            }
        }
    }
}
