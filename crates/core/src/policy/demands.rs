//! What the claims of an access token must say, and the one place that decides whether they do.

use std::time::Duration;

use serde_json::Value;

use crate::token::Claims;

/// The name of this application among the issuers.
const OWN: &str = "own";

/// What the claims of an access token must say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demands {
    /// The kind of the token's holder.
    pub principal: Principal,
    /// One of these roles.
    pub roles_any: Option<Vec<String>>,
    /// All of these roles.
    pub roles_all: Option<Vec<String>>,
    /// All of these scopes.
    pub scopes: Option<Vec<String>>,
    /// One of these scopes.
    pub scopes_any: Option<Vec<String>>,
    /// Members of the payload, by name, that are equal to these values.
    pub claim_equals: Option<Vec<(String, Value)>>,
    /// The most time since the log-in.
    pub max_age: Option<Duration>,
    /// The issuers whose tokens count; only the own one, if it is not set.
    pub issuers: Option<Vec<String>>,
    /// The audience that the token names.
    pub audience: Option<String>,
}

/// The kind of a token's holder, by the test of `service-claim`: `principal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Principal {
    /// Either.
    #[default]
    Any,
    /// A person.
    User,
    /// A program.
    Service,
}

/// The first demand that a token does not meet, in the order in which they are answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmet {
    /// Scopes are missing. A token with these is enough, as `scope` in a challenge lists them.
    Scope(String),
    /// A role is missing.
    Role,
    /// The holder is a user and no service, or the other way round.
    Principal,
    /// A claim has another value, or the token is of another issuer or for another audience.
    Claim,
    /// The log-in is longer ago than this.
    Stale(Duration),
}

/// The members of the payload by which the token of a service is told: `service-claim`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceTest {
    members: Vec<(String, Value)>,
}

impl Demands {
    /// Returns true if what meets these meets the others as well, as far as one member can be compared with the same one.
    pub(super) fn ask_all_of(&self, other: &Self) -> bool {
        let Self { principal, roles_any, roles_all, scopes, scopes_any, claim_equals, max_age, issuers: _, audience } =
            self;
        let is_younger = |age: Duration| max_age.is_some_and(|max| max <= age);
        (other.principal == Principal::Any || *principal == other.principal)
            && is_one_as_strict(roles_any.as_deref(), other.roles_any.as_deref())
            && are_all_as_strict(roles_all.as_deref(), other.roles_all.as_deref())
            && are_all_as_strict(scopes.as_deref(), other.scopes.as_deref())
            && is_one_as_strict(scopes_any.as_deref(), other.scopes_any.as_deref())
            && are_all_as_strict(claim_equals.as_deref(), other.claim_equals.as_deref())
            && other.max_age.is_none_or(is_younger)
            && (other.audience.is_none() || *audience == other.audience)
    }
}

impl Principal {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

impl ServiceTest {
    /// Creates a test by members that the token of a service has, all of them.
    pub fn new(members: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self { members: members.into_iter().collect() }
    }

    /// Returns true if services can be told from users.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.members.is_empty()
    }

    /// Returns true if a token is that of a service. Without a test, none is.
    #[must_use]
    pub fn passes(&self, claims: &Claims) -> bool {
        self.is_set() && has_members(claims, &self.members)
    }
}

