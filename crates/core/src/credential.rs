//! Where a credential may stand in a request: which headers, and only one of each.

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, COOKIE, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
    request::Parts,
};

/// Carries the static secret.
pub const MASTER_TOKEN: HeaderName = HeaderName::from_static("master-token");

/// As it stands in messages.
pub const MASTER_TOKEN_SPELLING: &str = "MASTER-TOKEN";

/// Carries a client's access token.
pub const ACCESS_TOKEN: HeaderName = HeaderName::from_static("access-token");

/// The names of the headers in which an access token may stand, as they are configured.
const ACCESS_TOKEN_SPELLING: &str = "ACCESS-TOKEN";
const AUTHORIZATION_SPELLING: &str = "Authorization";

/// In which headers access tokens are looked for. What else stands in the other one is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHeaders {
    access_token: bool,
    pub authorization: bool,
}

impl TokenHeaders {
    /// Both.
    pub const ALL: Self = Self { access_token: true, authorization: true };

    /// Those of these names, whose case is free; the error is the one that is none.
    pub fn named(names: &[String]) -> Result<Self, &str> {
        let mut sources = Self { access_token: false, authorization: false };
        for name in names {
            match name {
                name if name.eq_ignore_ascii_case(ACCESS_TOKEN_SPELLING) => sources.access_token = true,
                name if name.eq_ignore_ascii_case(AUTHORIZATION_SPELLING) => sources.authorization = true,
                name => return Err(name),
            }
        }
        Ok(sources)
    }

    /// Those of two things, one for each header, that are used.
    pub fn of<T>(self, access_token: T, authorization: T) -> impl Iterator<Item = T> {
        let used = [(self.access_token, access_token), (self.authorization, authorization)];
        used.into_iter().filter_map(|(is_used, thing)| is_used.then_some(thing))
    }
}

/// Why the credentials of a request have no single reading (RFC 6750 3.1: `invalid_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The header is there more than once.
    #[error("the header {0} is there more than once")]
    Repeated(&'static str),
    /// `ACCESS-TOKEN` and `Authorization: Bearer` carry two different tokens.
    #[error("ACCESS-TOKEN and Authorization carry different tokens")]
    Conflicting,
    /// The protocol `fastauth` is offered more than once in a WebSocket handshake.
    #[error("the protocol fastauth is offered more than once")]
    RepeatedProtocol,
    /// `Sec-WebSocket-Protocol` carries another token than the other headers.
    #[error("Sec-WebSocket-Protocol carries another token than the headers")]
    ConflictingProtocol,
    /// The parameter `ticket` of a WebSocket handshake is there more than once.
    #[error("the parameter ticket is there more than once")]
    RepeatedTicket,
}

/// The credentials that a request presents, found in one pass over its headers: a look-up in a map of a few headers takes
/// as long as that by itself.
#[derive(Default)]
pub struct Presented<'a> {
    master: Values<'a>,
    access: Values<'a>,
    /// What follows `Bearer` in the first `Authorization` of that scheme; other schemes are somebody else's.
    bearer: Option<&'a [u8]>,
    authorizations: usize,
}

impl<'a> Presented<'a> {
    #[inline]
    pub fn of(headers: &'a HeaderMap, sources: TokenHeaders) -> Self {
        let mut presented = Self::default();
        for (name, value) in headers {
            if *name == AUTHORIZATION && sources.authorization {
                presented.bearer = presented.bearer.or_else(|| bearer(value));
                presented.authorizations += 1;
            } else if *name == ACCESS_TOKEN && sources.access_token {
                presented.access.add(value);
            } else if *name == MASTER_TOKEN {
                presented.master.add(value);
            }
        }
        presented
    }

    /// The value of `MASTER-TOKEN`, if there is one.
    pub fn master_token(&self) -> Result<Option<&'a [u8]>, CredentialError> {
        self.master.only(MASTER_TOKEN_SPELLING)
    }

    /// The access token: the value of `ACCESS-TOKEN`, or what follows `Bearer` in `Authorization` (RFC 6750 2.1).
    pub fn access_token(&self) -> Result<Option<&'a [u8]>, CredentialError> {
        let direct = self.access.only(ACCESS_TOKEN_SPELLING)?;
        match (direct, self.bearer) {
            (_, Some(_)) if self.authorizations > 1 => Err(CredentialError::Repeated(AUTHORIZATION_SPELLING)),
            (Some(direct), Some(bearer)) if direct != bearer => Err(CredentialError::Conflicting),
            (direct, bearer) => Ok(direct.or(bearer)),
        }
    }
}

