//! The claims of a verified token.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::{AUTH_TIME, TokenType, is_reserved, parts::Parts};
use crate::{json, secret::Secret};

/// The claims of a verified token: its signature, times and type are good.
///
/// The claims that FastAuth needs are read at once, and all others on the first call that asks for one.
#[derive(Clone)]
pub struct Claims {
    /// The token, the client id and the session, end to end: a cache has many of these.
    text: Secret,
    token_len: u32,
    client_id_len: u32,
    generation: Option<u64>,
    expires_at: u64,
    token_type: TokenType,
    members: OnceLock<Box<Payload>>,
}

/// All claims. What rules ask for most is found once, for all requests with the token.
#[derive(Clone)]
struct Payload {
    members: Map<String, Value>,
    scope: Box<[String]>,
    roles: Box<[String]>,
}

impl Claims {
    /// Returns the client that the token was issued to: the claim `client_id`, never empty.
    #[must_use]
    #[inline]
    pub fn client_id(&self) -> &str {
        &self.names()[..self.client_id_len as usize]
    }

    /// Returns the claim `type`.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Returns the last second in which the token is valid, since the Unix epoch: the claim `exp` in whole seconds.
    #[must_use]
    #[inline]
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// Returns the session of the token and how many times it was refreshed: the claims `sid` and `gen`. Tokens of `fastauth-api` name
    /// none.
    #[must_use]
    #[inline]
    pub fn session(&self) -> Option<(&str, u64)> {
        self.generation.map(|generation| (&self.names()[self.client_id_len as usize..], generation))
    }

    /// Returns the time of the log-in, in seconds since the Unix epoch: the claim `auth_time`, or else `iat`. It is not later than `iat`,
    /// and 0 if it is not known or not a number, so that a log-in of unknown age counts as an old one.
    #[must_use]
    pub fn logged_in_at(&self) -> u64 {
        // The conversion saturates: a time before the epoch is 0.
        let seconds = |claim: &Value| claim.as_f64().map_or(0, |seconds| seconds as u64);
        let issued_at = self.get("iat").map_or(0, seconds);
        self.get(AUTH_TIME).map_or(issued_at, |auth_time| seconds(auth_time).min(issued_at))
    }

    /// Returns the names in the claim `scope`: a text in which spaces separate them (RFC 8693 4.2), or a list of texts.
    pub fn scope(&self) -> impl Iterator<Item = &str> {
        self.payload().scope.iter().map(String::as_str)
    }

    /// Returns the names in the claim `roles`: a list of texts (RFC 9068 2.2.3.1), or one text.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.payload().roles.iter().map(String::as_str)
    }

    /// Reads the claims into a type of your own.
    ///
    /// # Errors
    ///
    /// If a claim that the type needs is missing or has the wrong type.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.as_object().clone()))
    }

    /// Returns any claim by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object().get(name)
    }

    /// Returns the application's claims: those that are not reserved.
    pub fn own_claims(&self) -> Map<String, Value> {
        let own = self.as_object().iter().filter(|(name, _)| !is_reserved(name));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Returns all claims.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.payload().members
    }

    #[inline]
    fn payload(&self) -> &Payload {
        self.members.get_or_init(|| Box::new(self.read_payload()))
    }

    #[cold]
    #[allow(clippy::expect_used, reason = "there are claims of a token only after its payload was read")]
    fn read_payload(&self) -> Payload {
        let payload = Parts::split(self.token()).and_then(|parts| parts.payload());
        let members = json::object(&payload.expect("the token was split before"));
        Payload::new(members.expect("the payload was read before"))
    }

    /// Returns the token.
    #[inline]
    pub fn token(&self) -> &[u8] {
        &self.text.expose().as_bytes()[..self.token_len as usize]
    }

    #[inline]
    fn names(&self) -> &str {
        &self.text.expose()[self.token_len as usize..]
    }
}

impl Payload {
    fn new(members: Map<String, Value>) -> Self {
        let scope = names(members.get("scope"), |text| text.split(' ').filter(|name| !name.is_empty()).collect());
        let roles = names(members.get("roles"), |text| vec![text]);
        Self { members, scope, roles }
    }
}

/// Returns the names in a claim: those in its text, or the texts in its list.
fn names(claim: Option<&Value>, in_text: fn(&str) -> Vec<&str>) -> Box<[String]> {
    let names = match claim {
        Some(Value::String(text)) => in_text(text),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().map(str::to_owned).collect()
}

impl PartialEq for Claims {
    /// Returns true if both are claims of the same token.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Claims {
    /// Shows only claims of FastAuth, since those of an application may be private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims")
            .field("client_id", &self.client_id())
            .field("token_type", &self.token_type)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The claims that guards need, of a payload that was found good.
pub(super) struct Checked<'a> {
    pub(super) client_id: &'a str,
    pub(super) session: Option<(&'a str, u64)>,
    pub(super) expires_at: u64,
    pub(super) token_type: TokenType,
}

impl Checked<'_> {
    pub(super) fn into_claims(self, token: &str) -> Claims {
        let Self { client_id, session, expires_at, token_type } = self;
        Claims {
            text: Secret::from([token, client_id, session.map_or("", |(session, _)| session)].concat()),
            // No token is longer than `MAX_TOKEN_LEN`.
            token_len: token.len() as u32,
            client_id_len: client_id.len() as u32,
            generation: session.map(|(_, generation)| generation),
            expires_at,
            token_type,
            members: OnceLock::new(),
        }
    }
}
