//! The tokens: how long they are valid, what they name, and how they are stored.

use std::time::Duration;

use fastauth_core::{
    issue::TokensPerClient,
    keys::{CAN_ENCRYPT, StoreFormat},
};

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    given::Given,
    key::{Choice, Feature, Group, Key, NumberLimits, TimeLimits},
};

pub(crate) static GROUP: Group = Group {
    title: "Tokens",
    keys: &[
        &ACCESS_TTL,
        &REFRESH_TTL,
        &SESSION_TTL,
        &REFRESH_GRACE,
        &ACCESS_GRACE,
        &TOKENS_PER_CLIENT,
        &MAX_TOKENS_PER_CLIENT,
        &STORE_FORMAT,
        &ISSUER,
        &AUDIENCE,
    ],
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

static ACCESS_TTL: Key = Key::time("access-ttl", lifetime(30), |draft, ttl| draft.issuing.access_ttl = ttl)
    .doc("The lifetime of access tokens, in whole seconds.");

static REFRESH_TTL: Key = Key::time("refresh-ttl", lifetime(365), |draft, ttl| draft.issuing.refresh_ttl = ttl)
    .doc("The lifetime of refresh tokens, in whole seconds.");

const fn lifetime(days: u32) -> TimeLimits {
    TimeLimits {
        default: DAY.saturating_mul(days),
        min: Duration::from_secs(1),
        max: DAY.saturating_mul(100 * 365),
        in_seconds: true,
    }
}

static SESSION_TTL: Key = Key::time(
    "session-ttl",
    TimeLimits { default: Duration::ZERO, min: Duration::ZERO, ..lifetime(0) },
    |draft, ttl| draft.issuing.session_ttl = ttl,
)
.doc(
    "The time from a log-in to the end of its session, in whole seconds, such as `\"12h\"`: it cannot be refreshed then, and no token of \
     it lasts longer. Tokens get the claim `auth_time`, the time of the log-in. With `0s`, a session lasts as long as it is refreshed.",
);

static REFRESH_GRACE: Key = Key::time(
    "refresh-grace",
    TimeLimits {
        // As long as most clients wait for an answer, and longer than any store may take for one.
        default: Duration::from_secs(60),
        min: Duration::ZERO,
        // A longer grace is a longer time in which a stolen token goes unnoticed.
        max: Duration::from_secs(5 * 60),
        in_seconds: false,
    },
    |draft, grace| draft.issuing.refresh_grace = grace,
)
.doc(
    "How long a used refresh token still returns the same new pair, in case the response was lost. With a store behind HTTP, \
     the time that its answer may take is added. A REST store of the first version has no grace.",
);

static ACCESS_GRACE: Key = Key::time(
    "access-grace",
    TimeLimits {
        default: Duration::ZERO,
        min: Duration::ZERO,
        // A stolen token opens paths for that much longer.
        max: Duration::from_secs(60),
        in_seconds: false,
    },
    |draft, grace| draft.issuing.access_grace = grace,
)
.doc(
    "How long the access token that a refresh has replaced is still accepted, for requests that are under way and tabs that do not \
     know of the refresh yet: `\"10s\"` is enough, if a tab refreshes once at a time. Only the token before the current one, not \
     beyond its own end, and never after a revocation. A REST store of the first version has no grace.",
);

static TOKENS_PER_CLIENT: Key = Key::choice(
    "tokens-per-client",
    &[
        Choice::new(TokensPerClient::One.as_str(), |draft| draft.issuing.tokens_per_client = TokensPerClient::One),
        Choice::new(TokensPerClient::Many.as_str(), |draft| draft.issuing.tokens_per_client = TokensPerClient::Many),
    ],
)
.doc("With `many`, a client may have several sessions, each with a pair of its own.");

static MAX_TOKENS_PER_CLIENT: Key = Key::number(
    "max-tokens-per-client",
    // More than people have devices, and few enough to be gone through.
    NumberLimits { default: Some(100), min: 1, max: 10_000 },
    |draft, count| draft.issuing.max_sessions = Draft::count(count),
)
.doc(
    "How many sessions a client may have with `tokens-per-client: \"many\"`. With one more, the session that was refreshed \
     longest ago is revoked.",
);

static FERNET: Feature = Feature { name: "fernet", is_built: CAN_ENCRYPT, problem: "this build cannot encrypt tokens" };

pub(crate) static STORE_FORMAT: Key = Key::choice(
    "store-format",
    &[
        Choice::new(StoreFormat::Plain.as_str(), |draft| draft.issuing.store_format = StoreFormat::Plain),
        Choice::new(StoreFormat::Fernet.as_str(), |draft| draft.issuing.store_format = StoreFormat::Fernet)
            .feature(&FERNET),
    ],
)
.doc("With `fernet`, tokens are encrypted before they are stored. `fastauth-api` cannot read them.");

static ISSUER: Key = Key::text("issuer", |draft, issuer| draft.issuing.issuer = named(draft, &ISSUER, issuer))
    .doc("The claim `iss` of every token. Tokens without it are refused, those of `fastauth-api` too.");

pub(crate) static AUDIENCE: Key =
    Key::text("audience", |draft, audience| draft.issuing.audience = named(draft, &AUDIENCE, audience)).doc(
        "The claim `aud` of every token. Tokens without it are refused, and `fastauth-api` refuses those that have it.",
    );

fn named(draft: &mut Draft<'_>, key: &'static Key, name: String) -> Option<String> {
    if name.trim().is_empty() {
        draft.fault(key, "it is empty", "give a name, or leave the key out");
    }
    Some(name)
}

impl SettingsBuilder {
    /// Sets the lifetime of access tokens (`access-ttl`), in whole seconds.
    #[must_use]
    pub fn access_ttl(self, ttl: Duration) -> Self {
        self.set(&ACCESS_TTL, Given::Time(ttl))
    }

    /// Sets the lifetime of refresh tokens (`refresh-ttl`), in whole seconds.
    #[must_use]
    pub fn refresh_ttl(self, ttl: Duration) -> Self {
        self.set(&REFRESH_TTL, Given::Time(ttl))
    }

    /// Sets the time from a log-in to the end of its session (`session-ttl`), in whole seconds. It cannot be refreshed then, and no token of
    /// it lasts longer. The default is zero: a session lasts as long as it is refreshed.
    ///
    /// Tokens get the claim `auth_time`, the time of the log-in, which an application cannot set then. A refresh token that has none was
    /// issued before: its own time counts. Access tokens from before keep their end.
    #[must_use]
    pub fn session_ttl(self, ttl: Duration) -> Self {
        self.set(&SESSION_TTL, Given::Time(ttl))
    }

    /// Sets how long a used refresh token still returns the same new pair (`refresh-grace`), in case the response was lost. The
    /// default is a minute; with zero there is no grace.
    ///
    /// It begins when the answer can have come: with a store behind HTTP, the time that its answer may take is added.
    #[must_use]
    pub fn refresh_grace(self, grace: Duration) -> Self {
        self.set(&REFRESH_GRACE, Given::Time(grace))
    }

    /// Sets how long the access token that a refresh has replaced is still accepted (`access-grace`), at most a minute. The default is
    /// zero: it is refused from then on.
    ///
    /// Only the token before the current one is accepted, not beyond its own end, and never after a revocation or a reuse. Each node goes
    /// by its own setting, and the store measures the time since the refresh.
    #[must_use]
    pub fn access_grace(self, grace: Duration) -> Self {
        self.set(&ACCESS_GRACE, Given::Time(grace))
    }

    /// Sets how many sessions a client may have (`tokens-per-client`): one, which is the default, or several, each with a pair of
    /// its own.
    #[must_use]
    pub fn tokens_per_client(self, count: TokensPerClient) -> Self {
        self.choose(&TOKENS_PER_CLIENT, count.as_str())
    }

    /// Sets how many sessions a client may have with `tokens-per-client: "many"` (`max-tokens-per-client`), from 1 to 10,000. The
    /// default is 100. With one more, the session that was refreshed longest ago is revoked.
    #[must_use]
    pub fn max_tokens_per_client(self, count: usize) -> Self {
        self.set(&MAX_TOKENS_PER_CLIENT, Given::count(count))
    }

    /// Sets the form in which tokens are stored (`store-format`): as they are, which is the default, or encrypted, which
    /// `fastauth-api` cannot read.
    #[must_use]
    pub fn store_format(self, format: StoreFormat) -> Self {
        self.choose(&STORE_FORMAT, format.as_str())
    }

    /// Sets who issues the tokens: the claim `iss` (`issuer`). Tokens without it are refused, those of `fastauth-api` too.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.set(&ISSUER, Given::Text(issuer.into()))
    }

    /// Sets whom the tokens are meant for: the claim `aud` (`audience`). Tokens without it are refused, and
    /// `fastauth-api` refuses those that have it.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.set(&AUDIENCE, Given::Text(audience.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::CAN_ENCRYPT;
    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("access-ttl", json!("soon"), "\"soon\" is not a time"),
            (
                "access-ttl",
                json!("0s"),
                "\"0s\" is out of range; write a time from \"1s\" to \"36500d\", such as \"30d\"",
            ),
            ("access-ttl", json!("1500ms"), "\"1500ms\" is not a whole number of seconds"),
            ("refresh-ttl", json!("900years"), "\"900years\" is out of range"),
            ("access-ttl", json!(60), "`access-ttl`: found a number"),
            ("session-ttl", json!("500ms"), "\"500ms\" is not a whole number of seconds"),
            ("session-ttl", json!("200years"), "\"200years\" is out of range"),
            ("refresh-grace", json!("1h"), "\"1h\" is out of range; write a time from \"0s\" to \"5m\""),
            ("access-grace", json!("61s"), "\"61s\" is out of range; write a time from \"0s\" to \"1m\""),
            ("tokens-per-client", json!("two"), "write \"one\" or \"many\""),
            ("max-tokens-per-client", json!(0), "0 is out of range; write a whole number from 1 to 10000"),
            ("max-tokens-per-client", json!(10_001), "10001 is out of range"),
            ("store-format", json!("aes"), "\"aes\" is not one of its values; write \"plain\" or \"fernet\""),
            ("issuer", json!(" "), "`issuer`: it is empty"),
            ("audience", json!(""), "`audience`: it is empty"),
        ]);
    }
    #[test]
    fn encryption_needs_a_fernet_key_and_the_feature() {
        let expected = if CAN_ENCRYPT {
            "is not a Fernet key; write \"plain\", and \"fernet\" when a key of `fastauth keys rotate` signs"
        } else {
            "this build cannot encrypt tokens; build with the feature `fernet`, or write \"plain\""
        };
        check_faults(&[("store-format", json!("fernet"), expected)]);
    }
}
