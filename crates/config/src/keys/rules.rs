//! The rules: what the requests of which paths need, beyond the lists of paths.

use fastauth_core::policy::{Level, Rule, ServiceTest};
use serde_json::Value;

use crate::{
    builder::SettingsBuilder,
    given::Given,
    key::{Choice, Group, Key},
};

pub(crate) static GROUP: Group = Group { title: "Rules", keys: &[&RULES, &DEFAULT_LEVEL, &SERVICE_CLAIM] };

pub(crate) static RULES: Key = Key::rules("rules", |draft, rules| draft.rules.rules = rules).doc(
    "What the requests of which paths need. The most specific rule of a request decides, and their order does not matter. What \
     `access-token-paths` and `master-token-paths` guard, no rule opens. In a variable, it is JSON.",
);

pub(crate) static DEFAULT_LEVEL: Key = Key::choice_or_none(
    "default-level",
    &[
        Choice::new(Level::Public.as_str(), |draft| draft.rules.default_level = Some(Level::Public)),
        Choice::new(Level::Optional.as_str(), |draft| draft.rules.default_level = Some(Level::Optional)),
        Choice::new(Level::Access.as_str(), |draft| draft.rules.default_level = Some(Level::Access)),
        Choice::new(Level::Master.as_str(), |draft| draft.rules.default_level = Some(Level::Master)),
        Choice::new(Level::Both.as_str(), |draft| draft.rules.default_level = Some(Level::Both)),
        Choice::new(Level::Deny.as_str(), |draft| draft.rules.default_level = Some(Level::Deny)),
    ],
)
.unset("access with rules, else public")
.doc("What requests need that no rule is for.");

pub(crate) static SERVICE_CLAIM: Key = Key::claims("service-claim", |draft, claims| {
    draft.rules.service_test = ServiceTest::new(claims);
})
.doc(
    "The claims, with their values, by which the token of a service is told from that of a user: all of them, such as \
         `{\"principal\": \"service\"}`. Rules with `principal` need it. In a variable, it is JSON.",
);

impl SettingsBuilder {
    /// Sets the rules (`rules`): what the requests of which paths need. Their order does not matter.
    ///
    /// ```
    /// # mod fastauth { pub use {fastauth_core::policy::Rule, fastauth_config::Settings}; }
    /// use fastauth::{Rule, Settings};
    ///
    /// let settings = Settings::builder().rules([
    ///     Rule::exact("/health").public(),
    ///     Rule::prefix("/api").access(),
    ///     Rule::prefix("/api/admin").access().roles_any(["admin"]),
    /// ]);
    /// ```
    #[must_use]
    pub fn rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.set(&RULES, Given::Rules(rules.into_iter().collect()))
    }

    /// Adds a rule to those that were set in code.
    #[must_use]
    pub fn rule(self, rule: Rule) -> Self {
        let mut rules = match self.code.iter().find(|(key, _)| **key == RULES) {
            Some((_, Given::Rules(rules))) => rules.clone(),
            _ => Vec::new(),
        };
        rules.push(rule);
        self.rules(rules)
    }

    /// Sets what requests need that no rule is for (`default-level`). The default is [`Level::Access`] if there are rules, and else
    /// [`Level::Public`].
    #[must_use]
    pub fn default_level(self, level: Level) -> Self {
        self.choose(&DEFAULT_LEVEL, level.as_str())
    }

    /// Sets the claims by which the token of a service is told from that of a user (`service-claim`). A token needs all of them.
    #[must_use]
    pub fn service_claim<N: Into<String>, V: Into<Value>>(self, claims: impl IntoIterator<Item = (N, V)>) -> Self {
        let claims = claims.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.set(&SERVICE_CLAIM, Given::Claims(claims.collect()))
    }
}
