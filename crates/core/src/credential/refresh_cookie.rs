//! The refresh token in a cookie, which browsers send with every request: the guard takes it out, and only the token
//! endpoints find it again.

use std::str;

use http::{HeaderMap, HeaderValue, Request, header::COOKIE, request::Parts};

use super::{Carries, Scheme};
use crate::secret::Secret;

/// The name of the cookie. By the prefix, browsers accept it only from this host and over TLS.
pub const REFRESH_COOKIE: &str = "__Host-fastauth-refresh";

pub(super) static REFRESH_TOKEN: Scheme = Scheme {
    name: REFRESH_COOKIE,
    carries: Carries::RefreshToken,
    header: Some(COOKIE),
    read: None,
    challenge: None,
    openapi: None,
};

/// The cookie appears more than once, and it is unknown who set which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedCookie;

/// The refresh token that the guard took out of a request.
#[derive(Clone, Debug)]
struct Taken(Result<Secret, RepeatedCookie>);

/// Takes the refresh token out of `Cookie`, and leaves the other cookies as they are.
pub(super) fn take<B>(request: &mut Request<B>) {
    if !request.headers().get_all(COOKIE).iter().any(may_have_ours) {
        return;
    }
    let taken = match only(request.headers()) {
        Ok(None) => return,
        Ok(Some(token)) => Ok(Secret::from(token)),
        Err(repeated) => Err(repeated),
    };
    let lines: Vec<_> = request.headers().get_all(COOKIE).iter().filter_map(without).collect();
    let headers = request.headers_mut();
    headers.remove(COOKIE);
    for line in lines {
        headers.append(COOKIE, line);
    }
    request.extensions_mut().insert(Taken(taken));
}

/// Returns true if our cookie may be among those of a line. It finds the name faster than a reader of all pairs.
fn may_have_ours(line: &HeaderValue) -> bool {
    str::from_utf8(line.as_bytes()).map_or(true, |line| line.contains(REFRESH_COOKIE))
}

/// Returns the refresh token in the cookie of a request, from which the guard may have taken it out.
///
/// # Errors
///
/// Returns an error if the cookie is there more than once.
pub fn refresh_token(request: &Parts) -> Result<Option<&str>, RepeatedCookie> {
    match request.extensions.get::<Taken>() {
        Some(Taken(taken)) => taken.as_ref().map(|token| Some(token.expose())).map_err(|repeated| *repeated),
        None => only(&request.headers),
    }
}

fn only(headers: &HeaderMap) -> Result<Option<&str>, RepeatedCookie> {
    let mut values = headers.get_all(COOKIE).iter().flat_map(pairs).filter_map(value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(RepeatedCookie),
        // A value that is not text becomes an empty one, which no token is.
        (value, None) => Ok(value.map(|value| std::str::from_utf8(value).unwrap_or_default())),
    }
}

fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

/// Returns the value of a pair, if it is our cookie.
fn value(pair: &[u8]) -> Option<&[u8]> {
    let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
    (name.trim_ascii() == REFRESH_COOKIE.as_bytes()).then(|| value[1..].trim_ascii())
}

/// Returns a line without our cookie, if anything is left of it.
fn without(line: &HeaderValue) -> Option<HeaderValue> {
    if pairs(line).all(|pair| value(pair).is_none()) {
        return Some(line.clone());
    }
    let others: Vec<_> = pairs(line).filter(|pair| value(pair).is_none()).collect();
    let left = others.join(&b';');
    let mut left = HeaderValue::from_bytes(left.trim_ascii()).ok().filter(|left| !left.is_empty())?;
    left.set_sensitive(true);
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_is_found_among_others() {
        let found = |lines: &[&'static [u8]]| {
            let lines = lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line).unwrap()));
            only(&lines.collect()).map(|value| value.map(str::to_owned))
        };
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[b"a=1; __Host-fastauth-refresh=x.y.z; b=2"]), Ok(Some("x.y.z".to_owned())));
        assert_eq!(found(&[b"a=1", b"__Host-fastauth-refresh=x.y.z"]), Ok(Some("x.y.z".to_owned())));
        for other in ["__host-fastauth-refresh=x", "__Host-fastauth-refresh-2=x", "x__Host-fastauth-refresh=x"] {
            assert_eq!(found(&[other.as_bytes()]), Ok(None), "{other}");
        }
        assert_eq!(found(&[b"__Host-fastauth-refresh=\xff"]), Ok(Some(String::new())));
        for twice in [
            &[b"__Host-fastauth-refresh=x; __Host-fastauth-refresh=x".as_slice()][..],
            &[b"__Host-fastauth-refresh=x", b"__Host-fastauth-refresh=y"],
        ] {
            assert_eq!(found(twice), Err(RepeatedCookie));
        }
    }
}
