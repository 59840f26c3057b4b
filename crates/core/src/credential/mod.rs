//! The credentials of a request: where each may stand, and that there is only one of each.
//!
//! Each scheme is one file and one line in [`SCHEMES`]. The configuration's `credential-sources`, the challenges, the OpenAPI document
//! and the headers that are hidden from logs follow from that table.

use std::fmt;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};

use crate::secret::Secret;

mod access_token;
mod bearer;
mod master_token;
mod protocol;
mod refresh_cookie;
#[cfg(test)]
mod tests;
mod ticket;

pub use self::{
    access_token::ACCESS_TOKEN,
    bearer::{BEARER, bearer, of_scheme},
    master_token::MASTER_TOKEN,
    protocol::{PROTOCOL, entries, offered},
    refresh_cookie::{REFRESH_COOKIE, RepeatedCookie, refresh_token},
    ticket::without_ticket,
};

/// All schemes. Those of access tokens stand in the order in which they are looked for.
pub static SCHEMES: [&Scheme; COUNT] =
    [&MASTER_TOKEN, &ACCESS_TOKEN, &BEARER, &protocol::PROTOCOL_TOKEN, &ticket::TICKET, &refresh_cookie::REFRESH_TOKEN];

const COUNT: usize = 6;

/// A place in a request where a credential may stand.
#[derive(Debug)]
pub struct Scheme {
    /// Its name in messages, and in `credential-sources`.
    pub name: &'static str,
    /// What it carries.
    pub carries: Carries,
    /// The header, whose value is hidden from logs.
    pub header: Option<HeaderName>,
    /// Reads the credential out of a value of the header, if any request may carry it there.
    pub read: Option<ReadHeader>,
    /// The authentication scheme that a challenge for it names, if it is a registered one.
    pub challenge: Option<&'static str>,
    /// Its description in OpenAPI, if that can express it.
    pub openapi: Option<SecurityScheme>,
}

/// Reads the credential out of a value of a header, if there is one.
pub type ReadHeader = fn(&HeaderValue) -> Option<&[u8]>;

/// What a scheme carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A master token.
    MasterToken,
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
    /// A ticket.
    Ticket,
}

/// A security scheme of OpenAPI. The names are those of `fastauth-api`.
#[derive(Clone, Copy, Debug)]
pub struct SecurityScheme {
    /// Its name.
    pub name: &'static str,
    /// It is HTTP's scheme `bearer`, and not a header of its own.
    pub bearer: bool,
    /// Its description.
    pub description: &'static str,
}

/// Reads a header that carries nothing but the credential.
#[allow(clippy::unnecessary_wraps, reason = "others find none in some values")]
fn whole(value: &HeaderValue) -> Option<&[u8]> {
    Some(value.as_bytes())
}

/// The headers in which access tokens are looked for. The others belong to the application.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHeaders {
    /// One bit for each scheme that is not looked for, by its place in [`SCHEMES`].
    ignored: u8,
}

impl TokenHeaders {
    /// All of them.
    pub const ALL: Self = Self { ignored: 0 };

    /// Returns those of these names, whose case is free.
    ///
    /// # Errors
    ///
    /// Returns the first name that is not one.
    pub fn named(names: &[String]) -> Result<Self, &str> {
        let unknown = |name: &&String| !access_headers().any(|(_, scheme)| scheme.name.eq_ignore_ascii_case(name));
        if let Some(name) = names.iter().find(unknown) {
            return Err(name);
        }
        let ignored =
            access_headers().filter(|(_, scheme)| !names.iter().any(|name| scheme.name.eq_ignore_ascii_case(name)));
        Ok(Self { ignored: ignored.fold(0, |bits, (place, _)| bits | 1 << place) })
    }

    /// Returns the schemes that are looked for.
    pub fn schemes(self) -> impl Iterator<Item = &'static Scheme> {
        access_headers().filter(move |(place, _)| !self.ignores(*place)).map(|(_, scheme)| scheme)
    }

    /// Returns true if access tokens are looked for in this header.
    #[must_use]
    pub fn include(self, header: &HeaderName) -> bool {
        self.schemes().any(|scheme| scheme.header.as_ref() == Some(header))
    }

    /// Returns the authentication scheme that challenges for an access token name.
    #[must_use]
    pub fn challenge(self) -> &'static str {
        self.schemes().find_map(|scheme| scheme.challenge).unwrap_or("AccessToken")
    }

    #[inline]
    fn ignores(self, place: usize) -> bool {
        self.ignored >> place & 1 == 1
    }
}

impl fmt::Debug for TokenHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schemes().map(|scheme| scheme.name)).finish()
    }
}

/// Returns the schemes of access tokens that any request may use, with their places.
fn access_headers() -> impl Iterator<Item = (usize, &'static Scheme)> {
    let schemes = SCHEMES.into_iter().enumerate();
    schemes.filter(|(_, scheme)| scheme.carries == Carries::AccessToken && scheme.read.is_some())
}

