//! WebSocket handshakes: the access token that a browser can send in one, and the protocol that it is answered.
//!
//! A page can set no header of a handshake but the list of protocols, so it offers `fastauth` and, right after it, its
//! access token: `new WebSocket(url, ["fastauth", token])`. The token is taken out before anybody else sees the list. A
//! browser gives up a socket for which none of the protocols that it offered was chosen.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};

use crate::{
    credentials::CredentialError,
    query::{self, ParameterError},
    secret::Secret,
};

#[cfg(feature = "websocket")]
mod closing;

#[cfg(feature = "websocket")]
pub(crate) use closing::Closing;

/// The protocol that stands before an access token.
const PROTOCOL: &str = "fastauth";
/// The parameter that carries a ticket.
const TICKET: &str = "ticket";

/// A request that asks for a WebSocket.
pub(crate) struct Handshake {
    /// What stood behind [`PROTOCOL`].
    token: Result<Option<HeaderValue>, CredentialError>,
    /// What stood in the URI.
    ticket: Result<Option<Secret>, CredentialError>,
    /// Whether [`PROTOCOL`] was offered.
    pub(crate) offers_protocol: bool,
}

impl Handshake {
    /// Takes the access token and the ticket out of a handshake, needed or not, so that nobody behind the guard logs them or
    /// passes them on; `None` where the request is none.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Self> {
        if !is_handshake(request.method(), request.headers()) {
            return None;
        }
        let ticket = ticket(request.uri()).map(|ticket| ticket.map(|ticket| Secret::from(&*ticket)));
        if !matches!(ticket, Ok(None)) {
            take_ticket(request);
        }
        let headers = request.headers_mut();
        if !offered(headers).any(|protocol| protocol == PROTOCOL.as_bytes()) {
            return Some(Self { token: Ok(None), ticket, offers_protocol: false });
        }
        let Offer { rest, tokens, times } = Offer::of(headers);
        // What is left of a header's value, separated anew, is one.
        if let Ok(rest) = HeaderValue::from_bytes(&rest) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
        }
        let token = if times == 1 { Ok(tokens.into_iter().next()) } else { Err(CredentialError::RepeatedProtocol) };
        Some(Self { token, ticket, offers_protocol: true })
    }

    /// The ticket that stood in the URI.
    pub(crate) fn ticket(&self) -> Result<Option<&Secret>, CredentialError> {
        self.ticket.as_ref().map(Option::as_ref).map_err(|error| *error)
    }

    /// The access token of a handshake that has this one in its other headers.
    pub(crate) fn access_token<'a>(&'a self, header: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, CredentialError> {
        let offered = self.token.as_ref().map_err(|error| *error)?.as_ref().map(HeaderValue::as_bytes);
        match (header, offered) {
            (Some(header), Some(offered)) if header != offered => Err(CredentialError::ConflictingProtocol),
            (header, offered) => Ok(header.or(offered)),
        }
    }
}

/// The ticket in the URI of a handshake. What is no text is no ticket.
fn ticket(uri: &Uri) -> Result<Option<Cow<'_, str>>, CredentialError> {
    match query::parameter(uri.query().unwrap_or_default(), TICKET) {
        Err(ParameterError::Repeated) => Err(CredentialError::RepeatedTicket),
        found => Ok(found.unwrap_or(Some(Cow::Borrowed("")))),
    }
}

fn take_ticket<B>(request: &mut Request<B>) {
    if let Some(uri) = without_ticket(request.uri()) {
        *request.uri_mut() = uri;
    }
    #[cfg(feature = "axum")]
    crate::extract::change_original_uri(request.extensions_mut(), without_ticket);
}

fn without_ticket(uri: &Uri) -> Option<Uri> {
    let rest = query::without(uri.query()?, TICKET);
    let path = uri.path();
    let mut parts = uri.clone().into_parts();
    let path_and_query = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    parts.path_and_query = Some(path_and_query.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns true if something behind the guard may take a request for the handshake of a WebSocket, soundly (RFC 6455 4.1,
/// RFC 8441 5) or not: each server reads `Connection` and `Upgrade` in its own way, and some look for a part of their text.
pub(crate) fn is_handshake(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::CONNECT || headers.get_all(UPGRADE).iter().any(names_websocket)
}

fn names_websocket(upgrade: &HeaderValue) -> bool {
    const NAME: &[u8] = b"websocket";
    upgrade.as_bytes().windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME))
}

/// The protocols that are offered, in their order.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(entries)
}