/// The values of one header.
#[derive(Default)]
struct Values<'a> {
    first: Option<&'a HeaderValue>,
    are_several: bool,
}

impl<'a> Values<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.are_several = self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    fn only(&self, spelling: &'static str) -> Result<Option<&'a [u8]>, CredentialError> {
        if self.are_several {
            Err(CredentialError::Repeated(spelling))
        } else {
            Ok(self.first.map(HeaderValue::as_bytes))
        }
    }
}

/// What the names of a request's headers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No header carries a credential.
    Nothing,
    /// A header carries a credential.
    Credentials,
    /// The request may be a handshake, which can carry a credential in its URI, too.
    Upgrade,
}

/// Looks for headers that carry a credential or ask for an upgrade. One pass over the names beats the look-ups in the usual
/// case, in which there is none.
#[inline]
pub fn look(headers: &HeaderMap) -> Found {
    let mut found = Found::Nothing;
    for name in headers.keys() {
        if *name == UPGRADE {
            return Found::Upgrade;
        }
        if is_credential(name) {
            found = Found::Credentials;
        }
    }
    found
}

/// Which headers there are that have more to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub cookie: bool,
    pub upgrade: bool,
}

/// Keeps the credentials out of the `Debug` form of the headers, which is what layers beneath would log, and tells on the
/// way what else there is.
pub fn mark_sensitive(headers: &mut HeaderMap) -> Seen {
    let mut seen = Seen::default();
    // Not by `entry`, which makes room for one more header and so may allocate.
    for (name, value) in headers.iter_mut() {
        if is_credential(name) {
            value.set_sensitive(true);
        }
        seen.cookie |= *name == COOKIE;
        seen.upgrade |= *name == UPGRADE;
    }
    seen
}

#[inline]
fn is_credential(name: &HeaderName) -> bool {
    *name == MASTER_TOKEN
        || *name == ACCESS_TOKEN
        || *name == AUTHORIZATION
        || *name == COOKIE
        || *name == SEC_WEBSOCKET_PROTOCOL
}

/// Whether a browser sent the request for a page of another origin, by what it says of that itself (Fetch Metadata), or
/// else by the `Origin`. Whatever is no browser says neither.
pub fn is_cross_origin(request: &Parts) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let headers = &request.headers;
    if headers.contains_key(SITE) {
        return !matches!(only(headers, &SITE), Some(b"same-origin" | b"none"));
    }
    if !headers.contains_key(ORIGIN) {
        return false;
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| only(headers, &HOST));
    !only(headers, &ORIGIN).zip(host).is_some_and(|(origin, host)| is_own_origin(origin, host))
}

/// Whether a page of this origin is one of the application's at this host. What is at stake is a cookie that browsers hold for
/// pages over TLS alone, or on their own machine, so the application is there.
fn is_own_origin(origin: &[u8], host: &[u8]) -> bool {
    if let Some(of_page) = origin.strip_prefix(b"https://") {
        return is_same_host(of_page, host, b":443");
    }
    let of_page = origin.strip_prefix(b"http://").filter(|of_page| is_own_machine(of_page));
    of_page.is_some_and(|of_page| is_same_host(of_page, host, b":80"))
}

/// Compares two hosts with their ports, of which the usual one may be left out.
fn is_same_host(one: &[u8], other: &[u8], usual_port: &[u8]) -> bool {
    let without = |host: &[u8]| host.strip_suffix(usual_port).unwrap_or(host).to_ascii_lowercase();
    without(one) == without(other)
}

fn is_own_machine(host_and_port: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"localhost", b"127.0.0.1", b"[::1]"];
    NAMES.iter().any(|name| matches!(host_and_port.strip_prefix(*name), Some([] | [b':', ..])))
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// What follows the scheme `Bearer`, whose case is free (RFC 9110 11.1).
pub fn bearer(authorization: &HeaderValue) -> Option<&[u8]> {
    of_scheme(authorization, b"bearer")
}

