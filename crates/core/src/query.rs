//! Strict reading of query and form parameters.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

/// A parameter without a single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The parameter appears more than once.
    #[error("the parameter appears more than once")]
    Repeated,
    /// The parameter is not percent-encoded UTF-8.
    #[error("the parameter is not percent-encoded UTF-8")]
    NotText,
    /// The parameter is not a text.
    #[error("the parameter is not a text")]
    NotAString,
    /// The parameter is neither `true` nor `false`.
    #[error("the parameter is neither true nor false")]
    NotAFlag,
}

/// Returns the value of `name` in a form-encoded query (`+` is a space), or `None` if it is missing.
///
/// It is stricter than the WHATWG's form decoding: a `%` without two hex digits (RFC 3986 2.1) and bytes that are not UTF-8 are
/// refused instead of kept or replaced, so that two client ids cannot become one.
///
/// # Errors
///
/// If the parameter appears more than once or cannot be decoded.
pub fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, ParameterError> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = split(pair);
        (decode(key).as_deref() == Some(name)).then_some(value)
    });
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(ParameterError::Repeated),
        (Some(value), None) => decode(value).map(Some).ok_or(ParameterError::NotText),
    }
}

/// Reads all parameters of a form (`application/x-www-form-urlencoded`) as texts, as strictly as [`parameter`] does.
///
/// # Errors
///
/// If a parameter appears more than once or cannot be decoded.
pub fn form(text: &str) -> Result<Map<String, Value>, ParameterError> {
    let mut parameters = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = split(pair);
        let (Some(name), Some(value)) = (decode(name), decode(value)) else { return Err(ParameterError::NotText) };
        if parameters.insert(name.into_owned(), Value::String(value.into_owned())).is_some() {
            return Err(ParameterError::Repeated);
        }
    }
    Ok(parameters)
}

/// Removes a parameter from a query.
#[must_use]
pub fn without(query: &str, name: &str) -> String {
    let others = query.split('&').filter(|pair| decode(split(pair).0).as_deref() != Some(name));
    others.collect::<Vec<_>>().join("&")
}

fn split(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        return segment(&text.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()));
    }
    segment(text)
}

/// Decodes a percent-encoded part of a path, as strictly as a query. There, a `+` is a plus sign.
#[must_use]
pub fn segment(text: &str) -> Option<Cow<'_, str>> {
    let is_escape =
        |at: usize| text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !text.match_indices('%').all(|(at, _)| is_escape(at)) {
        return None;
    }
    percent_decode(text.as_bytes()).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_parameter_is_read() {
        let table: [(&str, Result<Option<&str>, ParameterError>); 13] = [
            ("", Ok(None)),
            ("b=1", Ok(None)),
            ("a=1", Ok(Some("1"))),
            ("b=2&a=1&c", Ok(Some("1"))),
            ("a", Ok(Some(""))),
            ("a=", Ok(Some(""))),
            ("%61=x%20y+z%2B", Ok(Some("x y z+"))),
            ("a=1=2", Ok(Some("1=2"))),
            ("a=%C3%A9", Ok(Some("é"))),
            ("a=%ff", Err(ParameterError::NotText)),
            ("a=100%", Err(ParameterError::NotText)),
            ("a=%+1", Err(ParameterError::NotText)),
            ("a=1&a=1", Err(ParameterError::Repeated)),
        ];
        for (query, expected) in table {
            let found = parameter(query, "a");
            assert_eq!(
                found.as_ref().map(|value| value.as_deref()),
                expected.as_ref().map(|value| *value),
                "{query:?}"
            );
        }
    }

    #[test]
    fn form_is_read() {
        let found = form("a=1&&b+c=%C3%A9+x&d").unwrap();
        assert_eq!(Value::Object(found), serde_json::json!({ "a": "1", "b c": "é x", "d": "" }));
        for (text, expected) in [
            ("a=1&%61=2", ParameterError::Repeated),
            ("x=1&x=1&a=2", ParameterError::Repeated),
            ("a=%ff", ParameterError::NotText),
            ("%zz=1", ParameterError::NotText),
        ] {
            assert_eq!(form(text), Err(expected), "{text}");
        }
    }
}
