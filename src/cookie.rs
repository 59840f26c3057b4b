//! The cookie of the refresh token, which browsers send with every request: the guard takes it out, and only the token
//! router finds it again.

use http::{HeaderMap, HeaderValue, Request, header::COOKIE, request::Parts};

use crate::secret::Secret;

/// Holds the refresh token. The prefix has browsers take it from this host alone, and over TLS.
pub(crate) const REFRESH_COOKIE: &str = "__Host-fastauth-refresh";

/// There is more than one, and nobody knows who set which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RepeatedCookie;

/// What the guard took out of a request.
#[derive(Clone, Debug)]
struct Taken(Result<Secret, RepeatedCookie>);

/// Takes the refresh token out of `Cookie`, and leaves the other cookies as they are.
pub(crate) fn take<B>(request: &mut Request<B>) {
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

/// The refresh token that a request brings in its cookie, which the guard may have taken out.
pub(crate) fn refresh_token(request: &Parts) -> Result<Option<&str>, RepeatedCookie> {
    match request.extensions.get::<Taken>() {
        Some(Taken(taken)) => taken.as_ref().map(|token| Some(token.expose())).map_err(|repeated| *repeated),
        None => only(&request.headers),
    }
}

fn only(headers: &HeaderMap) -> Result<Option<&str>, RepeatedCookie> {
    let mut values = headers.get_all(COOKIE).iter().flat_map(pairs).filter_map(value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(RepeatedCookie),
        // What is no text is no token, and the empty one is what is left of it.
        (value, None) => Ok(value.map(|value| std::str::from_utf8(value).unwrap_or_default())),
    }
}

fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

/// The value of a pair that is our cookie.
fn value(pair: &[u8]) -> Option<&[u8]> {
    let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
    (name.trim_ascii() == REFRESH_COOKIE.as_bytes()).then(|| value[1..].trim_ascii())
}

/// What is left of a line; `None` where that is nothing.
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
    fn it_is_found_among_others() {
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