impl Demands {
    /// Returns true if every valid token satisfies them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the configuration's keys of the demands that are set.
    #[must_use]
    pub fn keys(&self) -> Vec<&'static str> {
        [
            ("principal", self.principal != Principal::Any),
            ("roles-any", self.roles_any.is_some()),
            ("roles-all", self.roles_all.is_some()),
            ("scopes", self.scopes.is_some()),
            ("scopes-any", self.scopes_any.is_some()),
            ("claim-equals", self.claim_equals.is_some()),
            ("max-age", self.max_age.is_some()),
            ("issuers", self.issuers.is_some()),
            ("audience", self.audience.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_set)| is_set.then_some(key))
        .collect()
    }

    /// Checks the claims of a verified token. The time is in seconds since the Unix epoch.
    ///
    /// A list without items is met by no token.
    ///
    /// # Errors
    ///
    /// Returns the first demand that is not met.
    #[inline]
    pub fn check(&self, claims: &Claims, now: u64, service: &ServiceTest) -> Result<(), Unmet> {
        if !self.has_scopes(claims) {
            return Err(Unmet::Scope(self.enough_scopes()));
        }
        if !self.has_roles(claims) {
            return Err(Unmet::Role);
        }
        if !self.is_principal(claims, service) {
            return Err(Unmet::Principal);
        }
        if !(self.has_claims(claims) && self.is_of_issuer() && self.is_for_audience(claims)) {
            return Err(Unmet::Claim);
        }
        match self.max_age {
            Some(age) if !is_fresh(claims, now, age) => Err(Unmet::Stale(age)),
            _ => Ok(()),
        }
    }

    fn has_scopes(&self, claims: &Claims) -> bool {
        let has = |scope: &str| claims.scope().any(|other| other == scope);
        self.scopes.as_ref().is_none_or(|scopes| all(scopes, has))
            && self.scopes_any.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| has(scope)))
    }

    fn has_roles(&self, claims: &Claims) -> bool {
        let has = |role: &str| claims.roles().any(|other| other == role);
        self.roles_all.as_ref().is_none_or(|roles| all(roles, has))
            && self.roles_any.as_ref().is_none_or(|roles| roles.iter().any(|role| has(role)))
    }

    fn is_principal(&self, claims: &Claims, service: &ServiceTest) -> bool {
        match self.principal {
            Principal::Any => true,
            Principal::User => !service.passes(claims),
            Principal::Service => service.passes(claims),
        }
    }

    fn has_claims(&self, claims: &Claims) -> bool {
        self.claim_equals.as_ref().is_none_or(|members| !members.is_empty() && has_members(claims, members))
    }

    /// Returns true if the tokens of this application count: there are no others yet.
    fn is_of_issuer(&self) -> bool {
        self.issuers.as_ref().is_none_or(|issuers| issuers.iter().any(|issuer| issuer == OWN))
    }

    fn is_for_audience(&self, claims: &Claims) -> bool {
        let Some(expected) = &self.audience else { return true };
        match claims.get("aud") {
            Some(Value::String(audience)) => audience == expected,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == expected),
            _ => false,
        }
    }

    /// Returns the scopes that are enough: all that are demanded, and the first of those of which one is.
    fn enough_scopes(&self) -> String {
        let all = self.scopes.as_deref().unwrap_or_default();
        let any = self.scopes_any.as_deref().unwrap_or_default();
        let one = if any.iter().any(|scope| all.contains(scope)) { None } else { any.first() };
        all.iter().chain(one).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Returns true if one of these is one of the others, if there are others.
fn is_one_as_strict(mine: Option<&[String]>, others: Option<&[String]>) -> bool {
    others.is_none_or(|others| mine.is_some_and(|mine| mine.iter().all(|item| others.contains(item))))
}

/// Returns true if all of the others are among these.
fn are_all_as_strict<T: PartialEq>(mine: Option<&[T]>, others: Option<&[T]>) -> bool {
    others.is_none_or(|others| mine.is_some_and(|mine| others.iter().all(|item| mine.contains(item))))
}

fn all(items: &[String], has: impl Fn(&str) -> bool) -> bool {
    !items.is_empty() && items.iter().all(|item| has(item))
}

fn has_members(claims: &Claims, members: &[(String, Value)]) -> bool {
    members.iter().all(|(name, value)| claims.get(name).is_some_and(|claim| is_same(claim, value)))
}

/// Compares scalars of JSON: 1 and 1.0 are the same number. Nothing is equal to null, an array or an object.
fn is_same(claim: &Value, expected: &Value) -> bool {
    match (claim, expected) {
        (Value::String(claim), Value::String(expected)) => claim == expected,
        (Value::Bool(claim), Value::Bool(expected)) => claim == expected,
        (Value::Number(claim), Value::Number(expected)) if claim.is_f64() || expected.is_f64() => {
            claim.as_f64() == expected.as_f64()
        }
        (Value::Number(claim), Value::Number(expected)) => claim == expected,
        _ => false,
    }
}

/// Returns true if the log-in is not longer ago, and not in the future: `auth_time` says when it was, or else `iat`.
fn is_fresh(claims: &Claims, now: u64, max_age: Duration) -> bool {
    let since = claims.get("auth_time").or_else(|| claims.get("iat")).and_then(Value::as_f64);
    since.is_some_and(|since| {
        let age = now as f64 - since;
        (0.0..=max_age.as_secs_f64()).contains(&age)
    })
}

#[cfg(test)]
mod tests;
