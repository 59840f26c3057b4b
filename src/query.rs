//! One parameter of a query, read strictly.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Why a parameter has no single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("the parameter is there more than once")]
    Repeated,
    #[error("the parameter is not percent-encoded UTF-8")]
    NotText,
}

/// The value of `name` in a form-encoded query (`+` is a space), or `None` where it is not there.
///
/// Strict where the WHATWG's form decoding is not: a `%` that two hex digits do not follow (RFC 3986 2.1) and bytes that
/// are no UTF-8 are refused rather than kept or replaced, since two ids must not become one.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, ParameterError> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key).as_deref() == Some(name)).then_some(value)
    });
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(ParameterError::Repeated),
        (Some(value), None) => decode(value).map(Some).ok_or(ParameterError::NotText),
    }
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        return segment(&text.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()));
    }
    segment(text)
}

/// The text of a percent-encoded part of a path, read as strictly as a query. A `+` is a plus sign there.
pub(crate) fn segment(text: &str) -> Option<Cow<'_, str>> {
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
    fn reads_one_parameter() {
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
}