fn entries(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// What is offered, with the tokens apart.
#[derive(Default)]
struct Offer {
    /// The list without them.
    rest: Vec<u8>,
    tokens: Vec<HeaderValue>,
    /// How often [`PROTOCOL`] stands there.
    times: usize,
}

impl Offer {
    fn of(headers: &HeaderMap) -> Self {
        let mut offer = Self::default();
        let mut is_token = false;
        for entry in offered(headers) {
            if is_token {
                offer.tokens.extend(HeaderValue::from_bytes(entry).map(sensitive));
                is_token = false;
                continue;
            }
            is_token = entry == PROTOCOL.as_bytes();
            offer.times += usize::from(is_token);
            offer.rest.extend_from_slice(if offer.rest.is_empty() { b"" } else { b", " });
            offer.rest.extend_from_slice(entry);
        }
        offer
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Chooses [`PROTOCOL`] in the answer to a handshake that offered it, if the socket opens and no other one was chosen.
#[cold]
pub(crate) fn choose_protocol<B>(response: &mut Response<B>) {
    let opens = response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_success();
    if opens && !response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn handshake(protocols: &[&str]) -> Request<()> {
        let mut headers = vec![("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")];
        headers.extend(protocols.iter().map(|protocols| ("sec-websocket-protocol", *protocols)));
        request(Method::GET, &headers)
    }

    #[test]
    fn handshakes_are_told_from_other_requests() {
        for (expected, method, headers) in [
            (true, Method::GET, &[("upgrade", "websocket"), ("connection", "upgrade")][..]),
            (true, Method::GET, &[("upgrade", "h2c, WebSocket/13")]),
            (true, Method::GET, &[("upgrade", "h2c"), ("upgrade", "\"WEBSOCKET\"")]),
            (true, Method::POST, &[("upgrade", "xwebsockets")]),
            (true, Method::CONNECT, &[]),
            (false, Method::GET, &[("upgrade", "h2c"), ("connection", "upgrade")]),
            (false, Method::GET, &[("connection", "upgrade"), ("sec-websocket-protocol", "websocket")]),
        ] {
            let request = request(method, headers);
            assert_eq!(is_handshake(request.method(), request.headers()), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_token_stands_behind_our_protocol() {
        type Row = (&'static [&'static str], Result<Option<&'static str>, CredentialError>, &'static str);
        const REPEATED: Result<Option<&str>, CredentialError> = Err(CredentialError::RepeatedProtocol);
        let table: [Row; 10] = [
            (&["fastauth, a.b"], Ok(Some("a.b")), "fastauth"),
            (&["fastauth,a.b,chat"], Ok(Some("a.b")), "fastauth, chat"),
            (&["chat, fastauth , a.b, more"], Ok(Some("a.b")), "chat, fastauth, more"),
            (&["chat, fastauth", "a.b", "more"], Ok(Some("a.b")), "chat, fastauth, more"),
            (&["fastauth"], Ok(None), "fastauth"),
            (&["fastauth, ,, a.b"], Ok(Some("a.b")), "fastauth"),
            (&["chat, a.b"], Ok(None), "chat, a.b"),
            (&["Fastauth, a.b"], Ok(None), "Fastauth, a.b"),
            (&["fastauth, a.b, fastauth, a.b"], REPEATED, "fastauth, fastauth"),
            (&["fastauth, a.b, fastauth"], REPEATED, "fastauth, fastauth"),
        ];
        for (protocols, expected, left) in table {
            let mut request = handshake(protocols);
            let taken = Handshake::take(&mut request).unwrap();
            assert_eq!(taken.access_token(None), expected.map(|token| token.map(str::as_bytes)), "{protocols:?}");
            assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], left, "{protocols:?}");
            assert_eq!(taken.offers_protocol, left.split(", ").any(|protocol| protocol == PROTOCOL));
        }
    }

    #[test]
    fn a_token_in_a_header_has_to_be_the_same() {
        let taken = Handshake::take(&mut handshake(&["fastauth, t"])).unwrap();
        assert_eq!(taken.access_token(Some(b"t")), Ok(Some(b"t".as_slice())));
        assert_eq!(taken.access_token(Some(b"u")), Err(CredentialError::ConflictingProtocol));
        let none = Handshake::take(&mut handshake(&[])).unwrap();
        assert_eq!(none.access_token(Some(b"u")), Ok(Some(b"u".as_slice())));
    }

    #[test]
    fn a_ticket_is_taken_out_of_the_uri() {
        for (uri, expected, left) in [
            ("/ws?ticket=a.b", Ok(Some("a.b")), "/ws"),
            ("https://h:1/ws?x=1&ticket=a&y=%20", Ok(Some("a")), "https://h:1/ws?x=1&y=%20"),
            ("/ws?%74icket=a&", Ok(Some("a")), "/ws"),
            ("/ws?ticket=%ff", Ok(Some("")), "/ws"),
            ("/ws?tickets=a", Ok(None), "/ws?tickets=a"),
            ("/ws", Ok(None), "/ws"),
            ("/ws?ticket=a&ticket=a", Err(CredentialError::RepeatedTicket), "/ws"),
        ] {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            assert_eq!(
                ticket(request.uri()).as_ref().map(Option::as_deref),
                expected.as_ref().map(|found| *found),
                "{uri}"
            );
            take_ticket(&mut request);
            assert_eq!(request.uri().to_string(), left, "{uri}");
        }
    }

    #[test]
    fn what_is_no_handshake_stays_as_it_is() {
        let mut request = request(Method::GET, &[("sec-websocket-protocol", "fastauth, t")]);
        assert!(Handshake::take(&mut request).is_none());
        assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "fastauth, t");
    }
}