/// What follows this scheme, if it is the one that is used.
pub fn of_scheme<'a>(authorization: &'a HeaderValue, expected: &[u8]) -> Option<&'a [u8]> {
    let value = authorization.as_bytes();
    let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    scheme.eq_ignore_ascii_case(expected).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn access_token_stands_in_one_place() {
        const REPEATED: CredentialError = CredentialError::Repeated("ACCESS-TOKEN");
        const REPEATED_AUTHORIZATION: CredentialError = CredentialError::Repeated("Authorization");
        type Row =
            (&'static str, &'static [(&'static str, &'static str)], Result<Option<&'static str>, CredentialError>);
        let table: [Row; 14] = [
            ("nothing", &[], Ok(None)),
            ("header", &[("access-token", "t")], Ok(Some("t"))),
            ("empty header", &[("access-token", "")], Ok(Some(""))),
            ("bearer", &[("authorization", "Bearer t")], Ok(Some("t"))),
            ("any case", &[("authorization", "bEARER  t")], Ok(Some("t"))),
            ("bearer of nothing", &[("authorization", "Bearer")], Ok(Some(""))),
            ("basic is not ours", &[("authorization", "Basic dDp0")], Ok(None)),
            ("basic beside ours", &[("access-token", "t"), ("authorization", "Basic dDp0")], Ok(Some("t"))),
            ("bearerish", &[("authorization", "Bearert")], Ok(None)),
            ("the same twice", &[("access-token", "t"), ("authorization", "Bearer t")], Ok(Some("t"))),
            ("two", &[("access-token", "t"), ("authorization", "Bearer u")], Err(CredentialError::Conflicting)),
            ("repeated", &[("access-token", "t"), ("access-token", "t")], Err(REPEATED)),
            (
                "bearer twice",
                &[("authorization", "Bearer t"), ("authorization", "Bearer t")],
                Err(REPEATED_AUTHORIZATION),
            ),
            (
                "bearer behind basic",
                &[("authorization", "Basic dDp0"), ("authorization", "Bearer t")],
                Err(REPEATED_AUTHORIZATION),
            ),
        ];
        for (name, lines, expected) in table {
            let headers = headers(lines);
            assert_eq!(
                Presented::of(&headers, TokenHeaders::ALL).access_token(),
                expected.map(|token| token.map(str::as_bytes)),
                "{name}"
            );
        }
    }

    #[test]
    fn tokens_are_looked_for_where_they_may_be() {
        let both = headers(&[("access-token", "t"), ("authorization", "Bearer u"), ("authorization", "Bearer v")]);
        for (names, expected) in [(&["ACCESS-TOKEN"][..], Some("t")), (&["access-token"], Some("t")), (&[], None)] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = Presented::of(&both, TokenHeaders::named(&names).unwrap()).access_token();
            assert_eq!(found, Ok(expected.map(str::as_bytes)), "{names:?}");
        }
        let own = headers(&[("access-token", "t"), ("access-token", "u"), ("authorization", "Bearer v")]);
        let sources = TokenHeaders::named(&["Authorization".to_owned()]).unwrap();
        assert_eq!(Presented::of(&own, sources).access_token(), Ok(Some(b"v".as_slice())));
        assert_eq!(TokenHeaders::named(&["ACCESS-TOKEN".to_owned(), "Cookie".to_owned()]), Err("Cookie"));
        assert_eq!(
            TokenHeaders::named(&["Authorization".to_owned(), "access-token".to_owned()]),
            Ok(TokenHeaders::ALL)
        );
    }

    #[test]
    fn master_token_stands_in_one_place() {
        const REPEATED: CredentialError = CredentialError::Repeated("MASTER-TOKEN");
        for (lines, expected) in [
            (&[("authorization", "Bearer m")][..], Ok(None)),
            (&[("master-token", "m")], Ok(Some(b"m".as_slice()))),
            (&[("master-token", "m"), ("master-token", "m")], Err(REPEATED)),
            (
                &[("master-token", "m"), ("access-token", "t"), ("master-token", "m"), ("master-token", "m")],
                Err(REPEATED),
            ),
        ] {
            assert_eq!(Presented::of(&headers(lines), TokenHeaders::ALL).master_token(), expected, "{lines:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_told_from_others() {
        let cross_origin = |uri: &str, lines: &[(&'static str, &'static str)]| {
            let mut request = http::Request::builder().uri(uri);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            is_cross_origin(&request.body(()).unwrap().into_parts().0)
        };
        for (name, uri, lines, expected) in [
            ("no browser", "/", vec![("host", "app.example")], false),
            ("the same page", "/", vec![("sec-fetch-site", "same-origin"), ("origin", "https://x.example")], false),
            ("the address bar", "/", vec![("sec-fetch-site", "none")], false),
            ("a subdomain", "/", vec![("sec-fetch-site", "same-site")], true),
            ("another site", "/", vec![("sec-fetch-site", "cross-site")], true),
            ("an older browser", "/", vec![("origin", "https://app.example"), ("host", "app.example")], false),
            ("its other port", "/", vec![("origin", "https://app.example:1"), ("host", "app.example")], true),
            ("HTTP/2", "https://app.example/", vec![("origin", "https://app.example")], false),
            ("elsewhere in HTTP/2", "https://app.example/", vec![("origin", "https://x.example")], true),
            ("a sandbox", "/", vec![("origin", "null"), ("host", "null")], true),
            ("no host", "/", vec![("origin", "https://app.example")], true),
            ("a page without TLS", "/", vec![("origin", "http://app.example"), ("host", "app.example")], true),
            ("the same by HTTP/2", "http://app.example/", vec![("origin", "http://app.example")], true),
            ("no scheme of pages", "/", vec![("origin", "ftp://app.example"), ("host", "app.example")], true),
            ("no scheme", "/", vec![("origin", "app.example"), ("host", "app.example")], true),
            (
                "the port that goes without",
                "/",
                vec![("origin", "https://app.example"), ("host", "app.example:443")],
                false,
            ),
            ("another port", "/", vec![("origin", "https://app.example"), ("host", "app.example:80")], true),
            ("capitals", "/", vec![("origin", "https://app.example"), ("host", "App.Example")], false),
            ("this machine", "/", vec![("origin", "http://localhost:8000"), ("host", "localhost:8000")], false),
            (
                "this machine by number",
                "/",
                vec![("origin", "http://127.0.0.1:8000"), ("host", "127.0.0.1:8000")],
                false,
            ),
            ("this machine by IPv6", "/", vec![("origin", "http://[::1]:8000"), ("host", "[::1]:8000")], false),
            (
                "its other port without TLS",
                "/",
                vec![("origin", "http://localhost:1"), ("host", "localhost:8000")],
                true,
            ),
            (
                "the machine's like",
                "/",
                vec![("origin", "http://localhost.example"), ("host", "localhost.example")],
                true,
            ),
            (
                "the number's like",
                "/",
                vec![("origin", "http://127.0.0.1.example"), ("host", "127.0.0.1.example")],
                true,
            ),
            (
                "two pages",
                "/",
                vec![("origin", "https://app.example"), ("origin", "https://x.example"), ("host", "app.example")],
                true,
            ),
            ("two sites", "/", vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], true),
            (
                "two hosts",
                "/",
                vec![("origin", "https://app.example"), ("host", "app.example"), ("host", "x.example")],
                true,
            ),
        ] {
            assert_eq!(cross_origin(uri, &lines), expected, "{name}");
        }
    }

    #[test]
    fn every_credential_is_hidden() {
        let mut headers = headers(&[
            ("master-token", "hush-1"),
            ("access-token", "hush-2"),
            ("access-token", "hush-3"),
            ("authorization", "Bearer hush-4"),
            ("cookie", "__Host-fastauth-refresh=hush-5"),
            ("sec-websocket-protocol", "fastauth, hush-6"),
            ("accept", "seen"),
        ]);
        assert_eq!(mark_sensitive(&mut headers), Seen { cookie: true, upgrade: false });
        let shown = format!("{headers:?}");
        assert!(!shown.contains("hush") && shown.contains("seen"), "{shown}");
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert!(mark_sensitive(&mut headers).upgrade);
    }
}