/// Returns the value of a header that appears once.
#[must_use]
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Why the credentials of a request have no single reading (RFC 6750 3.1: `invalid_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The header appears more than once.
    #[error("header `{0}` appears more than once")]
    Repeated(&'static str),
    /// Two headers carry different access tokens.
    #[error("{0} and {1} carry different tokens")]
    Conflicting(&'static str, &'static str),
    /// The protocol `fastauth` is offered more than once in a WebSocket handshake.
    #[error("protocol `fastauth` is offered more than once")]
    RepeatedProtocol,
    /// `Sec-WebSocket-Protocol` carries another token than the other headers.
    #[error("Sec-WebSocket-Protocol carries another token than the headers")]
    ConflictingProtocol,
    /// The parameter `ticket` appears more than once.
    #[error("parameter `ticket` appears more than once")]
    RepeatedTicket,
}

impl CredentialError {
    /// Returns a short name of the error that stays, for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Repeated(_) | Self::RepeatedProtocol | Self::RepeatedTicket => "repeated_credentials",
            Self::Conflicting(..) | Self::ConflictingProtocol => "conflicting_credentials",
        }
    }

    /// Returns true if the master token is meant.
    #[must_use]
    pub fn is_of_master_token(&self) -> bool {
        matches!(self, Self::Repeated(master_token::NAME))
    }
}

/// The credentials that were taken out of a request. Those that stay in its headers are [read](Self::read) there.
#[derive(Debug, Default)]
pub struct Credentials {
    handshake: Option<Handshake>,
    /// The ticket of a request that is no handshake.
    ticket: Option<Result<Secret, CredentialError>>,
}

/// The credentials of a WebSocket handshake, beside those that any request may carry.
#[derive(Debug)]
struct Handshake {
    token: Result<Option<HeaderValue>, CredentialError>,
    ticket: Result<Option<Secret>, CredentialError>,
    offers_protocol: bool,
}

impl Credentials {
    /// Marks the headers that carry credentials as sensitive, which hides them from logs, and takes out of the request what the
    /// application must not see: the refresh token, and the access token and the ticket of a handshake, needed or not.
    pub fn take<B>(request: &mut Request<B>) -> Self {
        let marked = mark_sensitive(request.headers_mut());
        if marked.cookie {
            refresh_cookie::take(request);
        }
        let may_be_handshake = marked.upgrade || request.method() == Method::CONNECT;
        if !may_be_handshake || !is_handshake(request.method(), request.headers()) {
            return Self { handshake: None, ticket: ticket::find(request.uri()) };
        }
        let ticket = ticket::take(request);
        let offered = protocol::take(request.headers_mut());
        let handshake = Handshake { token: offered.token, ticket, offers_protocol: offered.protocol };
        Self { handshake: Some(handshake), ticket: None }
    }

    /// Reads the credentials that the request presents.
    #[inline]
    pub fn read<'a>(&'a self, headers: &'a HeaderMap, sources: TokenHeaders) -> Presented<'a> {
        let ticket = self.ticket.as_ref();
        Presented { handshake: self.handshake.as_ref(), ticket, ..Presented::read(headers, sources) }
    }

    /// Returns true if something behind the guard may take the request for a WebSocket handshake.
    #[inline]
    pub fn are_of_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    /// Returns true if the URI of the request carried a ticket.
    pub fn had_ticket(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| !matches!(handshake.ticket, Ok(None)))
    }

    /// Returns true if the handshake offered [`PROTOCOL`], which has to be chosen then.
    #[inline]
    pub fn offer_protocol(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.offers_protocol)
    }
}

/// The credentials that a request presents.
pub struct Presented<'a> {
    /// Those in headers, by the places of their schemes.
    found: [HeaderValues<'a>; COUNT],
    handshake: Option<&'a Handshake>,
    ticket: Option<&'a Result<Secret, CredentialError>>,
}

/// What proves who a client is.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// An access token.
    Token(&'a [u8]),
    /// A ticket.
    Ticket(&'a Secret),
}

impl<'a> Presented<'a> {
    /// Reads the credentials in the headers, in one pass: a look-up in a map of a few headers takes as long as that by itself.
    #[inline]
    pub fn read(headers: &'a HeaderMap, sources: TokenHeaders) -> Self {
        let mut found = [HeaderValues::default(); COUNT];
        for (name, value) in headers {
            if let Some(place) = place_of(name)
                && let Some(read) = SCHEMES[place].read
                && !sources.ignores(place)
            {
                found[place].add(read(value));
            }
        }
        Self { found, handshake: None, ticket: None }
    }

    /// Returns the master token.
    ///
    /// # Errors
    ///
    /// Returns an error if there is more than one.
    #[inline]
    pub fn master_token(&self) -> Result<Option<&'a [u8]>, CredentialError> {
        self.only(Carries::MasterToken)
    }

    /// Returns the access token in the headers that any request may use.
    ///
    /// # Errors
    ///
    /// Returns an error if a header that carries one appears more than once, or if headers carry different tokens.
    #[inline]
    pub fn access_token(&self) -> Result<Option<&'a [u8]>, CredentialError> {
        self.only(Carries::AccessToken)
    }

    /// Returns the access token, which may also stand among the protocols of a handshake, or else the ticket.
    ///
    /// # Errors
    ///
    /// Returns an error if the credentials can be read in more than one way.
    #[inline]
    pub fn proof(&self) -> Result<Option<Proof<'a>>, CredentialError> {
        let token = self.access_token()?;
        let Some(handshake) = self.handshake else { return self.token_or_ticket(token) };
        let offered = handshake.token.as_ref().map_err(|error| *error)?.as_ref().map(HeaderValue::as_bytes);
        match (token, offered) {
            (Some(token), Some(offered)) if token != offered => Err(CredentialError::ConflictingProtocol),
            (Some(token), _) | (None, Some(token)) => Ok(Some(Proof::Token(token))),
            (None, None) => match &handshake.ticket {
                Ok(ticket) => Ok(ticket.as_ref().map(Proof::Ticket)),
                Err(error) => Err(*error),
            },
        }
    }

    #[inline]
    fn token_or_ticket(&self, token: Option<&'a [u8]>) -> Result<Option<Proof<'a>>, CredentialError> {
        match (token, self.ticket) {
            (Some(token), _) => Ok(Some(Proof::Token(token))),
            (None, Some(ticket)) => ticket.as_ref().map(|ticket| Some(Proof::Ticket(ticket))).map_err(|error| *error),
            (None, None) => Ok(None),
        }
    }

    /// Returns the only credential of a kind in the headers.
    #[inline]
    fn only(&self, kind: Carries) -> Result<Option<&'a [u8]>, CredentialError> {
        let mut only: Option<(&'static str, &'a [u8])> = None;
        for (scheme, values) in SCHEMES.iter().zip(&self.found) {
            let Some(credential) = values.first else { continue };
            if scheme.carries != kind {
                continue;
            }
            if values.count > 1 {
                return Err(CredentialError::Repeated(scheme.name));
            }
            match only {
                Some((name, other)) if other != credential => {
                    return Err(CredentialError::Conflicting(name, scheme.name));
                }
                _ => only = only.or(Some((scheme.name, credential))),
            }
        }
        Ok(only.map(|(_, credential)| credential))
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(..)")
    }
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Ticket(_) => "Ticket(..)",
        })
    }
}

/// The values of one header.
#[derive(Clone, Copy, Default)]
struct HeaderValues<'a> {
    /// The first that is a credential.
    first: Option<&'a [u8]>,
    count: usize,
}

impl<'a> HeaderValues<'a> {
    #[inline]
    fn add(&mut self, credential: Option<&'a [u8]>) {
        self.first = self.first.or(credential);
        self.count += 1;
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

/// The headers that need more than to be marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marked {
    cookie: bool,
    upgrade: bool,
}

fn mark_sensitive(headers: &mut HeaderMap) -> Marked {
    let mut marked = Marked::default();
    // Not by `entry`, which makes room for one more header and so may allocate.
    for (name, value) in headers.iter_mut() {
        if is_credential(name) {
            value.set_sensitive(true);
        }
        marked.cookie |= *name == COOKIE;
        marked.upgrade |= *name == UPGRADE;
    }
    marked
}

#[inline]
fn is_credential(name: &HeaderName) -> bool {
    place_of(name).is_some()
}

/// Returns the place in [`SCHEMES`] of the scheme that uses a header. Every header of every request is compared, so the names are
/// constants here: read from the table, they take three times as long.
#[inline]
fn place_of(name: &HeaderName) -> Option<usize> {
    if *name == master_token::HEADER {
        Some(0)
    } else if *name == access_token::HEADER {
        Some(1)
    } else if *name == AUTHORIZATION {
        Some(2)
    } else if *name == SEC_WEBSOCKET_PROTOCOL {
        Some(3)
    } else if *name == COOKIE {
        Some(5)
    } else {
        None
    }
}

/// Returns true if something behind the guard may take a request for the handshake of a WebSocket, soundly (RFC 6455 4.1,
/// RFC 8441 5) or not: each server reads `Connection` and `Upgrade` in its own way, and some look for a part of their text.
fn is_handshake(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::CONNECT || headers.get_all(UPGRADE).iter().any(names_websocket)
}

fn names_websocket(upgrade: &HeaderValue) -> bool {
    const NAME: &[u8] = b"websocket";
    upgrade.as_bytes().windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME))
}
