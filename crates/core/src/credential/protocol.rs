//! The access token among the protocols of a WebSocket handshake.
//!
//! A page can set no header of a handshake but the list of protocols, so it offers `fastauth` and, right after it, its
//! access token: `new WebSocket(url, ["fastauth", token])`. The token is taken out before anything else sees the list. A
//! browser closes a socket for which none of the protocols that it offered was chosen.

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};

use super::{Carries, CredentialError, Scheme};

pub(super) static PROTOCOL_TOKEN: Scheme = Scheme {
    name: "Sec-WebSocket-Protocol",
    carries: Carries::AccessToken,
    header: Some(SEC_WEBSOCKET_PROTOCOL),
    read: None,
    challenge: None,
    openapi: None,
};

/// The protocol that stands before an access token.
pub const PROTOCOL: &str = "fastauth";

/// What a handshake offered.
pub(super) struct Offered {
    /// The access token that stood behind [`PROTOCOL`].
    pub(super) token: Result<Option<HeaderValue>, CredentialError>,
    /// [`PROTOCOL`] was offered, so it has to be chosen.
    pub(super) protocol: bool,
}

/// Takes the access token out of the list of protocols.
pub(super) fn take(headers: &mut HeaderMap) -> Offered {
    if !offered(headers).any(|protocol| protocol == PROTOCOL.as_bytes()) {
        return Offered { token: Ok(None), protocol: false };
    }
    let Offer { rest, tokens, times } = Offer::read(headers);
    // Parts of a header's value, joined by commas, are one.
    if let Ok(rest) = HeaderValue::from_bytes(&rest) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    }
    let token = if times == 1 { Ok(tokens.into_iter().next()) } else { Err(CredentialError::RepeatedProtocol) };
    Offered { token, protocol: true }
}

/// Returns the protocols that a handshake offers, in their order.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(entries)
}

/// Returns the entries of a list in a header's value.
pub fn entries(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// The protocols that are offered, without the tokens.
#[derive(Default)]
struct Offer {
    /// The list without them.
    rest: Vec<u8>,
    tokens: Vec<HeaderValue>,
    /// How often [`PROTOCOL`] is offered.
    times: usize,
}

impl Offer {
    fn read(headers: &HeaderMap) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_stands_behind_our_protocol() {
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
            let lines = protocols.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line)));
            let mut headers: HeaderMap = lines.collect();
            let taken = take(&mut headers);
            let token = taken.token.as_ref().map(|token| token.as_ref().map(HeaderValue::as_bytes));
            assert_eq!(token, expected.as_ref().map(|token| token.map(str::as_bytes)), "{protocols:?}");
            assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], left, "{protocols:?}");
            assert_eq!(taken.protocol, left.split(", ").any(|protocol| protocol == PROTOCOL));
        }
    }
}
