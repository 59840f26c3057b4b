//! JSON read strictly: an object whose members are all different, at every depth.
//!
//! RFC 8259 leaves a repeated member to the reader, and readers differ: a token or a configuration that says two
//! things is refused instead (RFC 7515 4 and RFC 7519 4 ask for that).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads one JSON object from UTF-8 text, and nothing behind it.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_slice(text)? {
        Strict(Value::Object(members)) => Ok(members),
        Strict(_) => Err(serde_json::Error::custom("not an object")),
    }
}

/// Reads one JSON object as [`object`] does, and takes from it what can be had without copying.
pub fn members(text: &[u8]) -> Result<Members<'_>, serde_json::Error> {
    serde_json::from_slice(text)
}

/// Reads the members of an object one by one, as long as it is made of what most tokens are made of, without white space: texts
/// without escapes, and whole numbers. `None` says nothing but that there is something else in it.
///
/// The names may be repeated, unlike those of [`members`].
pub fn plain_members<'a>(text: &'a [u8], mut take: impl FnMut(&'a str, Member<'a>) -> Option<()>) -> Option<()> {
    // All bytes are looked at, which compiles to a few vector instructions.
    let (blocks, rest) = text.as_chunks::<16>();
    if blocks.iter().any(|block| holds_odd(block)) || holds_odd(rest) {
        return None;
    }
    let mut rest = Plain(std::str::from_utf8(text).ok()?);
    rest.skip(b'{')?;
    loop {
        let name = rest.text()?;
        rest.skip(b':')?;
        take(name, rest.value()?)?;
        if rest.0 == "}" {
            return Some(());
        }
        rest.skip(b',')?;
    }
}

#[inline]
fn holds_odd(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |odd, byte| odd | u8::from(*byte == b'\\') | u8::from(*byte < b' ')) != 0
}

/// What is left to read of a JSON text without escapes and control characters.
struct Plain<'a>(&'a str);

impl<'a> Plain<'a> {
    #[inline]
    fn skip(&mut self, byte: u8) -> Option<()> {
        let is_next = self.0.as_bytes().first() == Some(&byte);
        is_next.then(|| self.0 = &self.0[1..])
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        self.skip(b'"')?;
        let end = self.0.bytes().position(|byte| byte == b'"')?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        self.skip(b'"')?;
        Some(text)
    }

    #[inline]
    fn value(&mut self) -> Option<Member<'a>> {
        if self.0.as_bytes().first() == Some(&b'"') {
            self.text().map(|text| Member::Text(Cow::Borrowed(text)))
        } else {
            self.number().map(|number| Member::Number(number.into()))
        }
    }

    /// Any number of so few digits is one that a float holds exactly. What comes after it is not looked at.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        const MAX_DIGITS: usize = 15;
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(end);
        let is_plain = end <= MAX_DIGITS && (digits == "0" || !digits.starts_with('0'));
        self.0 = rest;
        if is_plain { digits.parse().ok() } else { None }
    }
}

/// The members of an object.
pub struct Members<'a>(Vec<(Cow<'a, str>, Member<'a>)>);

/// The value of a member.
pub enum Member<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    /// Anything else.
    Other(Value),
}

impl<'a> Members<'a> {
    pub fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().find(|(other, _)| is_same(other, name)).map(|(_, member)| member)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Member<'a>)> {
        self.0.iter().map(|(name, member)| (&**name, member))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Member::as_str)
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (Cow<'a, str>, Member<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// As `==`, which calls a function to compare: the short names in tokens mostly differ in their lengths or first bytes.
#[inline]
fn is_same(name: &str, other: &str) -> bool {
    let (name, other) = (name.as_bytes(), other.as_bytes());
    name.len() == other.len() && name.first() == other.first() && name == other
}

impl Member<'_> {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
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

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members(Vec::with_capacity(12));
        while let Some(Text(name)) = map.next_key()? {
            if members.get(&name).is_some() {
                return Err(repeated(&name));
            }
            members.0.push((name, map.next_value_seed(MemberVisitor)?));
        }
        Ok(members)
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match MemberVisitor.deserialize(deserializer)? {
            Member::Text(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("not a text")),
        }
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

    fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
        StrictVisitor.visit_unit().map(Member::Other)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Member<'de>, E> {
        StrictVisitor.visit_bool(value).map(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Member<'de>, A::Error> {
        StrictVisitor.visit_seq(items).map(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Member<'de>, A::Error> {
        StrictVisitor.visit_map(members).map(Member::Other)
    }
}

fn repeated<E: Error>(name: &str) -> E {
    E::custom(format_args!("`{name}` is there twice"))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictVisitor.deserialize(deserializer).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(StrictVisitor)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(repeated(&name));
            }
            object.insert(name, members.next_value_seed(StrictVisitor)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
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
    fn refuses_what_can_be_read_in_two_ways() {
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
        }
    }
}
