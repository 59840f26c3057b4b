//! Conditional requests (RFC 9110 13), as far as a version can meet them.

use http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_NONE_MATCH},
};

use super::reply::StoreProblem;
use crate::wire;
use fastauth_core::store::Condition;

/// Returns true if the caller of a GET has this version, so that the answer is 304.
pub(super) fn is_known(headers: &HeaderMap, version: Option<u64>) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // The tags of this server contain no comma.
    let mut tags = tags.flat_map(|value| value.split(',')).map(str::trim);
    version.is_some_and(|held| {
        tags.any(|tag| tag == "*" || wire::version(tag.strip_prefix("W/").unwrap_or(tag)) == Some(held))
    })
}

/// Reads the condition of a write.
pub(super) fn parse(headers: &HeaderMap) -> Result<Condition, StoreProblem> {
    match (single(headers, &IF_MATCH)?, single(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::None),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tag), None) => strong(tag).map(Condition::Version),
        _ => Err(StoreProblem::bad_request("a write takes If-Match with one version, or If-None-Match: *")),
    }
}

/// Reads the version that a revocation is for.
pub(super) fn parse_version(headers: &HeaderMap) -> Result<Option<u64>, StoreProblem> {
    match parse(headers)? {
        Condition::None => Ok(None),
        Condition::Version(version) => Ok(Some(version)),
        Condition::Absent => Err(StoreProblem::bad_request("a revocation takes If-Match with one version")),
    }
}

/// Reads a strong tag. One that is weak, or not of this server, matches no version that is held.
fn strong(tag: &str) -> Result<u64, StoreProblem> {
    match tag {
        "*" => Err(StoreProblem::bad_request("If-Match takes one version here, not *")),
        tag if tag.contains(',') => Err(StoreProblem::bad_request("If-Match takes one version here")),
        tag => wire::version(tag).ok_or_else(StoreProblem::precondition_failed),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, StoreProblem> {
    let mut values = headers.get_all(name).iter();
    let unread = || StoreProblem::bad_request(format!("{name} must appear at most once, in ASCII"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|value| Some(value.trim())).map_err(|_| unread()),
        (Some(_), Some(_)) => Err(unread()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_get_is_weak_and_takes_lists() {
        for (value, expected) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("*", true),
            ("\"1\", \"7\"", true),
            ("\"8\"", false),
            ("7", false),
            ("", false),
        ] {
            assert_eq!(is_known(&headers(&[(IF_NONE_MATCH, value)]), Some(7)), expected, "{value}");
        }
        assert!(!is_known(&headers(&[(IF_NONE_MATCH, "*")]), None));
        assert!(!is_known(&headers(&[]), Some(7)));
    }

    #[test]
    fn a_write_is_strong_and_takes_one() {
        let parsed = |lines: &[_]| parse(&headers(lines)).map_err(|problem| problem.into_reply(true).status().as_u16());
        for (lines, expected) in [
            (&[][..], Ok(Condition::None)),
            (&[(IF_MATCH, "\"7\"")], Ok(Condition::Version(7))),
            (&[(IF_NONE_MATCH, "*")], Ok(Condition::Absent)),
            (&[(IF_MATCH, "W/\"7\"")], Err(412)),
            (&[(IF_MATCH, "\"x\"")], Err(412)),
            (&[(IF_MATCH, "*")], Err(400)),
            (&[(IF_MATCH, "\"7\", \"8\"")], Err(400)),
            (&[(IF_NONE_MATCH, "\"7\"")], Err(400)),
            (&[(IF_MATCH, "\"7\""), (IF_NONE_MATCH, "*")], Err(400)),
        ] {
            assert_eq!(parsed(lines), expected, "{lines:?}");
        }
    }
}
