//! The answer to a request, by the credentials that it is said to have.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use fastauth::DenialReason;
use fastauth_core::{
    policy::{Requirement, Rules, ServiceTest},
    token::{Claims, Expected, TokenError, TokenType, assumed_claims},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// What tokens are checked by.
pub(super) struct Judge<'a> {
    pub(super) rules: &'a Rules,
    pub(super) service: &'a ServiceTest,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
}

/// The credentials of a request.
#[derive(Default)]
pub(crate) struct Presented<'a> {
    /// The payload of an access token that is current.
    pub(super) claims: Option<&'a Map<String, Value>>,
    /// The right master token.
    pub(super) master: bool,
}

/// The answer of the guard.
#[derive(Clone, Serialize)]
pub(crate) struct Answer {
    /// The application gets the request.
    pub(super) passes: bool,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<&'static str>,
    #[serde(skip)]
    pub(super) text: String,
}

impl Answer {
    /// Creates the answer of a server to what it cannot read.
    pub(super) fn of_server() -> Self {
        Self { passes: false, status: Some(400), reason: None, text: String::new() }
    }

    pub(super) fn new(refusal: Option<&DenialReason>) -> Self {
        Self {
            passes: refusal.is_none(),
            status: refusal.map(|reason| reason.spec().status.as_u16()),
            reason: refusal.map(DenialReason::code),
            text: refusal.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl Judge<'_> {
    /// Returns the reason for which the guard refuses a request.
    pub(super) fn refusal(&self, requirement: Requirement, presented: &Presented<'_>) -> Option<DenialReason> {
        let needs_credentials = requirement.needs_master() || requirement.needs_access();
        if requirement.is_denied() && !needs_credentials {
            return Some(DenialReason::Denied);
        }
        if requirement.needs_master() && !presented.master {
            return Some(DenialReason::MissingMasterToken);
        }
        let looks_at_token = requirement.needs_access() || requirement.is_optional();
        let refused = match presented.claims {
            Some(claims) if looks_at_token => self.refusal_of_token(requirement, claims),
            None if requirement.needs_access() => Some(DenialReason::MissingAccessToken),
            _ => None,
        };
        refused.or(requirement.is_denied().then_some(DenialReason::Denied))
    }

    fn refusal_of_token(&self, requirement: Requirement, payload: &Map<String, Value>) -> Option<DenialReason> {
        let now = now();
        let claims = match self.claims(payload, now) {
            Ok(claims) => claims,
            Err(error) => return Some(DenialReason::InvalidAccessToken(error)),
        };
        let unmet = self.rules.winners(requirement);
        let unmet = unmet.filter_map(|(_, rule)| rule.demands().check(&claims, now, self.service).err()).min();
        unmet.map(DenialReason::from)
    }

    /// Reads a payload. What every access token has, and this payload does not name, is added.
    fn claims(&self, payload: &Map<String, Value>, now: u64) -> Result<Claims, TokenError> {
        let mut payload = payload.clone();
        let usual = [
            ("client_id", Some(Value::from("someone"))),
            ("type", Some(Value::from(TokenType::Access.as_str()))),
            ("exp", Some(Value::from(now + 1))),
            ("iss", self.issuer.map(Value::from)),
            ("aud", self.audience.map(Value::from)),
        ];
        for (name, value) in usual {
            if let Some(value) = value {
                payload.entry(name).or_insert(value);
            }
        }
        let expected =
            Expected { issuer: self.issuer, audience: self.audience, ..Expected::new(TokenType::Access, now) };
        assumed_claims(&payload, &expected)
    }
}

/// Reads the payload of an access token: from a file, or from standard input by the name `-`.
pub(super) fn read_claims(path: &Path) -> Result<Map<String, Value>, Failure> {
    let is_input = path.as_os_str() == "-";
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    let text = if is_input { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let text = text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(format!(
            "{name} has to be the payload of a token, a JSON object such as {{\"roles\": [\"a\"]}}: {error}"
        ))
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
