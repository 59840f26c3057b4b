//! The token endpoints.

use std::num::NonZeroU32;

use fastauth_core::settings::{RateLimit, RefreshTransport, ResponseShape};

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    given::Given,
    key::{Choice, Feature, Group, Key, NumberLimits},
};

pub(crate) static GROUP: Group = Group {
    title: "Token endpoints",
    keys: &[&ALLOW_GET, &RESPONSE_SHAPE, &REFRESH_TRANSPORT, &RATE_LIMIT_PER_MINUTE, &RATE_LIMIT_BURST],
};

static ALLOW_GET: Key = Key::flag("allow-get", true, |draft, on| draft.endpoints.allow_get = on).doc(
    "Lets `GET` issue and refresh beside `POST`, as `fastauth-api` does. Parameters of a `GET` stand in the URL, and so in logs.",
);

static RESPONSE_SHAPE: Key = Key::choice(
    "response-shape",
    &[
        Choice::new(ResponseShape::Envelope.as_str(), |draft| draft.endpoints.response_shape = ResponseShape::Envelope),
        Choice::new(ResponseShape::OAuth.as_str(), |draft| draft.endpoints.response_shape = ResponseShape::OAuth),
    ],
)
.doc(
    "With `oauth`, issuing and refreshing answer as RFC 6749 specifies, errors too, except for those of the master token; with \
     `envelope`, as `fastauth-api` does.",
);

static REFRESH_TRANSPORT: Key = Key::choice(
    "refresh-transport",
    &[
        Choice::new(RefreshTransport::Body.as_str(), |draft| {
            draft.endpoints.refresh_transport = RefreshTransport::Body;
        }),
        Choice::new(RefreshTransport::Cookie.as_str(), |draft| {
            draft.endpoints.refresh_transport = RefreshTransport::Cookie;
        }),
    ],
)
.doc("With `cookie`, refresh tokens travel in a cookie that scripts cannot read.");

static RATE_LIMIT: Feature =
    Feature { name: "rate-limit", is_built: cfg!(feature = "rate-limit"), problem: "this build has no rate limits" };

static RATE_LIMIT_PER_MINUTE: Key =
    Key::number("rate-limit-per-minute", rates(None), |draft, rate| draft.rate.per_minute = positive(rate))
        .feature(&RATE_LIMIT)
        .doc("How often a client is issued tokens, a minute.");

static RATE_LIMIT_BURST: Key =
    Key::number("rate-limit-burst", rates(Some(10)), |draft, rate| draft.rate.burst = positive(rate))
        .doc("How often a client is issued tokens at once. It needs `rate-limit-per-minute`.");

/// More than a million is no limit.
const fn rates(default: Option<u64>) -> NumberLimits {
    NumberLimits { default, min: 1, max: 1_000_000 }
}

fn positive(rate: u64) -> Option<NonZeroU32> {
    u32::try_from(rate).ok().and_then(NonZeroU32::new)
}

/// Brings the rate and the burst together.
pub(crate) fn complete(draft: &mut Draft<'_>) {
    if draft.is_set(&RATE_LIMIT_BURST) && !draft.is_set(&RATE_LIMIT_PER_MINUTE) {
        let problem = "there is no `rate-limit-per-minute`, so nothing is limited";
        draft.fault(&RATE_LIMIT_BURST, problem, "set `rate-limit-per-minute` too, or leave this out");
    }
    if let (Some(per_minute), Some(burst)) = (draft.rate.per_minute, draft.rate.burst) {
        let caller = draft.parts.rate_limit_key.clone();
        draft.endpoints.rate_limit = Some(RateLimit { per_minute, burst, caller });
    }
}

impl SettingsBuilder {
    /// Lets `GET` issue and refresh beside `POST` (`allow-get`), as `fastauth-api` does. The default is on. Parameters of a `GET`
    /// stand in the URL, and so in logs.
    #[must_use]
    pub fn allow_get(self, on: bool) -> Self {
        self.set(&ALLOW_GET, Given::Flag(on))
    }

    /// Sets the form of answers (`response-shape`): the envelope of `fastauth-api`, which is the default, or the form of RFC 6749.
    #[must_use]
    pub fn response_shape(self, shape: ResponseShape) -> Self {
        self.choose(&RESPONSE_SHAPE, shape.as_str())
    }

    /// Sets how refresh tokens travel (`refresh-transport`): in bodies, which is the default, or in a cookie that scripts cannot
    /// read.
    #[must_use]
    pub fn refresh_transport(self, transport: RefreshTransport) -> Self {
        self.choose(&REFRESH_TRANSPORT, transport.as_str())
    }

    /// Limits how often a client is issued tokens: so many times a minute (`rate-limit-per-minute`). The default is no limit.
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_per_minute(self, count: u32) -> Self {
        self.set(&RATE_LIMIT_PER_MINUTE, Given::Number(count.into()))
    }

    /// Sets how often a client is issued tokens at once (`rate-limit-burst`). The default is 10. It needs
    /// [`rate_limit_per_minute`](Self::rate_limit_per_minute).
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_burst(self, count: u32) -> Self {
        self.set(&RATE_LIMIT_BURST, Given::Number(count.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("allow-get", json!("no"), "`allow-get`: found a text; write true or false"),
            ("response-shape", json!("xml"), "\"xml\" is not one of its values; write \"envelope\" or \"oauth\""),
            ("refresh-transport", json!("header"), "write \"body\" or \"cookie\""),
            ("rate-limit-per-minute", json!("60"), "found a text; write a whole number, such as 60"),
            ("rate-limit-per-minute", json!(0.5), "0.5 is not a whole number"),
            ("rate-limit-per-minute", json!(-1), "-1 is not a whole number"),
            ("rate-limit-burst", json!(5), "there is no `rate-limit-per-minute`"),
        ]);
    }
}
