//! One rule, as a configuration or code states it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::demands::{Demands, Principal};

/// One entry of `rules`: what the requests of a path and of some methods need.
///
/// Nothing is checked here: faults are found with all others when settings are built.
///
/// ```
/// use fastauth_core::policy::{Level, Rule};
///
/// let rule = Rule::prefix("/api/admin").access().roles_any(["admin"]);
/// assert_eq!(rule.level(), Some(Level::Access));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    path: String,
    extent: Extent,
    methods: Option<Vec<String>>,
    level: Option<Level>,
    demands: Demands,
    name: Option<String>,
    report_only: bool,
    ends_on: Option<EndsOn>,
}

/// Which paths a rule is for, beside the one that it names: `match`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// The paths below, in whole segments.
    #[default]
    Prefix,
    /// None.
    Exact,
}

/// The credentials that a request needs: `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// None. Credentials are not looked at.
    Public,
    /// None, but an access token that is presented must be valid.
    Optional,
    /// An access token.
    Access,
    /// The master token.
    Master,
    /// The master token and an access token.
    Both,
    /// No credential is enough.
    Deny,
}

/// When a response or a WebSocket that goes on is ended: `ends-on`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EndsOn {
    /// When its access token is replaced, revoked or expired.
    #[default]
    Token,
    /// When the session is revoked, or its last access token has expired.
    Revoke,
}

impl Level {
    /// All levels, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Public, Self::Optional, Self::Access, Self::Master, Self::Both, Self::Deny];

    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Optional => "optional",
            Self::Access => "access",
            Self::Master => "master",
            Self::Both => "both",
            Self::Deny => "deny",
        }
    }
}

impl Extent {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Exact => "exact",
        }
    }
}

impl EndsOn {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Revoke => "revoke",
        }
    }
}

impl Rule {
    /// Creates a rule for a path and the paths below, in whole segments: `/api` is for `/api/x`, and not for `/apis`.
    ///
    /// `{name}` stands for one segment, `{id:uuid}` and `{n:int}` for one of that form, and `{*rest}` at the end for one
    /// or more.
    #[must_use]
    pub fn prefix(path: impl Into<String>) -> Self {
        Self::new(path.into(), Extent::Prefix)
    }

    /// Creates a rule for one path, which may have parameters as that of a [`prefix`](Self::prefix).
    #[must_use]
    pub fn exact(path: impl Into<String>) -> Self {
        Self::new(path.into(), Extent::Exact)
    }

    /// Sets whether the paths below are meant, too.
    #[must_use]
    pub fn matching(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    fn new(path: String, extent: Extent) -> Self {
        let demands = Demands::default();
        Self { path, extent, methods: None, level: None, demands, name: None, report_only: false, ends_on: None }
    }

    /// Needs nothing.
    #[must_use]
    pub fn public(self) -> Self {
        self.at(Level::Public)
    }

    /// Needs nothing, but checks an access token that is presented.
    #[must_use]
    pub fn optional(self) -> Self {
        self.at(Level::Optional)
    }

    /// Needs an access token.
    #[must_use]
    pub fn access(self) -> Self {
        self.at(Level::Access)
    }

    /// Needs the master token.
    #[must_use]
    pub fn master(self) -> Self {
        self.at(Level::Master)
    }

    /// Needs the master token and an access token.
    #[must_use]
    pub fn both(self) -> Self {
        self.at(Level::Both)
    }

    /// Refuses every request.
    #[must_use]
    pub fn deny(self) -> Self {
        self.at(Level::Deny)
    }

    /// Sets what requests need.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level: Some(level), ..self }
    }

    /// Restricts the rule to these methods, such as `GET`, which stands for `HEAD` as well.
    #[must_use]
    pub fn methods<M: Into<String>>(self, methods: impl IntoIterator<Item = M>) -> Self {
        Self { methods: Some(texts(methods)), ..self }
    }

    /// Demands one of these roles.
    #[must_use]
    pub fn roles_any<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.demands.roles_any = Some(texts(roles));
        self
    }

    /// Demands all of these roles.
    #[must_use]
    pub fn roles_all<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.demands.roles_all = Some(texts(roles));
        self
    }

    /// Demands all of these scopes.
    #[must_use]
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.demands.scopes = Some(texts(scopes));
        self
    }

    /// Demands one of these scopes.
    #[must_use]
    pub fn scopes_any<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.demands.scopes_any = Some(texts(scopes));
        self
    }

    /// Demands that members of the token's payload are equal to these values.
    #[must_use]
    pub fn claim_equals<N: Into<String>, V: Into<Value>>(mut self, claims: impl IntoIterator<Item = (N, V)>) -> Self {
        let claims = claims.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.demands.claim_equals = Some(claims.collect());
        self
    }

    /// Demands a log-in that is not longer ago.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.demands.max_age = Some(age);
        self
    }

    /// Demands a holder of this kind.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.demands.principal = principal;
        self
    }

    /// Accepts the tokens of these issuers: `own` is this application.
    #[must_use]
    pub fn issuers<I: Into<String>>(mut self, issuers: impl IntoIterator<Item = I>) -> Self {
        self.demands.issuers = Some(texts(issuers));
        self
    }

    /// Demands a token for this audience.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.demands.audience = Some(audience.into());
        self
    }

    /// Sets the name that logs, metrics and explanations show.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Only reports whom the rule would refuse: the next less specific rule decides.
    #[must_use]
    pub fn report_only(self, on: bool) -> Self {
        Self { report_only: on, ..self }
    }

    /// Ends every response that outlives its right, and says when that is. Without it, event streams and gRPC streams end with
    /// their token, and other responses go on.
    #[must_use]
    pub fn ends_on(self, ends_on: EndsOn) -> Self {
        Self { ends_on: Some(ends_on), ..self }
    }

    /// Returns the path, as it was written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the paths below are meant, too.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Returns the methods, as they were written; `None` if all are meant.
    #[must_use]
    pub fn for_methods(&self) -> Option<&[String]> {
        self.methods.as_deref()
    }

    /// Returns what requests need; `None` if it was not said, which is a fault.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// Returns what the claims must say.
    #[must_use]
    pub fn demands(&self) -> &Demands {
        &self.demands
    }

    /// Returns the name that was given.
    #[must_use]
    pub fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the name that logs, metrics and explanations show: the one that was given, or else the path as it was
    /// written, after its methods if it has any: `GET,POST /api/products`.
    #[must_use]
    pub fn shown_name(&self) -> String {
        match (&self.name, &self.methods) {
            (Some(name), _) => name.clone(),
            (None, Some(methods)) => format!("{} {}", methods.join(","), self.path),
            (None, None) => self.path.clone(),
        }
    }

    /// Returns true if the rule only reports.
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.report_only
    }

    /// Returns when what goes on is ended, if it was said.
    #[must_use]
    pub fn ending(&self) -> Option<EndsOn> {
        self.ends_on
    }
}

fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}
